"""Saving: all of it or nothing."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn

import pytest

from leveret.consumers.samples.save import save


def test_a_text_is_saved_where_it_belongs(tmp_path: Path) -> None:
    """Folders are made, the text is UTF-8, and nothing else is left."""
    target = tmp_path / "deep" / "er" / "out.json"
    save(tmp_path / "deep", "er/out.json", "é\n")

    assert target.read_bytes() == "é\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_saving_again_replaces(tmp_path: Path) -> None:
    """A second run leaves the second text only."""
    target = tmp_path / "out.json"
    save(tmp_path, target.name, "a long first text")
    save(tmp_path, target.name, "second")

    assert target.read_text(encoding="utf-8") == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_a_text_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """When writing fails half way, the former file stays and no partial one does."""
    target = tmp_path / "out.json"
    save(tmp_path, target.name, "former")

    with pytest.raises(UnicodeEncodeError):
        save(tmp_path, target.name, "x" * 100_000 + "\ud800")
    assert target.read_text(encoding="utf-8") == "former"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["fsync", "fdopen", "replace"])
def test_a_disk_that_fails_leaves_nothing(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step the disk fails, no file is left, not even a part."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)

    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, "out.json", "text")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_the_umask_decides_who_may_read_it(mask: int, tmp_path: Path) -> None:
    """Neither the file nor its folder is open to more than what the user makes elsewhere."""
    former = os.umask(mask)
    try:
        save(tmp_path, "new/out.json", "text")
    finally:
        os.umask(former)

    assert stat.S_IMODE((tmp_path / "new" / "out.json").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("name", ["link/out.json", "folder/link/out.json", "link/new/out.json"])
def test_a_folder_that_is_a_link_is_not_entered(name: str, tmp_path: Path) -> None:
    """Whoever could put a link below the folder does not choose where else a file is written."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "folder").mkdir(parents=True)
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    (root / "folder" / "link").symlink_to(elsewhere)

    with pytest.raises(OSError, match="link"):
        save(root, name, "text")
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    """What it leads to stays as it is."""
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "out.json").symlink_to(tmp_path / "precious")
    save(tmp_path, "out.json", "text")

    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
    assert not (tmp_path / "out.json").is_symlink()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    """Who sets OUTPUT_DIR says where it is."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").symlink_to(tmp_path / "disk")
    save(tmp_path / "output", "out.json", "text")

    assert (tmp_path / "disk" / "out.json").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize("name", ["", ".", "..", "../out.json", "a/../../out.json", "/out.json"])
def test_a_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing is written for it."""
    with pytest.raises(ValueError, match="is no name of a file below a folder"):
        save(tmp_path / "root", name, "text")
    assert list(tmp_path.iterdir()) == []
