"""Huey on Redis. A task leaves Redis when a worker takes it, before it runs.

Results, if BENCH_RESULTS is set, are asked for each millisecond.
"""

import os
from typing import Any

from huey import RedisHuey

from benchmarks.work import FUNCTIONS, Calls

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=bool(os.environ.get("BENCH_RESULTS")))
WAITING: dict[str, Any] = {"blocking": True, "max_delay": 0.001, "timeout": 120}
TASKS = {name: huey.task(name=f"bench_{name}")(function) for name, function in FUNCTIONS.items()}


def start() -> None:
    """Nothing to declare."""


def one_by_one(calls: Calls) -> None:
    """Send each; Redis answers each."""
    for task, kwargs in calls:
        TASKS[task](**kwargs)


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Send and wait."""
    return TASKS[task](**kwargs).get(**WAITING)


def gather(calls: Calls) -> list[Any]:
    """Send each, then wait for each."""
    return [sent.get(**WAITING) for sent in [TASKS[task](**kwargs) for task, kwargs in calls]]
