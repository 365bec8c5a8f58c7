"""The queue in which this process waits for what becomes of the tasks it follows.

It is durable and outlives a lost link for a while, so that nothing is missed: an exclusive one would go with the link,
and with it what workers have been confirmed. It is found again by the same name.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import Any

from leveret.producers.following.entry import Entry
from leveret.topology import events
from leveret.topology.errors import (
    AccessRefused,
    BrokerUnreachable,
    LeveretError,
    SettingsError,
    TopologyError,
    UnreadableMessage,
)
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.connection import Pauses, close, connect
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.telling import new_reply_key
from leveret.topology.names import EVENTS_EXCHANGE
from leveret.topology.settings import Settings

EXPIRES_SECONDS = 60
"""How long the queue outlives its last consumer."""
_FIND_SECONDS = 10.0
"""So long is asked for a classic queue after a lost link. RabbitMQ 4.3 answers in a minute while its node is down."""
_PREFETCH = 200
_MOST_UNACKNOWLEDGED = 50
_ACKNOWLEDGE_SECONDS = 0.01
"""So long a message waits for those that are acknowledged with it: not before who waits for its result goes on."""
_log = logging.getLogger(__name__)


class Replies:
    """Takes events of followed tasks off a queue of its own; runs on one loop, `expect` and `get` in any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._entries: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
        self._connection: FastConnection | None = None
        self._channel: Any = None
        self._consuming: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._expiring: asyncio.TimerHandle | None = None
        self._opens = 0
        self._was_gone = False
        self._acknowledge_later: asyncio.TimerHandle | None = None
        self._unacknowledged: list[tuple[Any, int]] = []  # channel and tag of each message
        # Whatever the default of the virtual host: a quorum queue outlives a node, at 0.3 ms for each result.
        self._kind = "quorum" if len(settings.amqp_urls) > 1 else "classic"
        self.key = new_reply_key()
        """The name of the queue, and the routing key by which events come to it; another once its node is down."""
        self.is_open = False
        """Whether the queue is there, so that what is submitted now can be waited for."""

    def expect(self, task_id: str, task: str) -> Entry:
        """Return the entry of a task that is about to be submitted, which lives as long as somebody holds it.

        An id that is submitted again after its end is waited for anew.
        """
        entry = self._entries.get(task_id)
        if entry is None or entry.is_over or entry.task != task:
            former, entry = entry, Entry(task_id, task)
            self._entries[task_id] = entry
            if former:
                former.tell_missed("another task was submitted with the same id")
        return entry

    def get(self, task_id: str) -> Entry | None:
        """Return the entry of a task, if it is followed here and anybody holds it."""
        return self._entries.get(task_id)

    @property
    def is_refused(self) -> bool:
        """Whether the broker has refused what this needs, and nothing tries it any more."""
        return self._opened.done() and not self._opened.cancelled() and self._opened.exception() is not None

    async def open(self) -> None:
        """Wait until the queue is there. Raises `AccessRefused` and the like where it never can be."""
        if self._consuming is None:
            self._consuming = self._loop.create_task(self._consume())
        await asyncio.shield(self._opened)

    async def close(self) -> None:
        """Delete the queue and leave."""
        if self._consuming:
            self._consuming.cancel()
            await asyncio.gather(self._consuming, return_exceptions=True)
        if self._expiring:
            self._expiring.cancel()
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # who waited has had it
        if self._channel and self._channel.is_open:
            self._channel.queue_delete(self.key, callback=None)
        if self._connection:
            await close(self._connection)
        self._miss_all("the publisher that waited for it is closed")

    async def _consume(self) -> None:
        pauses, refused = Pauses(), ""
        while True:
            await asyncio.sleep(pauses.next_seconds())
            lost: asyncio.Future[BaseException] = self._loop.create_future()
            try:
                await self._open(lost)
            except (AccessRefused, SettingsError, TopologyError) as error:
                if not self._opened.done():
                    if self._connection:
                        await close(self._connection)
                    self._opened.set_exception(_refused(error))
                    return
                if str(error) != refused:  # once, not with every try
                    refused = str(error)
                    _log.warning("cannot wait for results: %s", error)
            except LeveretError:
                pass  # who submits is told by the publisher that there is no broker; here it is tried again
            else:
                pauses.on_open()
                refused = ""
                if not self._opened.done():
                    self._opened.set_result(None)
                await lost
                self._expire_later()
            if self._connection:
                await close(self._connection)

    async def _open(self, lost: asyncio.Future[BaseException]) -> None:
        def on_lost(_connection: FastConnection, reason: BaseException) -> None:
            _set(lost, reason)

        self._channel = None
        self._connection = connection = await connect(self._settings, "leveret producer, waiting for results", on_lost)
        if self.is_open and not await self._find_again(connection):
            self._was_gone = True
        channel = await open_channel(connection)
        connection.judge_bodies(channel, lambda size: size <= events.LARGEST_BODY_BYTES)
        channel.add_on_close_callback(lambda _channel, reason: _set(lost, reason))
        channel.add_on_cancel_callback(lambda _frame: _set(lost, TopologyError("the queue was deleted")))
        asking = Asking(channel, f"queue {self.key!r}")
        name, arguments = self.key, {"x-queue-type": self._kind, "x-expires": EXPIRES_SECONDS * 1000}
        try:
            await asking.ask(
                lambda answer: channel.queue_declare(name, durable=True, arguments=arguments, callback=answer)
            )
        except TopologyError as error:
            if not (self._was_gone and self._kind == "classic"):
                raise
            self.key = new_reply_key()  # for the next try, for that of the old name comes back with its node
            raise BrokerUnreachable(f"the node of queue {name!r} is down: {error}") from error
        await asking.ask(lambda answer: channel.queue_bind(name, EVENTS_EXCHANGE, name, callback=answer))
        if self._was_gone:  # told only now: of what is submitted before this, the end may come before the binding
            self._was_gone = False
            self._miss_all(
                f"the queue in which this process waits was gone: somebody has deleted it, its node is down, or the "
                f"link to the broker was lost for longer than the {EXPIRES_SECONDS} s that results wait"
            )
        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_PREFETCH, callback=answer))
        self._opens += 1
        first = {"x-priority": self._opens}  # before the consumer of a lost link, until the broker has noticed
        await asking.ask(lambda answer: channel.basic_consume(name, self._on_message, arguments=first, callback=answer))
        self._channel, self.is_open = channel, True
        if self._expiring:
            self._expiring.cancel()
            self._expiring = None

    async def _find_again(self, connection: FastConnection) -> bool:
        """Return whether the queue is still there; one of which nothing is heard is left for another."""
        channel = await open_channel(connection)
        asking = Asking(channel, f"queue {self.key!r}")
        try:
            async with asyncio.timeout(_FIND_SECONDS if self._kind == "classic" else None):
                await asking.ask(lambda answer: channel.queue_declare(self.key, passive=True, callback=answer))
        except TopologyError:
            return False
        except TimeoutError:
            other = await open_channel(connection)
            other.queue_delete(self.key, callback=None)  # so that workers hear at once that nobody waits there
            self.key = new_reply_key()
            return False
        if channel.is_open:  # the link may have been lost since the answer
            channel.close()
        return True

    def _on_message(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        if channel is not self._channel and self._channel is not None:
            return  # of a link that is given up; it comes again
        try:
            if body is LEFT_OUT:
                raise UnreadableMessage(f"a message of events has more than {events.LARGEST_BODY_BYTES:,} bytes")
            told = events.read(body)
        except UnreadableMessage as error:
            _log.warning("an event is not believed: %s", error)
        else:
            for event in told.events:
                if entry := self._entries.get(event["id"]):
                    entry.tell(told.kind, told.task, told.worker, event)
        self._unacknowledged.append((channel, method.delivery_tag))
        if len(self._unacknowledged) >= _MOST_UNACKNOWLEDGED:
            self._acknowledge()
        elif self._acknowledge_later is None:
            self._acknowledge_later = self._loop.call_later(_ACKNOWLEDGE_SECONDS, self._acknowledge)

    def _acknowledge(self) -> None:
        if self._acknowledge_later:
            self._acknowledge_later.cancel()
            self._acknowledge_later = None
        last = dict(self._unacknowledged)
        self._unacknowledged.clear()
        for channel, tag in last.items():  # that of a link which was lost brings what it has left again
            if channel.is_open:
                channel.basic_ack(tag, multiple=True)

    def _expire_later(self) -> None:
        if self._expiring is None:
            why = f"the link to the broker has been lost for {EXPIRES_SECONDS} s, which is how long results wait"
            self._expiring = self._loop.call_later(EXPIRES_SECONDS, self._miss_all, why)

    def _miss_all(self, why: str) -> None:
        for reference in self._entries.valuerefs():  # a copy, for other threads add entries
            if entry := reference():
                entry.tell_missed(why)


def _refused(error: LeveretError) -> LeveretError:
    said = type(error)(f"this process cannot wait for results: {error}; leveret declare makes what is missing")
    said.__cause__ = error
    return said


def _set(future: asyncio.Future[BaseException], reason: BaseException) -> None:
    if not future.done():
        future.set_result(reason)
