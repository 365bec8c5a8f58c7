"""A task of the fault matrix that takes many calls at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

from leveret import Batch, current_attempts, task
from tests.faults.logged import EXECUTIONS, faults
from tests.faults.records import FINISHED, STARTED, append

SIZE = 25


@task("faults.load", queue=faults, batch=Batch(SIZE, within_seconds=0.3))
def load(calls: list[float]) -> None:
    """Take as long as the longest of its calls says."""
    path, attempts = Path(os.environ[EXECUTIONS]), current_attempts()
    for one in attempts:
        append(path, one.id, one.number, os.getpid(), STARTED, synced=False)
    time.sleep(max(calls))
    for one in attempts:
        append(path, one.id, one.number, os.getpid(), FINISHED, synced=False)
