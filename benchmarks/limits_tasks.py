"""The tasks of `benchmarks.limits`: of queues with and without limits."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from leveret import Rate, WorkQueue, task

RUNS = "LIMITS_RUNS"
"""The environment variable that names the file in which tasks write when they ran."""
RUN = struct.Struct("=dd")
"""When a task began and when it ended, by the clock that all processes share."""
AT_ONCE, PER_SECOND, FAR = 10, 20, 1000
free = WorkQueue("limits-free", retry_delays=())
far = WorkQueue("limits-far", retry_delays=(), at_once=FAR)
few = WorkQueue("limits-few", retry_delays=(), at_once=AT_ONCE)
paced = WorkQueue("limits-paced", retry_delays=(), rate=Rate(PER_SECOND, per_seconds=1))


def _note(began: float) -> None:
    with Path(os.environ[RUNS]).open("ab", buffering=0) as file:
        file.write(RUN.pack(began, time.monotonic()))


@task("limits-free.noop", queue=free)
def free_noop() -> None:
    """Do nothing."""


@task("limits-far.noop", queue=far)
def far_noop() -> None:
    """Do nothing, within a limit that is never reached."""


@task("limits-few.run", queue=few, time_limit=60)
def few_run(seconds: float) -> None:
    """Take so long."""
    began = time.monotonic()
    time.sleep(seconds)
    _note(began)


@task("limits-paced.run", queue=paced, time_limit=60)
def paced_run() -> None:
    """Take a moment."""
    _note(time.monotonic())
