"""Publishing commands to all workers, confirmed by the stream that keeps them."""

from __future__ import annotations

import asyncio
import difflib
import time
from typing import Any

import pika

from leveret.topology import settings
from leveret.topology.access.management import Management
from leveret.topology.errors import AccessRefused, LeveretError, NotRouted, TopologyError
from leveret.topology.link import default_broker
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, new_id
from leveret.topology.names import CONTROL_EXCHANGE, Route, dlq_name, without_level
from leveret.topology.settings import Settings, mask, vhost_of

_HINT_SECONDS = 2.0


def send(key: str, bodies: list[bytes], configured: Settings | None) -> None:
    """Publish commands by this key, and declare what keeps them where that is missing.

    Raises `NotRouted` where it cannot be declared, and for the first that fails what publishing raises.
    """
    if not bodies:
        return
    used = default_broker.resolve(configured or settings.load())
    failures = asyncio.run(publish(used, key, bodies))
    if any(isinstance(failure, NotRouted) for failure in failures):
        from leveret.topology.apply.declare import declare_streams  # kombu, which is needed once

        try:
            declare_streams(used)
        except (AccessRefused, TopologyError) as error:
            raise NotRouted(
                f"nobody keeps this for workers, for exchange {CONTROL_EXCHANGE!r} has no stream for {key!r}, and it "
                f"cannot be declared: {error}. Have who may do that run leveret declare"
            ) from error
        failures = asyncio.run(publish(used, key, bodies))
    for failure in failures:
        if failure:
            raise failure


def check_queue(queue: str, configured: Settings | None = None) -> str:
    """Return the work queue of this name, or the one of which it holds a level: `mail` for `mail.high`.

    Raises `TopologyError` where the broker has no such queue; it says which is nearest, if that is known.
    """
    used = default_broker.resolve(configured or settings.load())
    try:
        return asyncio.run(_find(used, queue))
    except TopologyError as error:
        near = difflib.get_close_matches(queue, _queues(used), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TopologyError(f"there is no queue {queue!r} on the broker at {mask(used.amqp_url)}{hint}") from error


def _queues(configured: Settings) -> list[str]:
    """Return the names of all queues, where the management API tells them."""
    try:
        found = Management(configured, _HINT_SECONDS).call("GET", "queues", vhost_of(configured.first_amqp_url))
    except LeveretError:  # then the error does without a hint
        return []
    return [str(one["name"]) for one in found or ()]


async def _find(configured: Settings, queue: str) -> str:
    connection = await connect(configured, "leveret pause", lambda *_: None)
    try:
        await _look(connection, queue)
        owner = without_level(queue)
        if not owner:
            return queue
        try:
            await _look(connection, dlq_name(queue))
        except TopologyError:  # it has no DLQ of its own, so it is no work queue
            return owner
        return queue
    finally:
        await close(connection)


async def _look(connection: Any, queue: str) -> None:
    asking = Asking(channel := await open_channel(connection), f"queue {queue!r}")
    await asking.ask(lambda answer: channel.queue_declare(queue, passive=True, callback=answer))


async def publish(configured: Settings, key: str, bodies: list[bytes]) -> list[LeveretError | None]:
    """Publish each body; returns how that ended."""
    outbox = Outbox(configured, f"leveret {key}")
    loop = asyncio.get_running_loop()
    ended: list[asyncio.Future[LeveretError | None]] = []
    try:
        for body in bodies:
            properties = pika.BasicProperties(
                message_id=new_id(),
                content_type=CONTENT_TYPE,
                content_encoding=CONTENT_ENCODING,
                delivery_mode=PERSISTENT,
                timestamp=int(time.time()),
            )
            outcome: asyncio.Future[LeveretError | None] = loop.create_future()
            outbox.send(Outgoing(Route(CONTROL_EXCHANGE, key), body, properties), outcome.set_result)
            ended.append(outcome)
        return await asyncio.gather(*ended)
    finally:
        await outbox.close()
