"""The treasure hunt: the file with the treasure is found, others are not, and searching stops once it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leveret.consumers.samples.treasure import search
from leveret.consumers.tasks.errors import Reject
from leveret.producers.examples.samples import FOUND_FILE, TREASURE, hunt_folder
from leveret.producers.examples.treasure import hide, searches
from leveret.topology import settings
from tests.unit.commands import leveret

HUNT = "0a4bd1b2-8b3c"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a hunt with sand in one file and the treasure in another; settings are read anew for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    settings.current.cache_clear()
    folder = tmp_path / "treasure" / HUNT
    folder.mkdir(parents=True)
    (folder / "sand.txt").write_text("sand sand\n", encoding="utf-8")
    (folder / "gold.txt").write_text(f"sand\n{TREASURE}\nsand\n", encoding="utf-8")
    yield folder
    settings.current.cache_clear()


def test_the_treasure_is_found(folder: Path) -> None:
    """The file that holds it is named in the hunt's folder."""
    search(HUNT, "gold.txt")

    assert json.loads((folder / FOUND_FILE).read_text(encoding="utf-8")) == {"file": "gold.txt"}


def test_sand_is_not_treasure(folder: Path) -> None:
    """Searching another file writes nothing."""
    search(HUNT, "sand.txt")

    assert sorted(path.name for path in folder.iterdir()) == ["gold.txt", "sand.txt"]


def test_what_is_found_is_not_searched_for(folder: Path) -> None:
    """Once it is found a task ends at once, without even opening its file."""
    search(HUNT, "gold.txt")
    search(HUNT, "not-there.txt")

    assert json.loads((folder / FOUND_FILE).read_text(encoding="utf-8")) == {"file": "gold.txt"}


def test_a_missing_file_is_worth_a_retry() -> None:
    """A file that is not there fails the attempt."""
    with pytest.raises(FileNotFoundError, match=r"not-there\.txt"):
        search(HUNT, "not-there.txt")


@pytest.mark.parametrize(
    "file", ["../gold.txt", "/etc/passwd", "sub/gold.txt", "./gold.txt", ".", "..", "", "a\0b", None, 5, ["gold.txt"]]
)
def test_a_file_elsewhere_is_rejected(file: Any) -> None:
    """Only files of the hunt's own folder are searched."""
    with pytest.raises(Reject, match="is no file of hunt"):
        search(HUNT, file)


def test_a_link_out_of_the_hunt_is_rejected(folder: Path, tmp_path: Path) -> None:
    """A link in the folder does not make another file searchable."""
    (tmp_path / "elsewhere.txt").write_text(TREASURE, encoding="utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "elsewhere.txt")

    with pytest.raises(Reject, match="is no file of hunt"):
        search(HUNT, "link.txt")
    assert not (folder / FOUND_FILE).exists()


@pytest.mark.parametrize("linked", ["treasure", f"treasure/{HUNT}"])
def test_a_hunt_that_is_a_link_is_rejected(linked: str, folder: Path, tmp_path: Path) -> None:
    """Nothing is read or written where it leads."""
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / linked).rename(elsewhere)
    (tmp_path / linked).symlink_to(elsewhere)

    with pytest.raises(Reject, match="leads elsewhere by a link"):
        search(HUNT, "gold.txt")
    assert list(elsewhere.rglob(FOUND_FILE)) == []


@pytest.mark.parametrize("hunt", ["", "..", "../x", "a/b", "a.b", "é", "x" * 65, "a\n", None, 5])
def test_a_hunt_that_could_lead_elsewhere_is_rejected(hunt: Any, tmp_path: Path) -> None:
    """The name of a hunt is letters, digits and dashes; producer and task refuse the same ones."""
    with pytest.raises(Reject, match="is no name of a treasure hunt"):
        search(hunt, "gold.txt")
    with pytest.raises(ValueError, match="is no name of a treasure hunt"):
        hunt_folder(tmp_path, hunt)


def test_a_hunt_has_its_folder_below_the_output() -> None:
    """Both sides derive the same folder from the name."""

    assert hunt_folder(Path("output"), HUNT) == Path("output/treasure") / HUNT


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "-inf", "", "soon"])
def test_a_hunt_that_would_never_end_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The time to wait is a number of seconds that pass."""
    assert leveret("treasure", f"--timeout={seconds}") == 2
    said = capsys.readouterr().err

    assert said.startswith("leveret treasure: invalid value for '--timeout': ")
    assert f"{seconds!r} is no number of seconds" in said


@pytest.mark.parametrize("files", ["0", "-1", "1000001", "many"])
def test_a_number_of_files_that_cannot_be_is_refused(files: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A hunt has a file at least."""
    assert leveret("treasure", f"--files={files}") == 2
    assert capsys.readouterr().err.startswith("leveret treasure: invalid value for '--files': ")


def test_the_treasure_is_hidden_in_one_file(tmp_path: Path) -> None:
    """There are as many files as asked for, and the one that holds it is the one that is told."""
    place = tmp_path / "new" / "hunt"
    hidden = hide(place, 5)

    assert sorted(path.name for path in place.iterdir()) == [f"{number:06d}.txt" for number in range(5)]
    assert [path.name for path in place.iterdir() if TREASURE in path.read_text(encoding="utf-8")] == [hidden]


def test_every_file_is_searched_until_it_is_found(folder: Path) -> None:
    """There is a task a file, as the searching task takes it; once it is found the rest need no search."""
    messages = [json.loads(message.body) for message in searches(HUNT, 150, folder / FOUND_FILE)]

    assert {message["task"] for message in messages} == {search.name}
    assert [message["kwargs"] for message in messages] == [
        {"hunt": HUNT, "file": f"{number:06d}.txt"} for number in range(150)
    ]
    going = searches(HUNT, 1000, folder / FOUND_FILE)
    next(going)
    search(HUNT, "gold.txt")
    assert len(list(going)) < 100
