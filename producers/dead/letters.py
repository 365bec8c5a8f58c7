"""Messages that wait for a person: reading them off their queue one by one, and publishing them anew."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import pika

from leveret.producers.dead import history
from leveret.producers.following.cancelling import command_now
from leveret.topology.errors import BrokerUnreachable, LeveretError
from leveret.topology.ladder import without_delay
from leveret.topology.link.asking import Answer, Asking
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


class Letters:
    """Reads a queue message by message, over a channel of its own. Once that is closed, all it is asked raises why."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._asking = Asking(channel, f"queue {name!r}")
        self._on_empty: Answer = lambda _answer: None
        self._ahead: Any = None  # a message that was got before it was asked for
        channel.add_callback(lambda _frame: self._on_empty(None), [pika.spec.Basic.GetEmpty], one_shot=False)

    async def count(self) -> int:
        """Return how many messages are ready. Raises `TopologyError` when there is no such queue."""
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self._name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)

    async def take(self, most: int) -> list[DeadMessage]:
        """Take the next messages, up to `most` and not too many bytes; they stay until they are removed."""
        taken: list[DeadMessage] = []
        if self._ahead:
            await self.count()  # to see that the link it came by is still there
        size = 0
        while len(taken) < most and size < _MOST_BYTES and (answer := self._ahead or await self._get()):
            taken.append(dead_message(*answer))
            size += len(taken[-1].body)
            self._ahead = None
        return taken

    async def remove(self, moved: Sequence[DeadMessage], are: str, advice: str) -> None:
        """Take messages that are safe elsewhere out of this queue for good, and see that the broker did.

        Raises `BrokerUnreachable` naming them when the link was lost before that was known; `are` says what they are by
        then, as "confirmed in 'mail'", and `advice` what to do.
        """
        try:
            if self._channel.is_open:
                for dead in moved:
                    self._channel.basic_ack(dead.tag)
            self._ahead = await self._get()  # which the queue answers after the acks; nobody answers those themselves
        except (LeveretError, pika.exceptions.AMQPError) as error:
            if not moved:
                raise
            names = ", ".join(printable(dead.properties.message_id) for dead in moved)
            raise BrokerUnreachable(
                f"{error}. {are[0].upper()}{are[1:]}, and perhaps still in {self._name!r} as well, are {len(moved)} "
                f"message(s): {names}. {advice}"
            ) from error

    async def _get(self) -> Any:
        def send(answer: Answer) -> None:
            self._on_empty = answer
            self._channel.basic_get(self._name, lambda _channel, *message: answer(message))

        return await self._asking.ask(send)


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
