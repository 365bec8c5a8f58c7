"""A channel in confirm mode, with its connection: opened when first wanted, and again when either is lost.

What it hears it tells its listener. Nothing of a channel or connection that was given up is told any more.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, Protocol

from pika import exceptions as pika_errors

from leveret.topology.errors import AccessRefused, BrokerError, SettingsError
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import Pauses, close, connect
from leveret.topology.link.explaining import explain
from leveret.topology.printable import printable
from leveret.topology.settings import Settings

Publish = Callable[[str, str, bytes, Any], None]
"""Takes exchange, routing key, body and properties."""
CLOSED = (pika_errors.ChannelWrongStateError, pika_errors.ConnectionWrongStateError)
"""What publishing raises when the channel was closed this moment, which will be told."""


class Listener(Protocol):
    """Who publishes on the link."""

    def on_ready(self) -> None:
        """There is a channel, or publishing is possible again."""

    def on_refused(self, error: BrokerError | SettingsError) -> None:
        """The broker does not let us in, and trying again cannot help."""

    def on_confirm(self, last_tag: int, multiple: bool, refused: bool) -> None:
        """A message was confirmed or refused; with `multiple` all up to it."""

    def on_return(self, message_id: str, exchange: str, routing_key: str) -> None:
        """A message came back; its confirm follows."""

    def on_channel_lost(self, closed_by_broker: tuple[int, str] | None) -> None:
        """The channel is gone, and with it all that was not confirmed; the code and text if the broker closed it."""


def _publish_nothing(*_: Any) -> None:
    raise pika_errors.ChannelWrongStateError("no channel was opened yet")


class ConfirmLink:
    """Publishes on the running loop; see `Listener` for what comes back."""

    def __init__(self, settings: Settings, role: str, listener: Listener) -> None:
        self._settings = settings
        self._role = role
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connection: Any = None
        self._channel: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._pauses = Pauses()
        self._heard = 0.0
        self.blocked_because = ""
        """The alarm for which the broker reads nothing of what is published; empty while there is none."""
        self.failure: BrokerError | None = None
        """Why there is no channel."""
        self.publish: Publish = _publish_nothing
        """Publishes mandatory on the channel of the moment; see `FastConnection.publish`."""

    @property
    def is_ready(self) -> bool:
        """Whether there is a channel to publish on; else one is being opened, if it was wanted."""
        return self._channel is not None

    @property
    def silent_seconds(self) -> float:
        """How long ago the broker showed that it confirms on this channel."""
        return self._loop.time() - self._heard

    def want(self) -> None:
        """Open what is missing, however long that takes."""
        if self._channel is None and self._opening is None:
            self._opening = self._loop.create_task(self._open())

    def send_written(self) -> None:
        """Send what was published so far, without waiting for more."""
        if self._connection:
            self._connection.send_written()

    def change_channel(self) -> None:
        """Leave the channel for another one of the same connection."""
        channel, self._channel = self._channel, None
        if channel and channel.is_open:
            channel.close()

    def give_up(self) -> None:
        """Leave the connection without a goodbye, which would not be answered."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection:
            connection.give_up()

    async def close(self, is_silent: bool) -> None:
        """Close; without a goodbye where the broker owes answers it does not give."""
        if self._opening:
            self._opening.cancel()
            await asyncio.wait([self._opening])  # or the loop may end before it does
        if is_silent:
            self.give_up()
        connection, self._connection, self._channel = self._connection, None, None
        if connection:
            await close(connection)

    async def _open(self) -> None:
        while True:
            if self._connection is None and (seconds := self._pauses.next_seconds()):
                await asyncio.sleep(seconds)
            try:
                if self._connection is None:
                    await self._connect()
                connection = self._connection
                self._begin(connection, await open_channel(connection))
            except (AccessRefused, SettingsError) as error:  # trying again cannot help
                self._opening, self._pauses = None, Pauses()
                self._listener.on_refused(error)
                return
            except BrokerError as error:
                self.failure = error
                self.give_up()  # the connection may be open, and only refuse a channel
            else:
                self._listener.on_ready()
                return

    async def _connect(self) -> None:
        self._connection = await connect(self._settings, self._role, self._on_lost)
        self.blocked_because = ""  # the former one heard of it; this one is told when it publishes
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _begin(self, connection: Any, channel: Any) -> None:
        def on_confirm(last_tag: int, multiple: bool, refused: bool) -> None:
            if channel is self._channel:  # else it was given up, and its tags are those of other messages now
                self._heard = self._loop.time()
                self._listener.on_confirm(last_tag, multiple, refused)

        try:
            connection.on_confirms(channel, on_confirm)
        except CLOSED as error:  # together with the answer that it is open
            raise explain(error, connection.url) from error
        connection.judge_bodies(channel, lambda _size: False)  # what comes back is known here
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_channel_closed)
        self.publish = functools.partial(connection.publish, channel)
        self._channel, self._opening, self.failure, self._heard = channel, None, None, self._loop.time()
        self._pauses.on_open()

    def _on_return(self, channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        if channel is self._channel:
            self._listener.on_return(properties.message_id, method.exchange, method.routing_key)

    def _on_blocked(self, connection: Any, frame: Any) -> None:
        if connection is self._connection:
            self.blocked_because = printable(frame.method.reason or "an alarm")

    def _on_unblocked(self, connection: Any, _frame: Any) -> None:
        if connection is self._connection:
            self.blocked_because = ""
            self._heard = self._loop.time()
            self._listener.on_ready()

    def _on_lost(self, connection: Any, _error: BaseException) -> None:
        if connection is self._connection:
            self._connection = self._channel = None
            self.blocked_because = ""
            self._listener.on_channel_lost(None)

    def _on_channel_closed(self, channel: Any, reason: BaseException) -> None:
        if channel is self._channel:
            self._channel = None
            if isinstance(reason, pika_errors.ChannelClosedByBroker):
                self._listener.on_channel_lost((reason.reply_code, printable(reason.reply_text)))
            else:
                self._listener.on_channel_lost(None)
