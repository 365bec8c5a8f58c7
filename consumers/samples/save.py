"""Saving what a task produced: all of it or nothing, and the same again when the task runs again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def save(path: Path, text: str) -> None:
    """Write beside the target and rename, so that nobody ever reads half a file. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
