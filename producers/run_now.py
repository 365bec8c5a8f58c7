"""Having delayed tasks run now: taking them out of the ladder of delays before their time.

The broker finds no message by its id. So the ladder's queues are read, each as a whole, until the tasks are found: the
longest steps first, for from step to step a message only comes into shorter ones. What is read meanwhile and not meant
is given back in its place, for behind another that is due later it would be late; its time goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from leveret.producers.reading import ALL, WINDOW_OF_UNKNOWN_SIZE, Reading, tell, window_of
from leveret.topology import settings
from leveret.topology.errors import LeveretError, TopologyError
from leveret.topology.ladder import delayed, ladder, without_delay
from leveret.topology.link import daemon_thread, default_broker
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import check_id, own_headers
from leveret.topology.names import DIRECT_EXCHANGE, LATER_TO, Route
from leveret.topology.objects import Queue
from leveret.topology.settings import Settings

_SHORTEST_SECONDS = 1
"""The step by which goes what is to run now; what lies in it comes by itself as soon."""


class _Found(NamedTuple):
    tag: int
    routing_key: str
    properties: Any
    body: bytes


def run_now(*ids: str, configured: Settings | None = None) -> list[str]:
    """Have delayed tasks run now, which is within a second; returns the ids of those that were found.

    The others are not delayed, or come within a second by themselves. Each is confirmed before it leaves the ladder:
    who is killed in between leaves two of it, which come one after the other. Other delayed tasks wait for as long as
    their queue is read, seconds where there are 60,000; further behind, or behind fewer large ones, none is looked at.
    Raises `MessageError` for what is no id, `AccessRefused` for a user who may not read the ladder's queues (those who
    may are of the role topology), `BrokerError` or `PublishError` when the broker fails; what was not confirmed is
    still delayed then.
    """
    wanted = list(dict.fromkeys(check_id(one) for one in ids))
    used = default_broker.resolve(configured or settings.load())
    return daemon_thread.call(lambda: asyncio.run(_run_now(used, wanted)))


async def _run_now(used: Settings, wanted: Sequence[str]) -> list[str]:
    opened = await connect(used, "leveret run-now", lambda *_: None)
    outbox = Outbox(used, "leveret run-now, publishing")
    missing = set(wanted)
    try:
        for queue in _longest_first():
            if not missing:
                break
            try:
                missing -= await _send(used, opened, outbox, queue.name, missing)
            except TopologyError:  # nobody has delayed anything yet, so there is no ladder
                break
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
        await outbox.close()
    return [one for one in wanted if one not in missing]


def _longest_first() -> list[Queue]:
    steps = [queue for queue in ladder().queues if _ttl(queue) > _SHORTEST_SECONDS * 1000]
    return sorted(steps, key=_ttl, reverse=True)


def _ttl(queue: Queue) -> int:
    """Return how long a queue of the ladder keeps a message, in milliseconds; 0 of one that is no step."""
    return int(str(queue.arguments.get("x-message-ttl", 0)))


async def _send(
    used: Settings, connection: FastConnection, outbox: Outbox, name: str, wanted: Collection[str]
) -> set[str]:
    """Send what is meant of this queue on its way again; returns its ids. Raises why one did not go.

    Raises `TopologyError` where there is no such queue.
    """
    found: dict[str, _Found] = {}

    def look(method: Any, properties: Any, body: bytes) -> bool:
        if properties.message_id in wanted:
            found[properties.message_id] = _Found(method.delivery_tag, method.routing_key, properties, body)
        return len(found) < len(wanted)

    channel = await open_channel(connection)
    reading = Reading(connection, channel, name, look)
    window = ready = await reading.count_ready()
    if ready > WINDOW_OF_UNKNOWN_SIZE:
        told = await asyncio.to_thread(tell, used, name)
        window = window_of(told.average_bytes) if told.average_bytes else ALL
    await reading.run(window, most=window)
    outcomes = await asyncio.gather(*(_publish(outbox, one) for one in found.values()))
    await reading.take_out([one.tag for one, error in zip(found.values(), outcomes, strict=True) if error is None])
    await reading.let_go()
    channel.close()
    for error in outcomes:
        if error:
            raise error
    return set(found)


def _publish(outbox: Outbox, found: _Found) -> asyncio.Future[LeveretError | None]:
    """Send a message on its way again, with nothing left of it but the shortest step; the future is how that ended."""
    ended: asyncio.Future[LeveretError | None] = asyncio.get_running_loop().create_future()
    properties = found.properties
    kept = own_headers(properties.headers)
    target = Route(str(kept.get(LATER_TO, DIRECT_EXCHANGE)), found.routing_key)
    route, properties.headers = delayed(target, without_delay(kept), _SHORTEST_SECONDS)
    properties.user_id = None  # another connection's user
    outbox.send(Outgoing(route, found.body, properties), ended.set_result)
    return ended
