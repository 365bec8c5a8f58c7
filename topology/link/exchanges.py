"""Having exchanges that somebody else may have declared already."""

from __future__ import annotations

from collections.abc import Iterable

from leveret.topology.errors import TopologyError
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.objects import Exchange


async def declare_missing(connection: FastConnection, exchanges: Iterable[Exchange]) -> None:
    """Declare the exchanges that are not there; looking for them takes no right.

    Raises `BrokerUnreachable`, or `AccessRefused` where one is missing and may not be declared.
    """
    for exchange in exchanges:
        for is_passive in (True, False):
            channel = await open_channel(connection)

            def send(done: Answer, one: Exchange = exchange, passive: bool = is_passive, on: object = channel) -> None:
                on.exchange_declare(one.name, one.type, passive=passive, durable=True, callback=done)  # type: ignore[attr-defined]

            try:
                await Asking(channel, f"exchange {exchange.name!r}").ask(send)
            except TopologyError:
                if not is_passive:
                    raise
            else:
                channel.close()
                break
