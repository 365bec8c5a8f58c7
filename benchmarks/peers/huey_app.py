"""Huey on Redis, without results. A task leaves Redis when a worker takes it, before it runs."""

import os

from huey import RedisHuey

from benchmarks.work import FUNCTIONS, Calls

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)
TASKS = {name: huey.task(name=f"bench_{name}")(function) for name, function in FUNCTIONS.items()}


def start() -> None:
    """Nothing to declare."""


def one_by_one(calls: Calls) -> None:
    """Send each; Redis answers each."""
    for task, kwargs in calls:
        TASKS[task](**kwargs)
