"""Reading a whole queue once, as fast as it comes, and giving it back as it was.

Nothing is settled while it is read, so the broker has the rest of the queue, and what is read is held for that long.
One consumer that may hold all keeps their order, in the way of its version: RabbitMQ 4 gives back in order what
`basic.nack` names at once, and does not count that as a return; older ones do when the channel is closed (tried on
3.10.8 and 4.3.6).

No channel here has more than 32 consumers of a queue, for RabbitMQ 3.10.8 mixes up what more of them held; see
`Asking.get`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from leveret.topology.access.management import Management
from leveret.topology.access.policies import effective_policy
from leveret.topology.errors import LeveretError, TopologyError
from leveret.topology.link.asking import Asking
from leveret.topology.link.connection import server_version
from leveret.topology.link.explaining import explain_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.settings import Settings, vhost_of

_COUNT_TIMEOUT_SECONDS = 2.0
QUIET_SECONDS = 1.0
_MOST_BYTES_AHEAD = 64 * 1024 * 1024
"""What the broker may push at once; it reads that into its memory."""
ALL = 65_535
"""As many as a consumer may hold at most."""
_MOST_CONSUMERS = 30
_SMALLEST_WINDOW, WINDOW_OF_UNKNOWN_SIZE = 50, 2_000
_RETURNS_UNCOUNTED = (4,)

Look = Callable[[Any, Any, bytes], bool | None]
"""Is shown each message as pika has it: method, properties and body. False ends the reading."""


class Told(NamedTuple):
    """What the management API says of a queue; it may be some seconds old. All of it may be unknown."""

    held: int = 0
    """How many messages are with others."""
    messages: int = 0
    """How many there are, with those."""
    average_bytes: int = 0
    limit: int = 0
    """After how many returns a policy has the broker drop a message."""


def tell(configured: Settings, name: str) -> Told:
    """Ask the management API about a queue; all is 0 where it does not say."""
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
    held, count, limit = (value if isinstance(value, int) else 0 for value in (held, count, limit))
    return Told(held, count, average, limit)


def window_of(average_bytes: int) -> int:
    """Return how many messages of this size the broker may push at once; 0 is an unknown size."""
    if not average_bytes:
        return WINDOW_OF_UNKNOWN_SIZE
    return max(_SMALLEST_WINDOW, min(ALL, _MOST_BYTES_AHEAD // average_bytes))


def gives_back_uncounted(connection: FastConnection) -> bool:
    """Whether this broker takes messages back by `basic.nack` in their order, and does not count that as a return."""
    return server_version(connection) >= _RETURNS_UNCOUNTED


class Reading:
    """Shows the messages of a queue to `look`, and holds them until they are given back or the channel is closed."""

    def __init__(self, connection: FastConnection, channel: Any, name: str, look: Look) -> None:
        self.count = 0
        self.is_stopped = False
        self._connection = connection
        self._channel = channel
        self.name = name
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

    async def run(self, window: int, most: int | None = None) -> int:
        """Show what is ready now, or no more than so many; returns how many were ready.

        What is more than `window` is asked for by further consumers.
        """
        ready = await self.count_ready()
        self._ready = ready if most is None else min(ready, most)
        if self._ready:
            await self._begin(window)
            await self._await_last()
        else:
            self._ended.set_result(None)
        return ready

    async def _begin(self, window: int) -> None:
        self._window = window = min(ALL, max(window, -(-self._ready // _MOST_CONSUMERS)))
        await self._asking.ask(lambda answer: self._channel.basic_qos(prefetch_count=window, callback=answer))
        self._consume()

    async def _await_last(self) -> None:
        before = was_empty = -1
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=QUIET_SECONDS)
            if self.count == before and not self._ended.done():  # others may have taken the rest
                is_empty = await self.count_ready() == 0
                if is_empty and was_empty == self.count and not self._ended.done():
                    self._ended.set_result(None)
                was_empty = self.count if is_empty else -1
            before = self.count
        self._ended.result()

    async def take_out(self, tags: Sequence[int]) -> None:
        """Take these messages out of the queue for good, and see that the broker did."""
        for tag in tags:
            self._channel.basic_ack(tag)
            await self.count_ready()  # of more than 32 acks at once the broker may lose some with the channel

    async def let_go(self) -> None:
        """Give all back in a way that is not counted, where there is one; the end of the channel does it elsewhere."""
        if not gives_back_uncounted(self._connection):
            return
        for tag in self._tags:
            await self._asking.ask(lambda answer, tag=tag: self._channel.basic_cancel(tag, callback=answer))  # type: ignore[misc]
        if self.count:
            self._channel.basic_nack(0, multiple=True, requeue=True)
            await self.count_ready()

    def _on_full(self) -> None:
        self._consume()

    def _consume(self) -> None:
        self._room += self._window
        tag = f"{len(self._tags):03}"  # the broker gives back what they held in the order of their tags
        self._tags.append(self._channel.basic_consume(self.name, self._on_message, consumer_tag=tag))

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if self._ended.done():
            return
        self.count += 1
        self._room -= 1
        try:
            if self._look(method, properties, body) is False:
                self.is_stopped = True
        except BaseException as error:  # noqa: BLE001 - raised where the reading is awaited
            self._fail(error)
            return
        if self.is_stopped or self.count >= self._ready:  # no more than were there: what comes meanwhile is for others
            self._ended.set_result(None)
        elif self._room == 0:
            self._on_full()

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    async def count_ready(self) -> int:
        """Return how many messages nobody holds. Raises `TopologyError` where there is no such queue."""
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self.name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)
