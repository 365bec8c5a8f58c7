"""Saving what a task produced: all of it or nothing, and the same again when the task runs again."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def save(root: Path, name: str | Path, text: str) -> None:
    """Write a file below the folder `root`, beside the target, and rename it, so that nobody ever reads half of it.

    Folders are made as needed, and the umask decides who may read them. Raises `OSError`, also where a folder below
    `root` is a link, and `ValueError` for a name that leads out of `root`.
    """
    *parents, last = _parts(name)
    root.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for parent in parents:
            folder = _enter(folder, parent)
        _replace(folder, last, text)
    finally:
        os.close(folder)


def _parts(name: str | Path) -> tuple[str, ...]:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise ValueError(f"{str(name)!r} is no name of a file below a folder")
    return parts


def _enter(folder: int, name: str) -> int:
    """Return the folder of this name in place of the one it lies in."""
    with contextlib.suppress(FileExistsError):  # it may be a link, which is not opened
        os.mkdir(name, dir_fd=folder)
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    os.close(folder)
    return inner


def _replace(folder: int, name: str, text: str) -> None:
    temporary = f".{secrets.token_hex(8)}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)  # a link of this name, not where it leads
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise
