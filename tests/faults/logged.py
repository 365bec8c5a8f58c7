"""What all tasks of the fault matrix share: their queue, and the log of their attempts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from leveret import WorkQueue, current_attempt
from tests.faults.records import FINISHED, RAISED, STARTED, append

EXECUTIONS = "FAULTS_EXECUTIONS"
"""The environment variable that names the log of executions."""

faults = WorkQueue("faults", topics=("faults.#",), retry_delays=(0.3, 0.6, 1.2), fanout=True)


@contextlib.contextmanager
def logged(synced: bool = True) -> Iterator[int]:
    """Log that this attempt begins, and that it finishes or raises; yields its number."""
    attempt = current_attempt()
    path = Path(os.environ[EXECUTIONS])
    ended = RAISED
    append(path, attempt.id, attempt.number, os.getpid(), STARTED, synced=synced)
    try:
        yield attempt.number
        ended = FINISHED
    finally:
        append(path, attempt.id, attempt.number, os.getpid(), ended, synced=synced)
