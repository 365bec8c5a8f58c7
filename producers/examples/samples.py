"""What the sample producers and the sample tasks agree on: their work queues, and where a hunt keeps its files."""

from __future__ import annotations

import re
from pathlib import Path

from leveret.topology.errors import SettingsError
from leveret.topology.queues import WorkQueue

words = WorkQueue("words", topics=("words.#",), retry_delays=(1, 5, 25), fanout=True)
treasure = WorkQueue("treasure", topics=("treasure.#",), retry_delays=(1, 5, 25))

SAMPLE_TASK = "words.count"
TREASURE = "X marks the spot"
FOUND_FILE = "found.json"
_HUNT = re.compile(r"[A-Za-z0-9-]{1,64}")


def hunt_folder(output_dir: Path, hunt: str) -> Path:
    """Return the folder of a treasure hunt. Raises `ValueError` for a name that could lead elsewhere."""
    if not isinstance(hunt, str) or not _HUNT.fullmatch(hunt):
        raise ValueError(f"{hunt!r} is no name of a treasure hunt; start one with leveret treasure")
    return output_dir / "treasure" / hunt


def sample_texts(data_dir: Path) -> list[str]:
    """Return the names of the texts the sample job counts. Raises `SettingsError` when it finds none."""
    try:
        texts = sorted(path.name for path in data_dir.glob("*.txt")) if data_dir.is_dir() else []
    except OSError as error:
        raise SettingsError(f"DATA_DIR {data_dir} cannot be read: {error.strerror}; name another folder") from error
    if not texts:
        raise SettingsError(
            f"there are no texts (*.txt) in {data_dir}; put some there, fetch books with leveret fetch, or set DATA_DIR"
        )
    return texts
