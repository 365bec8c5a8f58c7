"""FastStream on a quorum queue: acks after the handler, confirms by default, without type casting and logging."""

import os
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks.peers.asynchronous import Sender
from benchmarks.work import COROUTINES, FUNCTIONS

broker = RabbitBroker(
    os.environ["AMQP_URL"],
    apply_types=False,
    logger=None,
    graceful_timeout=float(os.environ.get("BENCH_GRACE", "0")) or None,
    default_channel=Channel(prefetch_count=int(os.environ.get("BENCH_PREFETCH", "100"))),
)
queue = RabbitQueue("bench", queue_type=QueueType.QUORUM)
app = FastStream(broker, logger=None)
TASKS = FUNCTIONS | COROUTINES


@broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
async def handle(message: dict[str, Any]) -> None:
    """Run the named function; FastStream has handlers of queues where others have tasks."""
    waiting = TASKS[message["task"]](**message["kwargs"])
    if waiting is not None:
        await waiting


async def _send(task: str, kwargs: dict[str, Any]) -> None:
    await broker.publish({"task": task, "kwargs": kwargs}, queue=queue, persist=True)


_sender = Sender(_send)
one_by_one, many = _sender.one_by_one, _sender.many


async def _connect() -> None:
    await broker.connect()
    await broker.declare_queue(queue)


def start() -> None:
    """Connect and declare."""
    _sender.loop.run_until_complete(_connect())
