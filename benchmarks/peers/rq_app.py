"""RQ on Redis. The worker takes tasks without forking for each: the fastest RQ has.

Results are kept where they are waited for.
"""

import os
from datetime import timedelta
from itertools import islice
from typing import Any

from redis import Redis
from rq import Queue

from benchmarks.work import DELAY_SECONDS, Calls

GROUP = 500
TIMEOUT_SECONDS = 120
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


def delayed(calls: Calls) -> None:
    """Send each for later; Redis keeps it, and the worker's scheduler looks for what is due."""
    for task, kwargs in calls:
        later = timedelta(seconds=DELAY_SECONDS)
        queue.enqueue_in(later, f"benchmarks.work.{task}", kwargs=kwargs, result_ttl=0)


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Send and wait."""
    return _wait(queue.enqueue(f"benchmarks.work.{task}", kwargs=kwargs))


def gather(calls: Calls) -> list[Any]:
    """Send in groups, then wait for each."""
    calls, jobs = iter(calls), []
    while group := [
        Queue.prepare_data(f"benchmarks.work.{task}", kwargs=kwargs) for task, kwargs in islice(calls, GROUP)
    ]:
        jobs += queue.enqueue_many(group)
    return [_wait(job) for job in jobs]


def _wait(job: Any) -> Any:
    return job.latest_result(timeout=TIMEOUT_SECONDS).return_value
