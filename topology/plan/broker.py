"""Asking the broker for one thing after the other, to change what it has; with the lock that only one may hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from leveret.topology import names
from leveret.topology.errors import BrokerUnreachable, TopologyError
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.objects import Binding, Exchange, Queue

_LOCKED = "RESOURCE_LOCKED"
_LOCK_SECONDS, _LOCK_PAUSE_SECONDS = 3.0, 0.1
"""So long the lock of one that was killed may be there after it."""


class Broker:
    """A connection on which exchanges, queues and bindings change."""

    def __init__(self, connection: FastConnection) -> None:
        self.connection = connection
        self._channel: Any = None

    async def ask(self, operation: str, **options: Any) -> Any:
        """Have an operation of a channel done; returns the answer. Raises what the broker refuses it with."""
        what = str(options.get("queue") or options.get("destination") or options.get("exchange"))
        if self._channel is None or not self._channel.is_open:
            self._channel = await open_channel(self.connection)
        channel = self._channel
        return await Asking(channel, repr(what)).ask(lambda done: getattr(channel, operation)(**options, callback=done))

    async def lock(self) -> None:
        """Be the only one who applies, until the connection ends. Raises `TopologyError` where another one does."""
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                lock = names.APPLY_LOCK_QUEUE
                await self.ask("queue_declare", queue=lock, exclusive=True, arguments={"x-queue-type": "classic"})
            except BrokerUnreachable as error:
                if _LOCKED not in str(error):
                    raise
                if time.monotonic() > until:
                    raise TopologyError(
                        "another leveret apply is at work in this virtual host; wait for its end, then look again: "
                        "leveret plan"
                    ) from error
            else:
                return
            await asyncio.sleep(_LOCK_PAUSE_SECONDS)

    async def ready(self, queue: str) -> int | None:
        """Return how many messages are ready in a queue; None where it is not there."""
        try:
            return int((await self.ask("queue_declare", queue=queue, passive=True)).method.message_count)
        except TopologyError:
            return None

    async def has_exchange(self, name: str) -> bool:
        """Whether there is an exchange of this name."""
        try:
            await self.ask("exchange_declare", exchange=name, passive=True)
        except TopologyError:
            return False
        return True

    async def declare_queue(self, queue: Queue) -> None:
        """Declare a queue."""
        await self.ask("queue_declare", queue=queue.name, durable=True, arguments=dict(queue.arguments))

    async def declare_exchange(self, exchange: Exchange) -> None:
        """Declare an exchange."""
        await self.ask(
            "exchange_declare",
            exchange=exchange.name,
            exchange_type=exchange.type,
            durable=True,
            internal=exchange.internal,
            arguments=dict(exchange.arguments),
        )

    async def bind(self, bindings: Iterable[Binding]) -> None:
        """Bind; what is bound already stays so."""
        for one in bindings:
            await self._bind("bind", one)

    async def unbind(self, bindings: Iterable[Binding]) -> None:
        """Unbind what may be bound."""
        for one in bindings:
            await self._bind("unbind", one)

    async def _bind(self, verb: str, binding: Binding) -> None:
        name, exchange, key, arguments, is_exchange = binding
        ends = {"destination": name, "source": exchange} if is_exchange else {"queue": name, "exchange": exchange}
        await self.ask(
            f"{'exchange' if is_exchange else 'queue'}_{verb}", **ends, routing_key=key, arguments=dict(arguments)
        )
