"""The two logs everything is judged by: what was submitted, and what was executed.

Both are files that are only appended to, a line in one write, before the writer goes on: a process that is killed at
any moment leaves them whole. Times are of the system's monotonic clock, the same for all its processes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

STARTED, FINISHED, RAISED = "started", "finished", "raised"
CONFIRMED, UNKNOWN = "confirmed", "unknown"


class Execution(NamedTuple):
    """An attempt of a task began, finished, or raised."""

    id: str
    attempt: int
    pid: int
    what: str
    seconds: float


class Submission(NamedTuple):
    """How a submit ended: it returned, which means confirmed, or it raised, which leaves the outcome unknown."""

    id: str
    what: str
    seconds: float
    error: str


def append(path: Path, *fields: object, synced: bool = True) -> None:
    """Write one line with these fields, none of which but the last holds a space, with the time before the first.

    Not `synced`, a line outlives its process, but not its machine; a loop that turns for hundreds has no time for more.
    """
    line = " ".join(map(str, (time.monotonic(), *fields))).replace("\n", " ") + "\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.encode())
        if synced:
            os.fsync(file)
    finally:
        os.close(file)


def executions(path: Path) -> list[Execution]:
    """Read the log of executions."""
    return [
        Execution(task_id, int(attempt), int(pid), what, float(seconds))
        for seconds, task_id, attempt, pid, what in (line.split(" ") for line in _lines(path))
    ]


def submissions(path: Path) -> list[Submission]:
    """Read the log of submissions."""
    return [
        Submission(task_id, what, float(seconds), error)
        for seconds, task_id, what, error in (line.split(" ", 3) for line in _lines(path))
    ]


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
