"""Tasks of benchmarks/priorities.py: a queue with priorities, and one without."""

from __future__ import annotations

import os
import time
from pathlib import Path

from leveret import WorkQueue, task

BEGAN = "BENCHMARK_BEGAN"
"""The environment variable that names the file in which urgent tasks write when they began."""

ranked = WorkQueue("ranked", priorities=True)
plain = WorkQueue("plain")


@task("ranked.nothing", queue=ranked)
def ranked_nothing() -> None:
    """Do nothing."""


@task("plain.nothing", queue=plain)
def plain_nothing() -> None:
    """Do nothing."""


@task("ranked.takes", queue=ranked)
def takes(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)


@task("ranked.urgent", queue=ranked)
def urgent() -> None:
    """Tell when it began, in nanoseconds of the epoch."""
    began = time.time_ns()
    with Path(os.environ[BEGAN]).open("a") as file:
        file.write(f"{began}\n")
