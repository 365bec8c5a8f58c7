"""Tasks that are limited across all workers, each of which writes down when it ran."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from leveret import Limit, Rate, WorkQueue, current_attempt, task

AT_ONCE = int(os.environ.get("LIMITED_AT_ONCE", "3"))
few = WorkQueue("few", topics=("few.#",), retry_delays=(0.3,), at_once=AT_ONCE)
paced = WorkQueue("paced", topics=("paced.#",), retry_delays=(0.3,), rate=Rate(20, per_seconds=1))
both = WorkQueue("both", topics=("both.#",), retry_delays=(0.3,), at_once=2, rate=Rate(10, per_seconds=1))
keyed = WorkQueue("keyed", topics=("keyed.#",), retry_delays=(0.3,))
graded = WorkQueue("graded", topics=("graded.#",), retry_delays=(0.3,), at_once=2, priorities=True)


def note(path: str, began: float, about: str = "") -> None:
    """Append from when to when this attempt ran."""
    line = json.dumps([current_attempt().id, began, time.time(), about, os.getpid()])
    with Path(path).open("a") as file:
        file.write(line + "\n")


@task("few.run", queue=few, time_limit=8)
def run(path: str, seconds: float = 0.1) -> None:
    """Run for so long."""
    began = time.time()
    time.sleep(seconds)
    note(path, began)


@task("few.fail", queue=few, time_limit=8)
def fail() -> None:
    """Fail."""
    raise ValueError("no")


@task("few.die", queue=few, time_limit=8)
def die() -> None:
    """End the process."""
    os._exit(3)


@task("paced.run", queue=paced, time_limit=8)
def run_paced(path: str) -> None:
    """Run for a moment."""
    note(path, time.time())


@task("both.run", queue=both, time_limit=8)
async def run_both(path: str, seconds: float = 0.05) -> None:
    """Run for so long, beside others."""
    began = time.time()
    await asyncio.sleep(seconds)
    note(path, began)


@task("keyed.run", queue=keyed, time_limit=8, limit=Limit(at_once=2, key="{customer}"))
async def run_keyed(path: str, customer: str, seconds: float = 0.1) -> None:
    """Run for so long, beside those of other customers."""
    began = time.time()
    await asyncio.sleep(seconds)
    note(path, began, str(customer))


@task(
    "keyed.paced", queue=keyed, time_limit=8, limit=Limit(rate=Rate(5, per_seconds=1), key="{customer}"), threads=True
)
def run_keyed_paced(path: str, customer: str) -> None:
    """Run for a moment."""
    note(path, time.time(), customer)


@task("keyed.free", queue=keyed, time_limit=8)
def run_free(path: str) -> None:
    """Run without a limit, in a queue of which others have one."""
    note(path, time.time())


@task("graded.run", queue=graded, time_limit=8)
def run_graded(path: str, seconds: float = 0.1) -> None:
    """Run for so long, in a queue with priorities."""
    began = time.time()
    time.sleep(seconds)
    note(path, began)
