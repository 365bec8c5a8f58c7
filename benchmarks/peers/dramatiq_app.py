"""Dramatiq with its default middleware; its queues are quorum queues by the default of the virtual host.

Results are kept in Redis if BENCH_RESULTS is set.
"""

import os
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results

from benchmarks.work import DELAY_SECONDS, FUNCTIONS, Calls

broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=os.environ.get("BENCH_CONFIRM") != "0")
if os.environ.get("BENCH_RESULTS"):
    from dramatiq.results.backends import RedisBackend

    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"]), store_results=True))
dramatiq.set_broker(broker)
TIMEOUT_MILLISECONDS = 120_000
TASKS = {
    name: dramatiq.actor(function, actor_name=f"bench_{name}", queue_name="bench")
    for name, function in FUNCTIONS.items()
}


def start() -> None:
    """Declare the queue."""
    broker.declare_queue("bench", ensure=True)


def one_by_one(calls: Calls) -> None:
    """Send each; it waits for its confirm if confirms are on."""
    for task, kwargs in calls:
        TASKS[task].send(**kwargs)


def delayed(calls: Calls) -> None:
    """Send each with a delay; the worker keeps it."""
    for task, kwargs in calls:
        TASKS[task].send_with_options(kwargs=kwargs, delay=DELAY_SECONDS * 1000)


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Send and wait."""
    return TASKS[task].send(**kwargs).get_result(block=True, timeout=TIMEOUT_MILLISECONDS)


def gather(calls: Calls) -> list[Any]:
    """Send as a group, and wait for it."""
    group = dramatiq.group([TASKS[task].message(**kwargs) for task, kwargs in calls])
    return list(group.run().get_results(block=True, timeout=TIMEOUT_MILLISECONDS))
