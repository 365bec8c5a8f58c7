"""Publishing on one channel of a connection that also does something else, and awaiting what the broker says.

An outbox sends again over another connection what the link has lost. Here nothing outlives the connection, for whoever
publishes may do so only as long as it holds something there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from pika import exceptions as pika_errors

from leveret.topology.errors import LeveretError, Nacked, Unwritable
from leveret.topology.link import publish_errors
from leveret.topology.link.asking import open_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import Outgoing
from leveret.topology.printable import printable
from leveret.topology.settings import mask

_Ended = asyncio.Future[LeveretError | None]


class Confirming:
    """Publishes one batch at a time, mandatory, on a channel in confirm mode. Open it first."""

    def __init__(self, connection: FastConnection, timeout_seconds: float) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._channel: Any = None
        self._tags = itertools.count(1)
        self._unconfirmed: dict[int, tuple[Outgoing, _Ended]] = {}
        self._returned: set[str] = set()
        self._closed_because: BaseException | None = None
        self.is_blocked = False
        """Whether an alarm keeps the broker from reading what is published; then nothing is late."""
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))

    async def open(self) -> None:
        """Open the channel. Raises `BrokerUnreachable`."""
        channel = await open_channel(self._connection)
        self._connection.on_confirms(channel, lambda *confirm: self._on_confirm(channel, *confirm))
        self._connection.judge_bodies(channel, lambda _size: False)  # what comes back is known here
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(self._on_close)
        self._channel, self._tags, self._closed_because = channel, itertools.count(1), None

    async def publish(self, batch: Sequence[Outgoing]) -> list[LeveretError | None]:
        """Publish messages of different ids, and return how each ended: None for one that is confirmed.

        When one of them makes the broker close the channel, the others are sent again, one by one under the same id.
        """
        ended = await self._publish_together(batch)
        for number in [number for number, outcome in enumerate(ended) if isinstance(outcome, _ChannelClosed)]:
            (ended[number],) = await self._publish_together([batch[number]])
        return [
            outcome.of(outgoing) if isinstance(outcome, _ChannelClosed) else outcome
            for outgoing, outcome in zip(batch, ended, strict=True)
        ]

    async def _publish_together(self, batch: Sequence[Outgoing]) -> list[LeveretError | None]:
        if self._channel is None or not self._channel.is_open:
            await self.open()
        loop = asyncio.get_running_loop()
        endings: list[_Ended] = [loop.create_future() for _ in batch]
        self._returned.clear()
        for outgoing, ending in zip(batch, endings, strict=True):
            try:
                self._connection.publish(self._channel, *outgoing.route, outgoing.body, outgoing.properties)
            except (pika_errors.ChannelWrongStateError, pika_errors.ConnectionWrongStateError) as error:
                ending.set_result(_ChannelClosed(self._closed_because or error))
            except Exception as error:  # noqa: BLE001 - properties that pika cannot encode, of whatever type
                ending.set_result(Unwritable(f"message {outgoing.id} cannot be written: {error}", outgoing.id))
            else:
                self._unconfirmed[next(self._tags)] = outgoing, ending
        self._connection.send_written()
        waiting = set(endings)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=self._timeout_seconds)
            if not done and not self.is_blocked:
                break
        for tag, (outgoing, ending) in list(self._unconfirmed.items()):
            if not ending.done():
                del self._unconfirmed[tag]
                where = mask(self._connection.url)
                ending.set_result(publish_errors.not_confirmed(outgoing.id, where, self._timeout_seconds))
        ended = [ending.result() for ending in endings]
        if any(isinstance(outcome, Nacked) for outcome in ended) and self._channel.is_open:
            self._channel.close()  # RabbitMQ 3.10 may go on refusing on a channel after the cause is gone
        return ended

    def _on_confirm(self, channel: Any, last_tag: int, multiple: bool, refused: bool) -> None:
        if channel is not self._channel:  # its tags are those of other messages now
            return
        tags = [tag for tag in self._unconfirmed if tag <= last_tag] if multiple else [last_tag]
        for tag in tags:
            outgoing, ending = self._unconfirmed.pop(tag, (None, None))
            if outgoing is None or ending is None:
                continue
            if outgoing.id in self._returned:
                ending.set_result(publish_errors.not_routed(outgoing.id, outgoing.route))
            else:
                ending.set_result(publish_errors.nacked(outgoing.id, outgoing.route) if refused else None)

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self._returned.add(properties.message_id)

    def _on_close(self, channel: Any, reason: BaseException) -> None:
        if channel is self._channel:
            self._closed_because = reason
            unconfirmed, self._unconfirmed = self._unconfirmed, {}
            for _, ending in unconfirmed.values():
                ending.set_result(_ChannelClosed(reason))

    def _set_blocked(self, is_blocked: bool) -> None:
        self.is_blocked = is_blocked


class _ChannelClosed(LeveretError):
    """The channel was closed before a message was confirmed."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(printable(reason))
        self._code, self._text = getattr(reason, "reply_code", 0), printable(getattr(reason, "reply_text", reason))

    def of(self, outgoing: Outgoing) -> LeveretError:
        """Say it of a message that was alone on the channel."""
        return publish_errors.channel_closed(outgoing.id, outgoing.route, self._code, self._text)
