"""Taskiq with taskiq-aio-pika: a quorum queue is its default, so are confirms; the ack follows the task.

Results, if BENCH_RESULTS is set, are kept in Redis and asked for each millisecond.
"""

import functools
import os
from collections.abc import Awaitable, Callable
from typing import Any

from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue

from benchmarks.peers.asynchronous import Sender
from benchmarks.work import COROUTINES, DELAY_SECONDS, FUNCTIONS, Calls

broker = AioPikaBroker(os.environ["AMQP_URL"], qos=int(os.environ.get("BENCH_PREFETCH", "300"))).with_queue(
    Queue(name="bench")
)


if os.environ.get("BENCH_RESULTS"):
    from taskiq_redis import RedisAsyncResultBackend

    broker = broker.with_result_backend(RedisAsyncResultBackend(os.environ["REDIS_URL"]))


def _coroutine(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Run the function on the event loop itself, which is faster than Taskiq's thread pool for plain functions."""

    @functools.wraps(function)
    async def run(**kwargs: Any) -> Any:
        return function(**kwargs)

    return run


TASKS = {
    name: broker.task(task_name=f"bench.{name}")(COROUTINES.get(name) or _coroutine(function))
    for name, function in FUNCTIONS.items()
}


async def _send(task: str, kwargs: dict[str, Any]) -> Any:
    return await TASKS[task].kiq(**kwargs)


async def _wait(sent: Any) -> Any:
    return (await sent.wait_result(check_interval=0.001, timeout=120)).return_value


async def _send_later(task: str, kwargs: dict[str, Any]) -> Any:
    return await TASKS[task].kicker().with_labels(delay=DELAY_SECONDS).kiq(**kwargs)


_sender = Sender(_send, _wait)
_later = Sender(_send_later, loop=_sender.loop)
one_by_one, many, result, gather = _sender.one_by_one, _sender.many, _sender.result, _sender.gather


def delayed(calls: Calls) -> None:
    """Send each with a delay; the broker keeps it, in a queue whose messages expire."""
    _later.one_by_one(calls)


def start() -> None:
    """Connect and declare."""
    _sender.loop.run_until_complete(broker.startup())
