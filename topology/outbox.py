"""Messages on their way to the broker, each kept until the broker confirmed it or refused it.

Runs on one asyncio loop. Duties: connect when first needed and again when the link is lost; publish mandatory
and persistent with a window of outstanding confirms; send again, under the same id, what was not confirmed;
and tell for every message exactly once how it ended.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pika
from pika import exceptions as pika_errors

from topology import publish_errors
from topology.connection import backoff_seconds, close, connect, open_channel
from topology.errors import AccessRefused, BrokerError, LeveretError, PublishError, SettingsError
from topology.names import Route
from topology.settings import Settings, mask

WINDOW = 1000
"""Outstanding confirms: enough to hide the broker's disk, few enough to send again after a lost link."""
_EXPIRY_CHECK_SECONDS = 0.1

OnOutcome = Callable[[LeveretError | None], None]


class Outgoing(NamedTuple):
    """A message and where it goes."""

    route: Route
    body: bytes
    properties: pika.BasicProperties

    @property
    def id(self) -> str:
        """The message's id."""
        return str(self.properties.message_id)


class _Item:
    __slots__ = ("deadline", "id", "on_outcome", "outgoing", "returned", "was_sent")

    def __init__(self, outgoing: Outgoing, deadline: float, on_outcome: OnOutcome) -> None:
        self.outgoing = outgoing
        self.id: str = outgoing.properties.message_id
        self.deadline = deadline
        self.on_outcome = on_outcome
        self.returned = False
        self.was_sent = False


class Outbox:
    """Publishes with confirms on the running loop. `on_outcome` of each message gets None or the error."""

    def __init__(self, settings: Settings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Item] = deque()
        self._unconfirmed: dict[int, _Item] = {}  # by delivery tag, so in the order of publishing
        self._in_flight: dict[str, _Item] = {}  # by id: a return names no delivery tag
        self._connection: Any = None
        self._channel: Any = None
        self._tags = itertools.count(1)
        self._has_given_up = False  # what was told as late may still be on its way on this channel
        self._heard = 0.0  # the loop's time when the broker last showed that it confirms on this channel
        self._suspects = 0  # messages that were in flight when the broker closed the channel: sent one by one
        self._is_refusing = False  # RabbitMQ 3.10 may go on refusing on a channel after the cause is gone
        self._blocked = ""
        self._failure: BrokerError | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._unconfirmed)

    def send(self, outgoing: Outgoing, on_outcome: OnOutcome) -> None:
        """Take a message; its outcome follows within the publish timeout."""
        deadline = self._loop.time() + self._settings.publish_timeout_seconds
        self._waiting.append(_Item(outgoing, deadline, on_outcome))
        if self._expiry is None:
            self._expiry = self._loop.call_later(_EXPIRY_CHECK_SECONDS, self._expire)
        self._pump()

    async def close(self, wait: bool = False) -> None:
        """Close the connection, after waiting for every outcome if asked to; what is unconfirmed ends in an error."""
        if wait and self:
            self._emptied = self._loop.create_future()
            await self._emptied
        is_silent = bool(self._blocked or self._unconfirmed)
        if self._connecting:
            self._connecting.cancel()
        if self._expiry:
            self._expiry.cancel()
        self._expire(everything=True)
        connection, self._connection, self._channel = self._connection, None, None
        if connection and is_silent:
            connection.give_up()  # it would not answer a goodbye either
        elif connection:
            await close(connection)

    def _pump(self) -> None:
        if self._channel is None:
            if self._connecting is None and self._waiting:
                self._connecting = self._loop.create_task(self._open())
            return
        if self._is_refusing:
            if not self._unconfirmed:
                self._change_channel()
            return
        window = 1 if self._suspects else WINDOW
        while self._waiting and len(self._unconfirmed) < window and not self._blocked:
            item = self._waiting[0]
            if item.id in self._in_flight:
                break  # the same message twice: a return could not be told apart
            self._waiting.popleft()
            outgoing = item.outgoing
            try:
                self._connection.publish(self._channel, *outgoing.route, outgoing.body, outgoing.properties)
            except (pika_errors.ChannelWrongStateError, pika_errors.ConnectionWrongStateError):
                # closed this moment; the callback that says so is on its way
                self._waiting.appendleft(item)
                return
            except Exception as error:  # noqa: BLE001 - properties that pika cannot encode, of whatever type
                self._end(item, PublishError(f"message {item.id} cannot be encoded: {error}", item.id))
                continue
            item.was_sent = True
            self._unconfirmed[next(self._tags)] = self._in_flight[item.id] = item
        if self._connection:
            self._connection.send_written()

    def _change_channel(self) -> None:
        """Go on with another channel of the same connection, if there is something to send."""
        if self._channel.is_open:
            self._channel.close()
        self._channel, self._is_refusing = None, False
        self._pump()

    async def _open(self) -> None:
        """Get a channel in confirm mode, however long that takes; messages expire meanwhile."""
        for failed_tries in itertools.count():
            try:
                if self._connection is None:
                    self._connection = await connect(self._settings, self._role, self._on_lost)
                    self._blocked = ""  # the former connection heard of it; this one is told when it publishes
                    self._connection.add_on_connection_blocked_callback(self._on_blocked)
                    self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
                channel = await open_channel(self._connection)
                break
            except (AccessRefused, SettingsError) as error:  # trying again cannot help
                self._connecting = None
                self._fail_waiting(error)
                return
            except BrokerError as error:
                self._failure = error
                if self._connection:  # it may be open, and only refuse a channel
                    self._connection.give_up()
                    self._connection = None
            await asyncio.sleep(backoff_seconds(failed_tries))
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_channel_closed)
        self._connection.on_confirms(channel, functools.partial(self._on_confirm, channel))
        self._channel, self._connecting, self._failure = channel, None, None
        self._tags, self._has_given_up, self._heard = itertools.count(1), False, self._loop.time()
        self._pump()

    def _on_confirm(self, channel: Any, last_tag: int, multiple: bool, refused: bool) -> None:
        if channel is not self._channel:
            return  # it was given up, and its tags are those of other messages now
        self._heard = self._loop.time()
        self._is_refusing = self._is_refusing or refused
        tags = list(itertools.takewhile(lambda tag: tag <= last_tag, self._unconfirmed)) if multiple else [last_tag]
        for tag in tags:
            item = self._unconfirmed.pop(tag, None)
            if item:
                del self._in_flight[item.id]
                self._suspects = max(0, self._suspects - 1)
                self._end(item, self._judge(item, refused))
        self._pump()

    def _end(self, item: _Item, outcome: LeveretError | None) -> None:
        item.on_outcome(outcome)
        if self._emptied and not self and not self._emptied.done():
            self._emptied.set_result(None)

    def _judge(self, item: _Item, refused: bool) -> LeveretError | None:
        if item.returned:
            return publish_errors.not_routed(item.id, item.outgoing.route)
        return publish_errors.nacked(item.id, item.outgoing.route) if refused else None

    def _on_return(self, channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        item = self._in_flight.get(properties.message_id)
        # One that was given up may have gone another way under the same id.
        if item and channel is self._channel and item.outgoing.route == (method.exchange, method.routing_key):
            item.returned = True  # the confirm of a returned message follows, and ends it

    def _on_blocked(self, connection: Any, frame: Any) -> None:
        if connection is self._connection:
            self._blocked = frame.method.reason or "an alarm"

    def _on_unblocked(self, connection: Any, _frame: Any) -> None:
        if connection is self._connection:
            self._blocked = ""
            self._heard = self._loop.time()
            self._pump()

    def _on_lost(self, connection: Any, _error: BaseException) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._blocked = ""
        self._take_back()
        self._pump()

    def _on_channel_closed(self, channel: Any, reason: BaseException) -> None:
        if channel is not self._channel:
            return
        if isinstance(reason, pika_errors.ChannelClosedByBroker):
            if len(self._unconfirmed) == 1 and not self._has_given_up:  # the only suspect
                _, item = self._unconfirmed.popitem()
                self._in_flight.clear()
                self._suspects = max(0, self._suspects - 1)
                self._end(
                    item,
                    publish_errors.channel_closed(item.id, item.outgoing.route, reason.reply_code, reason.reply_text),
                )
            self._suspects = max(self._suspects, len(self._unconfirmed))
        self._take_back()
        self._pump()

    def _take_back(self) -> None:
        """Put what was not confirmed back in front, to be sent again under the same id."""
        self._channel, self._is_refusing = None, False
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        for item in self._unconfirmed.values():
            item.returned = False
        self._unconfirmed.clear()
        self._in_flight.clear()

    def _expire(self, everything: bool = False) -> None:
        now = float("inf") if everything else self._loop.time()
        # Both are in the order of sending, so of their deadlines.
        late = list(itertools.takewhile(lambda entry: entry[1].deadline <= now, self._unconfirmed.items()))
        for tag, item in late:
            # Its tag is not given to another message, so a confirm that still comes is nobody's.
            del self._unconfirmed[tag], self._in_flight[item.id]
            self._has_given_up = True
            self._suspects = max(0, self._suspects - 1)
            self._end(item, self._why_late(item))
        while self._waiting and self._waiting[0].deadline <= now:
            item = self._waiting.popleft()
            self._end(item, self._why_late(item))
        silent_seconds = self._loop.time() - self._heard
        if late and not self._blocked and silent_seconds >= self._settings.publish_timeout_seconds:
            self._give_up_connection()
        if everything:
            return
        self._pump()
        self._expiry = self._loop.call_later(_EXPIRY_CHECK_SECONDS, self._expire) if self else None

    def _give_up_connection(self) -> None:
        """Leave a connection on which no confirm comes at all; what has time left is sent again on another."""
        connection, self._connection = self._connection, None
        self._take_back()
        if connection:
            connection.give_up()

    def _why_late(self, item: _Item) -> LeveretError:
        seconds = self._settings.publish_timeout_seconds
        where = mask(self._settings.amqp_url)
        if self._blocked:
            return publish_errors.blocked(item.id, where, self._blocked, seconds, item.was_sent)
        if self._failure:
            return publish_errors.without_link(item.id, self._failure, f"tried for {seconds:g} s", item.was_sent)
        return publish_errors.not_confirmed(item.id, where, seconds)

    def _fail_waiting(self, error: BrokerError | SettingsError) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for item in waiting:
            self._end(item, publish_errors.without_link(item.id, error, "not tried again", item.was_sent))
