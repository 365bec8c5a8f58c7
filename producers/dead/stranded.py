"""Free messages that cannot leave a retry tier, because they left their work queue without being rejected.

A policy with `message-ttl` or `delivery-limit` on a work queue makes them: the broker finds that such a message was in
the work queue before and was not rejected since, takes that for a cycle, and keeps it in its tier, where no client sees
it (`messages_dlx` in the management API). It tries again every 180 s, RabbitMQ's
`dead_letter_worker_publisher_confirm_timeout`. So for that long another queue takes the place of the work queue behind
the tier, and what comes there is published anew. (Tried on RabbitMQ 3.10.8 and 4.3.6: with both queues bound the
message is delivered to the other one, and is kept in the tier all the same.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pika

from leveret.producers.dead.letters import (
    BATCH,
    WHERE_IT_HARMS,
    DeadMessage,
    dead_message,
    publish_again,
    take_out,
)
from leveret.topology.access.management import Management
from leveret.topology.access.policies import TAKING_UNREJECTED, effective_policy
from leveret.topology.errors import TopologyError
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain
from leveret.topology.link.outbox import Outbox
from leveret.topology.names import (
    entrance_exchange,
    failed_exchange,
    is_retry_queue,
    level_queues,
    spells_levels,
    stranded_queue,
)
from leveret.topology.settings import Settings, vhost_of

_PATIENCE_SECONDS = 240.0
_LOOK_SECONDS = 1.0


class _Tier(NamedTuple):
    exchange: str
    key: str
    stranded: int


async def free_stranded(
    configured: Settings, queue: str, tell_of: Callable[[DeadMessage], None] = lambda _dead: None
) -> int:
    """Send what is stranded in the retry tiers of a work queue round again; returns how many are still there.

    That takes up to 180 s, and an account for the management API. What comes back from these tiers meanwhile begins
    anew, too. `tell_of` is called with each message once it is in the work queue. After an interruption, do it again.
    Raises `TopologyError` while a policy would strand them again, and `BrokerError` or `PublishError` when the broker
    fails.
    """
    api, vhost = Management(configured), vhost_of(configured.first_amqp_url)
    has_levels = await asyncio.to_thread(_has_levels, api, vhost, queue)
    waits_in = list(level_queues(queue).values()) if has_levels else [queue]
    stop_at = await asyncio.to_thread(_policy_that_strands, api, vhost, waits_in)
    if stop_at:
        raise TopologyError(
            f"policy {stop_at} is still in force on queue {queue!r} and would strand the messages again; take it away "
            "first (rabbitmqctl clear_policy)"
        )
    opened = await connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    try:
        tiers = await asyncio.to_thread(_stranding, api, vhost, queue)
        detour = _Detour(await open_channel(opened), queue, has_levels, tiers)
        moving = _Moving(await open_channel(opened), outbox, queue, tell_of)
        await detour.open()
        try:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while tiers and time.monotonic() < deadline:
                await moving.run()
                await asyncio.sleep(_LOOK_SECONDS)
                tiers = await asyncio.to_thread(_stranding, api, vhost, queue)
        finally:
            await detour.close()
        await moving.run()
        await detour.remove(is_empty=await moving.count() == 0)
        return sum(tier.stranded for tier in tiers)
    except pika.exceptions.AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
        await outbox.close()


class _Moving:
    """Moves what came by the detour to the work queue, message by message: none is ahead when the rest is counted."""

    def __init__(self, channel: Any, outbox: Outbox, queue: str, tell_of: Callable[[DeadMessage], None]) -> None:
        self._channel = channel
        self._name = stranded_queue(queue)
        self._asking = Asking(channel, f"queue {self._name!r}")
        self._outbox = outbox
        self._queue = queue
        self._tell_of = tell_of

    async def run(self) -> None:
        """Move all there is. Raises `PublishError` for the first that fails."""
        ahead = await self._asking.get(self._name)
        while ahead:
            taken = [dead_message(*ahead)]
            while len(taken) < BATCH and (got := await self._asking.get(self._name)):
                taken.append(dead_message(*got))
            outcomes = await asyncio.gather(*(publish_again(self._outbox, self._queue, dead) for dead in taken))
            moved = [dead for dead, error in zip(taken, outcomes, strict=True) if error is None]
            are = f"confirmed in {self._queue!r}"
            ahead = await take_out(self._channel, self._asking, self._name, moved, are, WHERE_IT_HARMS)
            for dead in moved:
                self._tell_of(dead)
            for error in outcomes:
                if error:
                    raise error

    async def count(self) -> int:
        """Return how many are left."""
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self._name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)


class _Detour:
    """A queue in the place of the work queue behind some of its tiers; durable, so that nothing is lost with us."""

    def __init__(self, channel: Any, queue: str, has_levels: bool, tiers: Sequence[_Tier]) -> None:
        self._channel = channel
        self._queue = queue
        self._has_levels = has_levels
        self._name = stranded_queue(queue)
        self._tiers = tiers
        self._asking = Asking(channel, f"queue {self._name!r}")

    async def open(self) -> None:
        """Declare the queue, lead there what leaves the tiers, and no longer to the work queue."""
        arguments = {"x-queue-type": "quorum"}
        await self._ask(self._channel.queue_declare, self._name, durable=True, arguments=arguments)
        for exchange, key, _ in self._tiers:
            await self._ask(self._channel.queue_bind, self._name, exchange, key)
            await self._ask(self._channel.queue_unbind, self._queue, exchange, key)
            if self._has_levels:
                await self._ask(self._channel.exchange_unbind, entrance_exchange(self._queue), exchange, key)

    async def close(self) -> None:
        """Lead what leaves the tiers to the work queue again."""
        for exchange, key, _ in self._tiers if self._channel.is_open else ():
            if self._has_levels:
                await self._ask(self._channel.exchange_bind, entrance_exchange(self._queue), exchange, key)
            else:
                await self._ask(self._channel.queue_bind, self._queue, exchange, key)
            await self._ask(self._channel.queue_unbind, self._name, exchange, key)

    async def remove(self, is_empty: bool) -> None:
        """Delete the queue, if it is empty; what is in it would be moved by the next one."""
        if is_empty:
            await self._ask(self._channel.queue_delete, self._name)

    async def _ask(self, operation: Callable[..., object], *names: str, **options: object) -> None:
        await self._asking.ask(lambda answer: operation(*names, **options, callback=answer))


def _has_levels(api: Management, vhost: str, queue: str) -> bool:
    described = api.call("GET", "exchanges", vhost, failed_exchange(queue)) or {}
    return spells_levels(str(described.get("arguments", {}).get("alternate-exchange")), queue)


def _policy_that_strands(api: Management, vhost: str, waits_in: Sequence[str]) -> str:
    policies = [effective_policy(api.call("GET", "queues", vhost, name)) for name in waits_in]
    found = {f"{name}={policy[name]}": None for policy in policies for name in TAKING_UNREJECTED if name in policy}
    return ", ".join(found)


def _stranding(api: Management, vhost: str, queue: str) -> list[_Tier]:
    """Return the retry tiers, under whatever retry plan, in which messages are stranded."""
    tiers = []
    for one in api.call("GET", "queues", vhost) or ():
        arguments = one.get("arguments", {})
        if is_retry_queue(one["name"], queue) and "x-dead-letter-routing-key" in arguments:
            exchange, key = arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"]
            tiers.append(_Tier(exchange, key, int(one.get("messages_dlx") or 0)))
    return [tier for tier in tiers if tier.stranded]
