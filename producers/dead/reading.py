"""Reading a whole DLQ once, as fast as it comes, and leaving every message in it as it was.

Nothing is settled while it is read, so the broker has the rest of the queue, and others see what they held before: one
that is read is held for that long. The broker counts each return of a message, and drops none for it before a million
(`UNREACHABLE_DELIVERY_LIMIT`); from RabbitMQ 4.0 on `basic.nack` gives back without being counted against a limit that
a policy has set lower. One consumer that may hold all keeps their order on both (tried on 3.10.8 and 4.3.6); several,
one after the other, would change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from leveret.producers.dead.letters import DeadMessage, dead_message, holding
from leveret.topology.access.management import Management
from leveret.topology.access.policies import effective_policy
from leveret.topology.errors import LeveretError, TopologyError
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect, server_version
from leveret.topology.link.explaining import AMQPError, explain, explain_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.message import check_name
from leveret.topology.settings import Settings, vhost_of

_COUNT_TIMEOUT_SECONDS = 2.0
_QUIET_SECONDS = 1.0
_OLDEST_SECONDS, _AGAIN_SECONDS = 6.0, 0.5
"""A queue reports every five seconds what is held of it."""
_MOST_BYTES_AHEAD = 64 * 1024 * 1024
"""What the broker may push at once; it reads that into its memory."""
ALL = 65_535
"""As many as a consumer may hold at most."""
_SMALLEST_WINDOW, _WINDOW_OF_UNKNOWN_SIZE = 50, 2_000
_RETURNS_UNCOUNTED = (4,)
_FEW_RETURNS = 1_000

Look = Callable[[DeadMessage], bool | None]
"""Is shown each message; False ends the reading."""


class Told(NamedTuple):
    """What the management API says of a queue; it may be some seconds old. All of it may be unknown."""

    held: int = 0
    """How many messages are with others."""
    average_bytes: int = 0
    limit: int = 0
    """After how many returns a policy has the broker drop a message."""


@dataclass(frozen=True)
class Read:
    """How many messages were shown, and how many of the queue others held meanwhile."""

    count: int
    held_by_others: int


async def read(configured: Settings, queue: str, look: Look, at_once: int = ALL) -> Read:
    """Show each dead message of a work queue to `look`, in their order, and leave them all where they are.

    Who wants to see the first few only says how many the broker is to send at once.

    Raises `TopologyError` when the queue has no DLQ, or while a policy would have the broker drop messages for being
    looked at; `BrokerError` when the broker fails.
    """
    name = check_name(holding(queue), "queue")
    opened = await connect(configured, "leveret dead, reading", lambda *_: None)
    try:
        told = await tell_surely(configured, name)
        gives_back_uncounted = server_version(opened) >= _RETURNS_UNCOUNTED
        if 0 < told.limit < _FEW_RETURNS and not gives_back_uncounted:
            raise TopologyError(
                f"a policy has the broker drop messages of {name!r} once they were looked at {told.limit} times; take "
                "its delivery-limit away first (rabbitmqctl clear_policy), then look"
            )
        reading = _Reading(opened, await open_channel(opened), name, look)
        ready = await reading.run(min(at_once, _window(told.average_bytes)))
        if gives_back_uncounted:
            await reading.give_back()
        return Read(reading.count, max(told.held, 0 if reading.is_stopped else ready - reading.count))
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)


async def tell_surely(configured: Settings, name: str) -> Told:
    """Ask the management API about a queue until nobody holds any of it, or those who do cannot have left by now.

    All is 0 where it does not say.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _OLDEST_SECONDS
    told = await asyncio.to_thread(_tell, configured, name)
    while told.held and loop.time() < deadline:
        await asyncio.sleep(_AGAIN_SECONDS)
        told = await asyncio.to_thread(_tell, configured, name)
    return told


def _window(average_bytes: int) -> int:
    if not average_bytes:
        return _WINDOW_OF_UNKNOWN_SIZE
    return max(_SMALLEST_WINDOW, min(ALL, _MOST_BYTES_AHEAD // average_bytes))


def _tell(configured: Settings, name: str) -> Told:
    try:
        said = Management(configured, _COUNT_TIMEOUT_SECONDS).call(
            "GET", "queues", vhost_of(configured.first_amqp_url), name
        )
    except LeveretError:  # it is not there, or not for this user
        return Told()
    said = said or {}
    held, count, size = (said.get(key) for key in ("messages_unacknowledged", "messages", "message_bytes"))
    average = size // count if isinstance(size, int) and isinstance(count, int) and count else 0
    limit = effective_policy(said).get("delivery-limit")
    return Told(held if isinstance(held, int) else 0, average, limit if isinstance(limit, int) else 0)


class _Reading:
    def __init__(self, connection: FastConnection, channel: Any, name: str, look: Look) -> None:
        self.count = 0
        self.is_stopped = False
        self._connection = connection
        self._channel = channel
        self._name = name
        self._look = look
        self._what = f"queue {name!r}"
        self._asking = Asking(channel, self._what)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tags: list[str] = []
        self._window = 0
        self._room = 0
        self._ready = 0
        self._ended.add_done_callback(lambda ended: ended.exception())  # what asks may have been told before
        channel.add_on_close_callback(
            lambda _channel, reason: self._fail(explain_channel(reason, self._what, connection.url))
        )
        channel.add_on_cancel_callback(lambda _frame: self._fail(TopologyError(f"{self._what} was deleted meanwhile")))

    async def run(self, window: int) -> int:
        """Show what is ready now; returns how many that were."""
        self._ready = await self._count_ready()
        if self._ready:
            self._window = window
            await self._asking.ask(lambda answer: self._channel.basic_qos(prefetch_count=window, callback=answer))
            self._consume()
            await self._await_last()
        else:
            self._ended.set_result(None)
        return self._ready

    async def _await_last(self) -> None:
        before = was_empty = -1
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=_QUIET_SECONDS)
            if self.count == before and not self._ended.done():  # others may have taken the rest
                is_empty = await self._count_ready() == 0
                if is_empty and was_empty == self.count and not self._ended.done():
                    self._ended.set_result(None)
                was_empty = self.count if is_empty else -1
            before = self.count
        self._ended.result()

    async def give_back(self) -> None:
        """Give all back in a way that is not counted; the end of the channel does it for the rest."""
        for tag in self._tags:
            await self._asking.ask(lambda answer, tag=tag: self._channel.basic_cancel(tag, callback=answer))  # type: ignore[misc]
        if self.count:
            self._channel.basic_nack(0, multiple=True, requeue=True)
            await self._count_ready()

    def _consume(self) -> None:
        self._room = self._window
        self._tags.append(self._channel.basic_consume(self._name, self._on_message))

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._ended.done():
            return
        self.count += 1
        self._room -= 1
        try:
            if self._look(dead_message(method, properties, body)) is False:
                self.is_stopped = True
        except BaseException as error:  # noqa: BLE001 - raised where the reading is awaited
            self._fail(error)
            return
        if self.is_stopped or self.count >= self._ready:  # no more than were there: what comes meanwhile is for others
            self._ended.set_result(None)
        elif self._room == 0:
            self._consume()

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    async def _count_ready(self) -> int:
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self._name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)
