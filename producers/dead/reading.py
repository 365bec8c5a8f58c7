"""Reading a whole DLQ once, as fast as it comes, and leaving every message in it as it was.

Others see what they held before. The broker counts each return of a message, and drops none for it before a million
(`UNREACHABLE_DELIVERY_LIMIT`), where no policy has set that lower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from leveret.producers.dead.letters import DeadMessage, dead_message, holding
from leveret.producers.reading import ALL, Reading, Told, gives_back_uncounted, tell, window_of
from leveret.topology.errors import TopologyError
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.message import check_name
from leveret.topology.settings import Settings

_OLDEST_SECONDS, _AGAIN_SECONDS = 6.0, 0.5
"""A queue reports every five seconds what is held of it."""
_FEW_RETURNS = 1_000

Look = Callable[[DeadMessage], bool | None]
"""Is shown each message; False ends the reading."""


@dataclass(frozen=True)
class Read:
    """How many messages were shown, and how many of the queue others held meanwhile."""

    count: int
    held_by_others: int


async def read(configured: Settings, queue: str, look: Look, at_once: int = ALL) -> Read:
    """Show each dead message of a work queue to `look`, in their order, and leave them all where they are.

    Who wants to see the first few only says how many the broker is to send at once.

    Raises `TopologyError` when the queue has no DLQ, or while a policy would have the broker drop messages for being
    looked at; `BrokerError` when the broker fails.
    """
    name = check_name(holding(queue), "queue")
    opened = await connect(configured, "leveret dead, reading", lambda *_: None)
    try:

        def show(method: Any, properties: Any, body: bytes) -> bool | None:
            return look(dead_message(method, properties, body))

        reading = Reading(opened, await open_channel(opened), name, show)
        told = await tell_surely(configured, reading)
        see_kept(told, opened, name)
        ready = await reading.run(min(at_once, window_of(told.average_bytes)))
        await reading.let_go()
        return Read(reading.count, max(told.held, 0 if reading.is_stopped else ready - reading.count))
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)


def see_kept(told: Told, connection: FastConnection, name: str) -> None:
    """Raise `TopologyError` where this queue would drop messages for being given back."""
    if 0 < told.limit < _FEW_RETURNS and not gives_back_uncounted(connection):
        raise TopologyError(
            f"a policy has the broker drop messages of {name!r} once they were looked at {told.limit} times; take its "
            "delivery-limit away first (rabbitmqctl clear_policy), then look"
        )


async def tell_surely(configured: Settings, reading: Reading) -> Told:
    """Ask the management API about a queue until nobody holds any of it, or those who do cannot have left by now.

    What it says is some seconds old: who was killed a moment ago may hold what it does not know of yet, but then less
    is ready than there is. All is 0 where it does not say.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _OLDEST_SECONDS
    while True:
        told = await asyncio.to_thread(tell, configured, reading.name)
        missing = told.messages - await reading.count_ready()
        if max(told.held, missing) <= 0 or loop.time() > deadline:
            return told._replace(held=max(told.held, missing, 0))
        await asyncio.sleep(_AGAIN_SECONDS)
