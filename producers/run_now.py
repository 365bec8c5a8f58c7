"""Having delayed tasks run now: taking them out of the ladder of delays before their time.

The broker finds no message by its id. So the ladder's queues are read, each as a whole, until the tasks are found: the
longest steps first, for from step to step a message only comes into shorter ones. What is read meanwhile and not meant
is handed back, in its place and without a count of deliveries on RabbitMQ 4.3; its time goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from leveret.topology import settings
from leveret.topology.errors import LeveretError, TopologyError
from leveret.topology.ladder import delayed, ladder, without_delay
from leveret.topology.link import daemon_thread, default_broker
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import check_id, own_headers
from leveret.topology.names import DIRECT_EXCHANGE, LATER_TO, Route
from leveret.topology.objects import Queue
from leveret.topology.settings import Settings

_CREDIT = 1000
"""Messages that one consumer may hold. It takes many consumers to hold a whole queue: RabbitMQ lets none hold more than
2,000 without a limit, and what the limit allows is read from its disk at once."""
_SHORTEST_SECONDS = 1
"""The step by which goes what is to run now; what lies in it comes by itself as soon."""


_DELIVERY_SECONDS = 0.5
"""After that the queue is asked again what is left: what no consumer got may have gone because its time had come."""


class _Found(NamedTuple):
    id: str
    tag: int
    routing_key: str
    properties: Any
    body: bytes


def run_now(*ids: str, configured: Settings | None = None) -> list[str]:
    """Have delayed tasks run now, which is within a second; returns the ids of those that were found.

    The others are not delayed, or come within a second by themselves. Each is confirmed before it leaves the ladder:
    who is killed in between leaves two of it, which come one after the other. Other delayed tasks wait for as long as
    their queue is read, seconds where there are 100,000. Raises `MessageError` for what is no id, `AccessRefused` for a
    user who may not read the ladder's queues (those who may are of the role topology), `BrokerError` or `PublishError`
    when the broker fails; what was not confirmed is still delayed then.
    """
    wanted = list(dict.fromkeys(check_id(one) for one in ids))
    used = default_broker.resolve(configured or settings.load())
    return daemon_thread.call(lambda: asyncio.run(_run_now(used, wanted)))


async def _run_now(used: Settings, wanted: Sequence[str]) -> list[str]:
    opened = await connect(used, "leveret run-now", lambda *_: None)
    outbox = Outbox(used, "leveret run-now, publishing")
    missing = set(wanted)
    try:
        for queue in _longest_first():
            if not missing:
                break
            reader = _Reader(await open_channel(opened), queue.name)
            try:
                found = await reader.find(missing)
            except TopologyError:  # nobody has delayed anything yet, so there is no ladder
                break
            await _move(outbox, reader, found)
            missing -= {one.id for one in found}
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
        await outbox.close()
    return [one for one in wanted if one not in missing]


def _longest_first() -> list[Queue]:
    steps = [queue for queue in ladder().queues if _ttl(queue) > _SHORTEST_SECONDS * 1000]
    return sorted(steps, key=_ttl, reverse=True)


def _ttl(queue: Queue) -> int:
    """Return how long a queue of the ladder keeps a message, in milliseconds; 0 of one that is no step."""
    return int(str(queue.arguments.get("x-message-ttl", 0)))


async def _move(outbox: Outbox, reader: _Reader, found: Sequence[_Found]) -> None:
    """Publish what was found, then take it out of its queue; hand back everything else. Raises why one did not go."""
    outcomes = await asyncio.gather(*(_publish(outbox, one) for one in found))
    await reader.leave([one.tag for one, error in zip(found, outcomes, strict=True) if error is None])
    for error in outcomes:
        if error:
            raise error


def _publish(outbox: Outbox, found: _Found) -> asyncio.Future[LeveretError | None]:
    """Send a message on its way again, with nothing left of it but the shortest step; the future is how that ended."""
    ended: asyncio.Future[LeveretError | None] = asyncio.get_running_loop().create_future()
    properties = found.properties
    kept = own_headers(properties.headers)
    target = Route(str(kept.get(LATER_TO, DIRECT_EXCHANGE)), found.routing_key)
    route, properties.headers = delayed(target, without_delay(kept), _SHORTEST_SECONDS)
    properties.user_id = None  # another connection's user
    outbox.send(Outgoing(route, found.body, properties), ended.set_result)
    return ended


class _Reader:
    """Reads one queue from its beginning to its end, over a channel of its own, and keeps only what is looked for."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._asking = Asking(channel, f"queue {name!r}")
        self._tags: list[str] = []  # of consumers
        self._came = 0
        self._has_come = asyncio.Event()
        self._found: list[_Found] = []

    async def find(self, ids: Iterable[str]) -> list[_Found]:
        """Return the messages with these ids, which this channel holds from now on, as it does all before them.

        Raises `TopologyError` where there is no such queue.
        """
        wanted = frozenset(ids)
        left = await self._count()
        if left:
            await self._asking.ask(lambda answer: self._channel.basic_qos(prefetch_count=_CREDIT, callback=answer))
        while left and len({one.id for one in self._found}) < len(wanted):
            if self._came == _CREDIT * len(self._tags):
                await self._consume(wanted)
            came = self._came
            self._has_come.clear()
            left = await self._count()  # which the queue answers after what it has given to the consumers
            if left and self._came == came:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._has_come.wait(), _DELIVERY_SECONDS)
            left = left or self._came - came
        for tag in self._tags:
            await self._asking.ask(lambda answer, tag=tag: self._channel.basic_cancel(tag, callback=answer))  # type: ignore[misc]
        return self._found

    async def leave(self, tags: Sequence[int]) -> None:
        """Take these messages out of the queue for good, hand back all others, and see that the broker did."""
        for tag in tags:
            self._channel.basic_ack(tag)
            await self._count()  # of more than 32 acks at once the broker may lose some with the channel
        self._channel.basic_nack(0, multiple=True, requeue=True)
        await self._count()
        self._channel.close()

    async def _consume(self, wanted: frozenset[str]) -> None:
        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            self._came += 1
            self._has_come.set()
            if properties.message_id in wanted:
                self._found.append(
                    _Found(properties.message_id, method.delivery_tag, method.routing_key, properties, body)
                )

        consumed = await self._asking.ask(
            lambda answer: self._channel.basic_consume(self._name, on_message, callback=answer)
        )
        self._tags.append(consumed.method.consumer_tag)

    async def _count(self) -> int:
        """Return how many messages are ready."""
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self._name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)
