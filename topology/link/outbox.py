"""Messages on their way to the broker, each kept until the broker confirmed it or refused it.

Runs on one asyncio loop. Duties: publish mandatory and persistent with a window of outstanding confirms; send again,
under the same id, what was not confirmed when the link was lost; and tell for every message exactly once how it ended.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import pika

from leveret.topology.errors import BrokerError, LeveretError, SettingsError, Unwritable
from leveret.topology.link import publish_errors
from leveret.topology.link.confirm_link import CLOSED, ConfirmLink
from leveret.topology.names import Route
from leveret.topology.settings import Settings, mask

WINDOW = 1000
"""Outstanding confirms: enough to hide the broker's disk, few enough to send again after a lost link."""
_EXPIRY_CHECK_SECONDS = 0.1

OnPublished = Callable[[LeveretError | None], None]
"""Is told None of a message that was confirmed, and else why not."""


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
    __slots__ = ("deadline", "id", "on_published", "outgoing", "returned", "timeout_seconds", "was_sent")

    def __init__(self, outgoing: Outgoing, deadline: float, timeout_seconds: float, on_published: OnPublished) -> None:
        self.outgoing = outgoing
        self.id: str = outgoing.properties.message_id
        self.deadline = deadline
        self.timeout_seconds = timeout_seconds
        self.on_published = on_published
        self.returned = False
        self.was_sent = False


class Outbox:
    """Publishes with confirms on the running loop; see `OnPublished`."""

    def __init__(self, settings: Settings, role: str) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._link = ConfirmLink(settings, role, self)
        self._waiting: deque[_Item] = deque()
        self._unconfirmed: dict[int, _Item] = {}  # by delivery tag, so in the order of publishing
        self._in_flight: dict[str, _Item] = {}  # by id: a return names no delivery tag
        self._tags = itertools.count(1)
        self._has_given_up = False  # what was told as late may still be on its way on this channel
        self._is_late = False  # something was, and nothing was confirmed since
        self._suspects = 0  # messages that were in flight when the broker closed the channel: sent one by one
        self._is_refusing = False  # RabbitMQ 3.10 may go on refusing on a channel after the cause is gone
        self._expiry: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._unconfirmed)

    @property
    def stuck_because(self) -> str:
        """Why nothing of what is on its way can arrive as things are; empty while it can."""
        if self._link.blocked_because:
            return f"the broker at {mask(self._settings.amqp_url)} blocks publishers ({self._link.blocked_because})"
        return "" if self._link.is_ready else str(self._link.failure or "")

    @property
    def longest_seconds(self) -> float:
        """How long it takes at most until the outcome of everything is known."""
        items = itertools.chain(self._waiting, self._unconfirmed.values())
        return max((item.deadline for item in items), default=self._loop.time()) - self._loop.time()

    def send(self, outgoing: Outgoing, on_published: OnPublished, timeout_seconds: float | None = None) -> None:
        """Take a message; its outcome follows within the timeout, by default the publish timeout of the settings."""
        seconds = self._settings.publish_timeout_seconds if timeout_seconds is None else timeout_seconds
        self._waiting.append(_Item(outgoing, self._loop.time() + seconds, seconds, on_published))
        if self._expiry is None:
            self._expiry = self._loop.call_later(_EXPIRY_CHECK_SECONDS, self._expire)
        self._pump()

    async def close(self, wait: bool = False) -> None:
        """Close the connection, after waiting for every outcome if asked to; what is unconfirmed ends in an error."""
        if wait and self:
            self._emptied = self._loop.create_future()
            await self._emptied
        is_silent = bool(self._link.blocked_because or self._unconfirmed)
        if self._expiry:
            self._expiry.cancel()
        self.give_up()
        await self._link.close(is_silent)

    def give_up(self) -> None:
        """End what is on its way in an error, as if its time was over."""
        self._expire(everything=True)

    def on_ready(self) -> None:
        """Go on publishing."""
        self._pump()

    def on_refused(self, error: BrokerError | SettingsError) -> None:
        """End what waits, for the broker will not let us in."""
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            self._end(item, publish_errors.without_link(item.id, error, "not tried again", item.was_sent))

    def on_confirm(self, last_tag: int, multiple: bool, refused: bool) -> None:
        """End what this is about, and go on publishing."""
        self._is_refusing = self._is_refusing or refused
        self._is_late = False
        tags = list(itertools.takewhile(lambda tag: tag <= last_tag, self._unconfirmed)) if multiple else [last_tag]
        for tag in tags:
            item = self._unconfirmed.pop(tag, None)
            if item:
                del self._in_flight[item.id]
                self._suspects = max(0, self._suspects - 1)
                self._end(item, self._judge(item, refused))
        self._pump()

    def on_return(self, message_id: str, exchange: str, routing_key: str) -> None:
        """Note that a message came back; the confirm of a returned message follows, and ends it."""
        item = self._in_flight.get(message_id)
        # One that was given up may have gone another way under the same id.
        if item and item.outgoing.route == (exchange, routing_key):
            item.returned = True

    def on_channel_lost(self, closed_by_broker: tuple[int, str] | None) -> None:
        """Blame the only suspect, if the broker closed the channel; send the rest again."""
        if closed_by_broker:
            if len(self._unconfirmed) == 1 and not self._has_given_up:
                _, item = self._unconfirmed.popitem()
                self._in_flight.clear()
                self._suspects = max(0, self._suspects - 1)
                self._end(item, publish_errors.channel_closed(item.id, item.outgoing.route, *closed_by_broker))
            self._suspects = max(self._suspects, len(self._unconfirmed))
        self._take_back()
        self._pump()

    def _pump(self) -> None:
        if not self._link.is_ready:
            if self._waiting:
                self._link.want()
            return
        if self._is_refusing:
            if not self._unconfirmed:
                self._link.change_channel()
                self._begin_channel()
                self._pump()
            return
        window = 1 if self._suspects else WINDOW
        while self._waiting and len(self._unconfirmed) < window and not self._link.blocked_because:
            item = self._waiting[0]
            if item.id in self._in_flight:
                break  # the same message twice: a return could not be told apart
            self._waiting.popleft()
            outgoing = item.outgoing
            try:
                self._link.publish(*outgoing.route, outgoing.body, outgoing.properties)
            except CLOSED:
                self._waiting.appendleft(item)
                return
            except Exception as error:  # noqa: BLE001 - properties that pika cannot encode, of whatever type
                self._end(item, Unwritable(f"message {item.id} cannot be written: {error}", item.id))
                continue
            item.was_sent = True
            self._unconfirmed[next(self._tags)] = self._in_flight[item.id] = item
        self._link.send_written()

    def _begin_channel(self) -> None:
        self._tags, self._has_given_up, self._is_refusing, self._is_late = itertools.count(1), False, False, False

    def _end(self, item: _Item, outcome: LeveretError | None) -> None:
        item.on_published(outcome)
        if self._emptied and not self and not self._emptied.done():
            self._emptied.set_result(None)

    def _judge(self, item: _Item, refused: bool) -> LeveretError | None:
        if item.returned:
            return publish_errors.not_routed(item.id, item.outgoing.route)
        return publish_errors.nacked(item.id, item.outgoing.route) if refused else None

    def _take_back(self) -> None:
        """Put what was not confirmed back in front, to be sent again under the same id on another channel."""
        self._begin_channel()
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        for item in self._unconfirmed.values():
            item.returned = False
        self._unconfirmed.clear()
        self._in_flight.clear()

    def _expire(self, everything: bool = False) -> None:
        now = float("inf") if everything else self._loop.time()
        late = [(tag, item) for tag, item in self._unconfirmed.items() if item.deadline <= now]
        for tag, item in late:
            # Its tag is not given to another message, so a confirm that still comes is nobody's.
            del self._unconfirmed[tag], self._in_flight[item.id]
            self._has_given_up = self._is_late = True
            self._suspects = max(0, self._suspects - 1)
            self._end(item, self._why_late(item))
        unsent = [item for item in self._waiting if item.deadline <= now]
        if unsent:
            self._waiting = deque(item for item in self._waiting if item.deadline > now)
        for item in unsent:
            self._end(item, self._why_late(item))
        is_silent = self._link.silent_seconds >= self._settings.publish_timeout_seconds
        if self._is_late and is_silent and not self._link.blocked_because:  # what has time left goes by another link
            self._link.give_up()
            self._take_back()
        if everything:
            return
        self._pump()
        self._expiry = self._loop.call_later(_EXPIRY_CHECK_SECONDS, self._expire) if self else None

    def _why_late(self, item: _Item) -> LeveretError:
        seconds = item.timeout_seconds
        where = mask(self._settings.amqp_url)
        if self._link.blocked_because:
            return publish_errors.blocked(item.id, where, self._link.blocked_because, seconds, item.was_sent)
        if self._link.failure:
            return publish_errors.without_link(item.id, self._link.failure, f"tried for {seconds:g} s", item.was_sent)
        if not item.was_sent:
            return publish_errors.not_sent(item.id, where, seconds, self._link.is_ready)
        return publish_errors.not_confirmed(item.id, where, seconds)
