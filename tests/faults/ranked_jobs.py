"""Tasks of a queue with priorities, for the fault matrix."""

from __future__ import annotations

import time

from leveret import WorkQueue, task
from tests.faults.logged import logged

ranked = WorkQueue("faults-ranked", topics=("ranked.#",), retry_delays=(0.3, 0.6), priorities=True)


@task("ranked.work", queue=ranked)
def work(seconds: float, fails: int = 0) -> None:
    """Take so long; raise in the first so many attempts."""
    with logged() as number:
        time.sleep(seconds)
        if number <= fails:
            raise ValueError(f"attempt {number} of {fails} that fail")
