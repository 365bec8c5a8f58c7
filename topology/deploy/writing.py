"""Writing the files of a deployment into a folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from leveret.topology.errors import SettingsError


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
            _replace(folder / name, text)
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".leveret-", delete=False) as made:
        try:
            made.write(text)
            made.flush()
            mask = os.umask(0)
            os.umask(mask)
            Path(made.name).chmod(0o666 & ~mask)  # as any file that is made; there is no secret in it
            Path(made.name).replace(path)
        except BaseException:
            Path(made.name).unlink()
            raise


def _text_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"cannot read {path}, to see whether it would change: {error.strerror}") from error
