"""Writing a file as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file in place of a former one, and have it on the disk. Raises `OSError`; the former is there then."""
    beside = path.with_name(f".leveret-{secrets.token_hex(8)}")
    try:
        with beside.open("x", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
