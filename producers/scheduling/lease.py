"""The lease: the one message that lets its holder fire, and says how far the schedules are.

The broker gives the messages of the queue to one scheduler, and to the next one when that is gone. Every scheduler puts
an empty state there when it starts, so there always is one. Whatever comes is merged, and acknowledged once a state
that holds it is confirmed. Fires go out on the connection that holds the lease: one that was lost publishes nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pika
from pika import exceptions as pika_errors

from leveret.topology import names
from leveret.topology.control import read_schedule_pause
from leveret.topology.errors import LeveretError, UnreadableMessage
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.confirming import Confirming
from leveret.topology.link.exchanges import declare_missing
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.keeping import Losable
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, new_id
from leveret.topology.names import Route
from leveret.topology.printable import printable
from leveret.topology.schedules import LARGEST_STATE_BYTES, SCHEDULES, Pause, State, read_state, write_state
from leveret.topology.settings import Settings

_PREFETCH = 50
_COLLECT_SECONDS = 0.2
"""So long a new holder waits for what else lies in the queue."""
_LONGEST_CONFIRM_SECONDS = 10.0
"""A queue that has lost its majority confirms nothing; the other schedules do not wait for it longer than that."""


class Lease(Losable):
    """One connection on which the lease can be held, until `lost`. Open it first; then await `held`."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        super().__init__(settings, "leveret schedule")
        self._say = say
        self._channel: Any = None
        self._telling: Any = None
        self._confirming: Confirming | None = None
        self._own: deque[str] = deque(maxlen=_PREFETCH)
        """The ids of the last states that were published here."""
        self._merged: list[int] = []
        """What is acknowledged when the next state is confirmed."""
        self.state = State()
        self.held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()
        """Set when something came that the next state has to hold."""

    async def _prepare(self, connection: FastConnection) -> None:
        """Declare, put an empty state there and consume."""
        await declare_missing(connection, SCHEDULES.exchanges)
        what = "the lease of the schedules"
        self._channel = channel = await self._open_channel(what)
        await self._declare(channel, what, SCHEDULES)
        seconds = min(self._settings.publish_timeout_seconds, _LONGEST_CONFIRM_SECONDS)
        self._confirming = confirming = Confirming(connection, seconds)
        connection.add_on_connection_blocked_callback(
            lambda *_: self._say("the broker blocks publishers (an alarm); nothing is fired until that ends")
        )
        (refused,) = await confirming.publish([self._as_message(State(), names.SCHEDULES_BEGIN_KEY)])
        if refused:
            raise refused
        asking = Asking(channel, what, self._end)
        await asking.ask(lambda done: channel.basic_qos(prefetch_count=_PREFETCH, callback=done))
        connection.judge_bodies(channel, lambda size: size <= LARGEST_STATE_BYTES)
        await asking.ask(lambda done: channel.basic_consume(names.SCHEDULES_QUEUE, self._on_message, callback=done))
        self._telling = await open_channel(connection)
        self._telling.add_on_close_callback(self._on_telling_closed)

    async def close(self) -> None:
        """Leave; another scheduler gets the state, or the next one that starts."""
        if self._connection and self._confirming and self._confirming.is_blocked:
            self._connection.give_up()  # the broker would not read a goodbye
        await super().close()

    def give_up(self, reason: LeveretError) -> None:
        """Say that the lease is held no more, unless that is known."""
        self._end(reason)

    async def collect(self) -> None:
        """Wait for what else lies in the queue, when the first has come."""
        await asyncio.wait([self.lost], timeout=_COLLECT_SECONDS)

    async def publish(self, batch: Sequence[Outgoing]) -> list[LeveretError | None]:
        """Publish fires; returns how each ended. Raises `BrokerUnreachable` when the connection is lost meanwhile."""
        assert self._confirming is not None
        return await self._confirming.publish(batch)

    def tell(self, route: Route, body: bytes) -> None:
        """Publish an event. Nobody waits for that."""
        if self._telling is not None and self._telling.is_open:
            properties = pika.BasicProperties(content_type=CONTENT_TYPE, content_encoding=CONTENT_ENCODING)
            self._telling.basic_publish(*route, body, properties)

    async def swap(self) -> None:
        """Put the state there as it is now, and take the former one away. Raises what hinders that."""
        self.changed.clear()
        merged, self._merged = self._merged, []
        message = self._as_message(self.state, names.SCHEDULES_STATE_KEY)
        self._own.append(message.id)
        (refused,) = await self.publish([message])
        if refused:
            raise refused
        for tag in merged if self._channel.is_open else ():
            self._channel.basic_ack(tag)

    def _as_message(self, state: State, key: str) -> Outgoing:
        properties = pika.BasicProperties(
            message_id=new_id(),
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            delivery_mode=PERSISTENT,
        )
        return Outgoing(Route(names.CONTROL_EXCHANGE, key), write_state(state), properties)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._merged.append(method.delivery_tag)
        if properties.message_id in self._own:  # it stays until the next one is confirmed
            return
        try:
            if body is LEFT_OUT:
                raise UnreadableMessage(f"it has more than {LARGEST_STATE_BYTES:,} bytes")
            if method.routing_key == names.SCHEDULES_PAUSE_KEY:
                schedule, is_paused, command = read_schedule_pause(body)
                self.state.say(schedule, Pause(is_paused, command))
                self._say(f"schedule {schedule} {'is paused' if is_paused else 'goes on'} {command}")
            else:
                self.state.merge(read_state(body))
        except UnreadableMessage as error:
            self._say(f"a message of {names.SCHEDULES_QUEUE} is passed over: {error}")
        self.changed.set()
        if not self.held.done():
            self.held.set_result(None)

    def _on_telling_closed(self, _channel: Any, reason: BaseException) -> None:
        """Go on without, for nothing depends on events."""
        if isinstance(reason, pika_errors.ChannelClosedByBroker):
            self._say(f"an event cannot be told any more: {printable(reason.reply_text)}")
