"""A treasure hunt: many files, one of which holds the treasure, and a task for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from leveret.producers.examples import samples
from leveret.topology.message import TaskMessage

TASK = "treasure.search"
_SAND = "sand " * 50 + "\n"


def hide(folder: Path, files: int) -> str:
    """Make the files, hide the treasure in one of them, and return that one's name. Raises `OSError`."""
    folder.mkdir(parents=True)
    chosen = random.randrange(files)  # noqa: S311 - a game
    for number in range(files):
        text = _SAND + (f"{samples.TREASURE}\n" if number == chosen else "") + _SAND
        (folder / _name(number)).write_text(text, encoding="utf-8")
    return _name(chosen)


def searches(hunt: str, files: int, found: Path) -> Iterator[TaskMessage]:
    """Yield a task for each file; stop early once the treasure is found, for the rest need not be searched."""
    for number in range(files):
        if number % 100 == 0 and found.exists():
            return
        yield TaskMessage.create(TASK, kwargs={"hunt": hunt, "file": _name(number)})


def _name(number: int) -> str:
    return f"{number:06d}.txt"
