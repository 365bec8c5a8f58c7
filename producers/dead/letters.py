"""Messages that wait for a person: taking them off their queue, and publishing them anew."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import pika

from leveret.producers.dead import history
from leveret.producers.following.cancelling import command_now
from leveret.producers.reading import QUIET_SECONDS, Reading
from leveret.topology.errors import BrokerUnreachable, LeveretError
from leveret.topology.ladder import without_delay
from leveret.topology.link.asking import Asking, Got
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import FAILURE_HEADERS, new_id, own_headers
from leveret.topology.names import DIRECT_EXCHANGE, LATER_LOST, LATER_TO, RETRIED_LATER, Route, dlq_name
from leveret.topology.printable import printable

T = TypeVar("T")

BATCH = 16
"""Acks at once: of more than 32 a quorum queue's client in the broker keeps some, and loses them with the channel."""
WHERE_IT_HARMS = "Where running twice does harm, take them out of one of both first"
_OF_BEFORE = (FAILURE_HEADERS, RETRIED_LATER)
_MOST_BYTES = 32 * 1024 * 1024


class DeadMessage(NamedTuple):
    """A message in a DLQ, with why it is there."""

    id: str
    task: str
    attempts: str
    reason: str
    tag: int
    properties: pika.BasicProperties
    body: bytes
    routing_key: str = ""


def holding(queue: str) -> str:
    """Return where the messages of a work queue lie that wait for a person; what was delayed in vain has its own."""
    return queue if queue == LATER_LOST else dlq_name(queue)


def publish_again(outbox: Outbox, queue: str, dead: DeadMessage, to: str = "") -> asyncio.Future[LeveretError | None]:
    """Publish to the work queue, or to another, as attempt 1; the future is how that ended.

    Of its former life it keeps how often it was redriven. What was delayed goes where it was to go, now.
    """
    properties = dead.properties
    kept = own_headers(properties.headers)
    route = Route.direct(to or queue)
    if queue == LATER_LOST and not to:
        route = Route(str(kept.get(LATER_TO, DIRECT_EXCHANGE)), dead.routing_key)
    properties.headers = {
        name: value for name, value in without_delay(kept).items() if not str(name).startswith(_OF_BEFORE)
    }
    properties.headers |= history.again(kept, command_now("").by)
    properties.message_id = dead.id or new_id()
    return publish(outbox, Outgoing(route, dead.body, properties))


def publish(outbox: Outbox, outgoing: Outgoing) -> asyncio.Future[LeveretError | None]:
    """Publish something; the future is how that ended."""
    ended: asyncio.Future[LeveretError | None] = asyncio.get_running_loop().create_future()
    outgoing.properties.user_id = outgoing.properties.expiration = None  # another's user; and it must not vanish

    def end(error: LeveretError | None) -> None:
        if not ended.done():  # who waited may have been interrupted
            ended.set_result(error)

    outbox.send(outgoing, end)
    return ended


async def to_its_end(step: Coroutine[Any, Any, T]) -> T:
    """Await a step that must not be left half done: who is interrupted amid it is so after it."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def take_out(
    channel: Any, asking: Asking, name: str, moved: Sequence[DeadMessage], are: str, advice: str
) -> Got | None:
    """Take messages that are safe elsewhere out of a queue for good, and see that the broker did.

    Returns the message that was got to see that, if there was one: the queue answers a get after the acks, and nobody
    answers those themselves. Raises `BrokerUnreachable` naming them when the link was lost before that was known; `are`
    says what they are by then, as "confirmed in 'mail'", and `advice` what to do.
    """
    try:
        if channel.is_open:
            for dead in moved:
                channel.basic_ack(dead.tag)
        return await asking.get(name)
    except (LeveretError, pika.exceptions.AMQPError) as error:
        if not moved:
            raise
        ids = ", ".join(printable(dead.properties.message_id) for dead in moved)
        raise BrokerUnreachable(
            f"{error}. {are[0].upper()}{are[1:]}, and perhaps still in {name!r} as well, are {len(moved)} message(s): "
            f"{ids}. {advice}"
        ) from error


class Letters(Reading):
    """Takes the messages of a queue some at a time, and keeps them from others until they are removed.

    A consumer brings them, a few ahead; where what was taken stays, further ones do. Once its channel is closed, all
    that it is asked raises why.
    """

    def __init__(self, connection: FastConnection, channel: Any, name: str) -> None:
        super().__init__(connection, channel, name, self._keep)
        self._ahead: deque[DeadMessage] = deque()
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, average_bytes: int = 0) -> int:
        """Begin; returns how many messages there are. Raises `TopologyError` when there is no such queue."""
        self._ready = count = await self.count_ready()
        await self._begin(max(1, min(2 * BATCH, _MOST_BYTES // max(1, average_bytes))))
        self._ready = sys.maxsize  # what comes meanwhile is kept, too
        return count

    async def take(self, most: int) -> list[DeadMessage]:
        """Take the next messages, up to `most` and not too many bytes; none where nothing is left for us."""
        if self._ahead:
            await self.count_ready()  # to see that the link they came by is still there
        was_empty = False
        while not self._ahead:
            if self._ended.done():
                self._ended.result()
            if self._room == 0:
                self._consume()
            if await self._comes():
                continue
            is_empty = await self.count_ready() == 0
            if is_empty and was_empty and not self._ahead:  # others have taken the rest
                return []
            was_empty = is_empty
        taken: list[DeadMessage] = []
        size = 0
        while self._ahead and len(taken) < most and size < _MOST_BYTES:
            taken.append(self._ahead.popleft())
            size += len(taken[-1].body)
        return taken

    async def remove(self, moved: Sequence[DeadMessage], are: str, advice: str) -> None:
        """Take messages that are safe elsewhere out of this queue for good; see `take_out`."""
        if got := await take_out(self._channel, self._asking, self.name, moved, are, advice):
            self._channel.basic_nack(got.method.delivery_tag, requeue=True)
        self._room += len(moved)

    def _keep(self, method: Any, properties: Any, body: bytes) -> None:
        self._ahead.append(dead_message(method, properties, body))
        if not self._came.done():
            self._came.set_result(None)

    def _on_full(self) -> None:
        """Wait until the messages are taken, most of which will make room when they are removed."""

    async def _comes(self) -> bool:
        """Wait for a moment; returns whether a message has come, or the end of the link."""
        self._came = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._came, self._ended], timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return self._came.done() or self._ended.done()


def dead_message(method: Any, properties: pika.BasicProperties, body: bytes) -> DeadMessage:
    """Return a message with why it is dead."""
    headers = properties.headers or {}
    reason = [str(headers.get(FAILURE_HEADERS + part, "")) for part in ("task", "attempts", "type", "message")]
    task, attempts, kind, text = reason
    return DeadMessage(
        properties.message_id or "",
        task or "unknown task",
        attempts or "?",
        f"{kind or 'no reason is attached'}: {text}",
        method.delivery_tag,
        properties,
        body,
        str(method.routing_key),
    )
