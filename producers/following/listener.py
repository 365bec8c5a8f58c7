"""Hearing what is told of tasks as it passes: by a queue that lasts as long as its link, and holds only so much."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from leveret.topology import events
from leveret.topology.errors import LeveretError, TopologyError, UnreadableMessage
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain, explain_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.telling import new_reply_key
from leveret.topology.names import EVENTS_EXCHANGE
from leveret.topology.settings import Settings

MOST_MESSAGES = 10_000
_MOST_BYTES = 64 * 1024 * 1024
_PREFETCH = 100
_WHAT = f"listening on exchange {EVENTS_EXCHANGE!r}"


class Listener:
    """Listens to events of some keys on the running loop. Open it first, and close it at the end.

    Who reads too slowly misses the oldest of what has come since: at most `MOST_MESSAGES` messages wait. What is not
    to be believed is left out, and `on_unreadable` is told why.
    """

    def __init__(self, settings: Settings, keys: Sequence[str], on_unreadable: Callable[[str], None]) -> None:
        self._settings = settings
        self._keys = keys
        self._on_unreadable = on_unreadable
        self._connection: FastConnection | None = None
        self._channel: Any = None
        self._heard: asyncio.Queue[tuple[int, bytes] | LeveretError] = asyncio.Queue()  # as many as the prefetch

    async def open(self) -> None:
        """Connect and listen. Raises `BrokerUnreachable`, `AccessRefused`, `SettingsError` or `TopologyError`."""
        self._connection = connection = await connect(self._settings, "leveret, listening to events", self._on_lost)
        self._channel = channel = await open_channel(connection)
        connection.judge_bodies(channel, lambda size: size <= events.LARGEST_BODY_BYTES)
        asking = Asking(channel, _WHAT)
        name = new_reply_key()
        arguments = {"x-max-length": MOST_MESSAGES, "x-max-length-bytes": _MOST_BYTES, "x-overflow": "drop-head"}
        declared = {"exclusive": True, "auto_delete": True, "arguments": arguments}
        await asking.ask(lambda answer: channel.queue_declare(name, **declared, callback=answer))
        try:
            for key in self._keys:
                bind = functools.partial(channel.queue_bind, name, EVENTS_EXCHANGE, key)
                await asking.ask(functools.partial(_with_callback, bind))
        except TopologyError as error:
            raise TopologyError(f"{error}; leveret declare makes the exchange") from error
        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_PREFETCH, callback=answer))
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(lambda _frame: self._heard.put_nowait(TopologyError("the queue was deleted")))
        await asking.ask(lambda answer: channel.basic_consume(name, self._on_message, callback=answer))

    async def next(self) -> events.Told:
        """Return the events of the next message. Raises `BrokerUnreachable` when the link is lost."""
        while True:
            heard = await self._heard.get()
            if isinstance(heard, LeveretError):
                raise heard
            tag, body = heard
            if self._channel.is_open:
                self._channel.basic_ack(tag)
            if body is LEFT_OUT:
                self._on_unreadable(f"a message of events is larger than {events.LARGEST_BODY_BYTES:,} bytes")
                continue
            try:
                return events.read(body)
            except UnreadableMessage as error:
                self._on_unreadable(str(error))

    async def close(self) -> None:
        """Leave; the queue goes with the link."""
        if self._connection:
            await close(self._connection)

    def _on_message(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        self._heard.put_nowait((method.delivery_tag, body))

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:
        self._heard.put_nowait(explain_channel(reason, _WHAT, self._url))

    def _on_lost(self, connection: FastConnection, reason: BaseException) -> None:
        self._heard.put_nowait(explain(reason, connection.url))

    @property
    def _url(self) -> str:
        return self._connection.url if self._connection else self._settings.first_amqp_url


def _with_callback(method: Callable[..., object], answer: Answer) -> None:
    method(callback=answer)
