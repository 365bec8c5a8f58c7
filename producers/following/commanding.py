"""Publishing commands to all workers, confirmed by the stream that keeps them."""

from __future__ import annotations

import asyncio
import time

import pika

from leveret.topology import settings
from leveret.topology.errors import AccessRefused, LeveretError, NotRouted, TopologyError
from leveret.topology.link import default_broker
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, new_id
from leveret.topology.names import CONTROL_EXCHANGE, Route
from leveret.topology.settings import Settings


def send(key: str, bodies: list[bytes], configured: Settings | None) -> None:
    """Publish commands by this key, and declare what keeps them where that is missing.

    Raises `NotRouted` where it cannot be declared, and for the first that fails what publishing raises.
    """
    if not bodies:
        return
    used = default_broker.resolve(configured or settings.load())
    failures = asyncio.run(_publish(used, key, bodies))
    if any(isinstance(failure, NotRouted) for failure in failures):
        from leveret.topology.apply.declare import declare_streams  # kombu, which is needed once

        try:
            declare_streams(used)
        except (AccessRefused, TopologyError) as error:
            raise NotRouted(
                f"nobody keeps this for workers, for exchange {CONTROL_EXCHANGE!r} has no stream for {key!r}, and it "
                f"cannot be declared: {error}. Have who may do that run leveret declare"
            ) from error
        failures = asyncio.run(_publish(used, key, bodies))
    for failure in failures:
        if failure:
            raise failure


async def _publish(configured: Settings, key: str, bodies: list[bytes]) -> list[LeveretError | None]:
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
