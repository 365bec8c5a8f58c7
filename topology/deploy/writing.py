"""Writing the files of a deployment into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from leveret.topology.errors import SettingsError
from leveret.topology.whole_file import write_whole


def differing(files: Mapping[str, str], folder: Path) -> list[str]:
    """Return the names of those that are there with another text. Raises `SettingsError` where one cannot be read."""
    return [name for name, text in files.items() if _text_of(folder / name) not in (None, text.encode())]


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write each file whole, in place of what is there; the folder is made.

    Raises `SettingsError` where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error


def _text_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"cannot read {path}, to see whether it would change: {error.strerror}") from error
