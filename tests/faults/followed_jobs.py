"""Tasks of the fault matrix whose results somebody waits for."""

from __future__ import annotations

import time
from pathlib import Path

from leveret import task
from tests.faults.logged import faults, logged


@task("faults.double", queue=faults)
def double(number: int, seconds: float) -> int:
    """Take so long, and return twice the number."""
    with logged(synced=False):
        time.sleep(seconds)
        return 2 * number


@task("faults.double_when", queue=faults)
def double_when(number: int, exists: str) -> int:
    """Wait for a file, and return twice the number."""
    with logged(synced=False):
        while not Path(exists).exists():
            time.sleep(0.02)
        return 2 * number
