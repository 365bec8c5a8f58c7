"""The tasks of `benchmarks.cancelling`: one that ends when it is cancelled, one that does not, and what follows."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from leveret import WorkQueue, current_attempt, task

BEGAN = "CANCELLING_BEGAN"
"""The environment variable that names the folder in which each task writes when it began."""
QUEUE = WorkQueue("cancelling", retry_delays=())


def _note() -> None:
    file = Path(os.environ[BEGAN]) / current_attempt().id
    file.write_text(str(time.monotonic()))


@task("cancelling.ends", queue=QUEUE, time_limit=60)
def ends() -> None:
    """Wait."""
    _note()
    time.sleep(60)


@task("cancelling.goes_on", queue=QUEUE, time_limit=60)
def goes_on() -> None:
    """Wait, whatever is raised."""
    _note()
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)


@task("cancelling.follows", queue=QUEUE)
def follows() -> None:
    """Say that the process is free."""
    _note()
