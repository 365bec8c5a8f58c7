"""Saving: all of it or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from leveret.consumers.samples.save import save


def test_a_text_is_saved_where_it_belongs(tmp_path: Path) -> None:
    """Folders are made, the text is UTF-8, and nothing else is left."""
    target = tmp_path / "deep" / "er" / "out.json"
    save(target, "é\n")

    assert target.read_bytes() == "é\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_saving_again_replaces(tmp_path: Path) -> None:
    """A second run leaves the second text only."""
    target = tmp_path / "out.json"
    save(target, "a long first text")
    save(target, "second")

    assert target.read_text(encoding="utf-8") == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_a_text_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """When writing fails half way, the former file stays and no partial one does."""
    target = tmp_path / "out.json"
    save(target, "former")

    with pytest.raises(UnicodeEncodeError):
        save(target, "x" * 100_000 + "\ud800")
    assert target.read_text(encoding="utf-8") == "former"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("step", ["fsync", "fdopen", "replace"])
def test_a_disk_that_fails_leaves_nothing(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step the disk fails, no file is left, not even a part."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)

    with pytest.raises(OSError, match="No space left"):
        save(tmp_path / "out.json", "text")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
