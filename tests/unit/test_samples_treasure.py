"""The treasure hunt: the file with the treasure is found, others are not, and searching stops once it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumers.errors import Reject
from consumers.samples.treasure import search
from producers.treasure import main
from topology.samples import FOUND_FILE, TREASURE, hunt_folder

HUNT = "0a4bd1b2-8b3c"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hunt with sand in one file and the treasure in another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path))
    folder = tmp_path / "treasure" / HUNT
    folder.mkdir(parents=True)
    (folder / "sand.txt").write_text("sand sand\n", encoding="utf-8")
    (folder / "gold.txt").write_text(f"sand\n{TREASURE}\nsand\n", encoding="utf-8")
    return folder


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
    with pytest.raises(SystemExit, match="2"):
        main([f"--timeout={seconds}"])

    assert f"argument --timeout: {seconds!r} is no number of seconds" in capsys.readouterr().err
