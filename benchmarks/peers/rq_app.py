"""RQ on Redis, without results. The worker takes tasks without forking for each: the fastest RQ has."""

import os
from itertools import islice

from redis import Redis
from rq import Queue

from benchmarks.work import Calls

GROUP = 500
queue = Queue("bench", connection=Redis.from_url(os.environ["REDIS_URL"]))


def start() -> None:
    """Nothing to declare."""


def one_by_one(calls: Calls) -> None:
    """Send each; Redis answers each."""
    for task, kwargs in calls:
        queue.enqueue(f"benchmarks.work.{task}", kwargs=kwargs, result_ttl=0)


def many(calls: Calls) -> None:
    """Send in groups."""
    calls = iter(calls)
    while group := [
        Queue.prepare_data(f"benchmarks.work.{task}", kwargs=kwargs, result_ttl=0)
        for task, kwargs in islice(calls, GROUP)
    ]:
        queue.enqueue_many(group)
