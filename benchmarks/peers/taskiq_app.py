"""Taskiq with taskiq-aio-pika: a quorum queue is its default, so are confirms; the ack follows the task."""

import functools
import os
from collections.abc import Awaitable, Callable
from typing import Any

from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue

from benchmarks.peers.asynchronous import Sender
from benchmarks.work import COROUTINES, FUNCTIONS

broker = AioPikaBroker(os.environ["AMQP_URL"], qos=int(os.environ.get("BENCH_PREFETCH", "300"))).with_queue(
    Queue(name="bench")
)


def _coroutine(function: Callable[..., None]) -> Callable[..., Awaitable[None]]:
    """Run the function on the event loop itself, which is faster than Taskiq's thread pool for plain functions."""

    @functools.wraps(function)
    async def run(**kwargs: Any) -> None:
        function(**kwargs)

    return run


TASKS = {
    name: broker.task(task_name=f"bench.{name}")(COROUTINES.get(name) or _coroutine(function))
    for name, function in FUNCTIONS.items()
}


async def _send(task: str, kwargs: dict[str, Any]) -> None:
    await TASKS[task].kiq(**kwargs)


_sender = Sender(_send)
one_by_one, many = _sender.one_by_one, _sender.many


def start() -> None:
    """Connect and declare."""
    _sender.loop.run_until_complete(broker.startup())
