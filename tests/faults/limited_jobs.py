"""Tasks of the fault matrix that are limited across all workers."""

from __future__ import annotations

import time

from leveret import Limit, Rate, task
from tests.faults.logged import faults, logged

AT_ONCE, PER_SECOND = 3, 20


@task("faults.few", queue=faults, time_limit=30, limit=Limit(at_once=AT_ONCE, name="faults-few"))
def few(seconds: float) -> None:
    """Take so long, three at the same time."""
    with logged():
        time.sleep(seconds)


@task("faults.paced", queue=faults, time_limit=30, limit=Limit(rate=Rate(PER_SECOND), name="faults-paced"))
def paced() -> None:
    """Take a moment, twenty times a second."""
    with logged():
        pass
