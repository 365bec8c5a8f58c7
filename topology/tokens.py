"""The tokens of limits on the broker: making them once, as many as the limit says, and no more when it changes.

Whoever makes or changes tokens has a lock meanwhile: an exclusive queue, which ends with its connection. What belongs
together is one transaction, so that a process that dies amid it has done all or nothing. How many tokens there are
stands in a queue beside them, for nobody can count those that workers hold. A limit becomes smaller by debts: whoever
takes one acknowledges it together with a token, and both are gone.

    at once:     tasks.limit.mail.at-once ──taken──▶ held while the task runs ──given back──▶ the same queue
    per second:  tasks.limit.mail.per.1s ──spent: nack──▶ tasks.limit.mail.spent.1050ms ──TTL──▶ tasks.limits ──▶ back

Tokens for tasks at once lie in a classic queue: a quorum queue counts how often a message is given back, and could not
forget that. Those of rates go in a circle of quorum queues, which loses none of them.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pika

from leveret.topology import names, registry
from leveret.topology.errors import BrokerUnreachable, TopologyError
from leveret.topology.limits import KEYS_LIVE_SECONDS, Tokens
from leveret.topology.link import daemon_thread
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain, explain_channel
from leveret.topology.message import CONTENT_TYPE, PERSISTENT
from leveret.topology.objects import UNREACHABLE_DELIVERY_LIMIT
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

TOKEN, DEBT = "token", "debt"
"""What AMQP's `type` says of a message in a queue of tokens."""
_LOCKED = 405
_LOCK_SECONDS = 30.0
_LOOKS, _LOOK_PAUSE_SECONDS = 3, 0.1


def declare_tokens(settings: Settings, queues: Sequence[WorkQueue]) -> None:
    """Make the tokens of these queues and their tasks, or change how many there are.

    Raises `BrokerUnreachable`, `AccessRefused` or `TopologyError`.
    """
    found = registry.tokens_of(queues)
    if found:
        longest = longest_seconds(queues)
        daemon_thread.call(lambda: asyncio.run(_declare(settings, found, longest)))


def longest_seconds(queues: Iterable[WorkQueue]) -> float:
    """Return how long a token may be held by a task of these queues."""
    task = registry.longest_time_limit(queue.name for queue in queues)
    return task.time_limit if task else 0.0


async def _declare(settings: Settings, found: Sequence[Tokens], longest: float) -> None:
    connection = await connect(settings, "leveret declare", lambda _connection, _reason: None)
    try:
        for tokens in found:
            await make(connection, tokens, longest, may_change=True)
    finally:
        await close(connection)


def count_tokens(settings: Settings, queues: Sequence[WorkQueue]) -> list[tuple[Tokens, bool, int | None]]:
    """Return of the tokens of these queues and their tasks whether they are there, and how many; None is not known.

    Raises `BrokerUnreachable`, `AccessRefused` or `TopologyError`.
    """
    return asyncio.run(_count(settings, registry.tokens_of(queues)))


async def _count(settings: Settings, found: Sequence[Tokens]) -> list[tuple[Tokens, bool, int | None]]:
    connection = await connect(settings, "leveret plan, limits", lambda _connection, _reason: None)
    try:
        channel = await open_channel(connection)
        counted = []
        for tokens in found:
            asking = Asking(channel, f"queue {names.token_count(tokens.queue)!r}")
            is_there, count = await _Making(connection, channel, asking, tokens, 0.0).look()
            counted.append((tokens, is_there, count))
        return counted
    except pika.exceptions.AMQPError as error:  # the broker left between two steps
        raise explain(error, connection.url) from error
    finally:
        await close(connection)


async def make(connection: Any, tokens: Tokens, longest: float, may_change: bool = False) -> None:
    """See that there are tokens, as many as the limit says; where there are, change that only if it may be.

    Tokens that have vanished are replaced `longest` seconds later, for the tasks that held them may still run.
    Raises `BrokerUnreachable`, `AccessRefused` or `TopologyError`.
    """
    lock = names.token_lock(tokens.queue)
    channel, asking = await _lock(connection, lock)
    try:
        await _Making(connection, channel, asking, tokens, longest).make(may_change)
    except pika.exceptions.AMQPError as error:  # the channel was closed between two steps
        raise explain_channel(error, f"the tokens of limit {tokens.limit!r}", connection.url) from error
    finally:
        if channel.is_open:
            channel.queue_delete(lock)
            channel.close()


async def _lock(connection: Any, name: str) -> tuple[Any, Asking]:
    """Have the lock; returns the channel on which everything is to be done, so that the lock goes last."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        channel = await open_channel(connection)
        codes: list[int] = []
        channel.add_on_close_callback(lambda _channel, why, codes=codes: codes.append(getattr(why, "reply_code", 0)))
        asking = Asking(channel, f"queue {name!r}")
        try:
            await asking.ask(functools.partial(_declare_exclusive, channel, name))
            return channel, asking
        except BrokerUnreachable:
            if _LOCKED not in codes or time.monotonic() > until:
                raise
        await asyncio.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - not all at the same moment


def _declare_exclusive(channel: Any, name: str, answer: Answer) -> None:
    channel.queue_declare(name, exclusive=True, arguments={"x-queue-type": "classic"}, callback=answer)


class _Making:
    """Makes the tokens of one queue, with the lock."""

    def __init__(self, connection: Any, channel: Any, asking: Asking, tokens: Tokens, longest: float) -> None:
        self._connection = connection
        self._channel = channel
        self._asking = asking
        self._tokens = tokens
        self._count_queue = "" if tokens.has_key else names.token_count(tokens.queue)
        self._longest = longest

    async def make(self, may_change: bool) -> None:
        """Look, and do what is missing."""
        is_there = await self._ready(self._tokens.queue) is not None
        if not self._count_queue:
            if not is_there:
                await self._begin()
            return
        was_there = await self._ready(self._count_queue)
        if not is_there:
            await self._begin(were_lost=bool(was_there))
            return
        found = await self._read_count() if was_there else None
        if found is None:
            await self._begin(were_lost=True)
            return
        tag, count = found
        if count != self._tokens.count and may_change:
            await self._change(tag, count)
            return
        self._channel.basic_nack(tag, requeue=True)
        if self._tokens.period_seconds is not None:
            await self._take_surplus()

    async def look(self) -> tuple[bool, int | None]:
        """Return whether they are there, and how many; None where that is not known."""
        if await self._ready(self._tokens.queue) is None:
            return False, None
        found = await self._read_count() if await self._ready(self._count_queue) else None
        if found is None:
            return True, None
        self._channel.basic_nack(found[0], requeue=True)
        return True, found[1]

    async def _begin(self, were_lost: bool = False) -> None:
        """Make all of it anew."""
        tokens, channel = self._tokens, self._channel
        away = tokens.back_after_seconds or (max(1.0, round(self._longest)) if were_lost else None)
        await self._ask(channel.exchange_declare, names.LIMITS_EXCHANGE, "direct", durable=True)
        spent = names.spent_tokens(tokens.limit, away) if away else ""
        if away:
            if not tokens.has_key:
                await self._ask(channel.queue_delete, spent)
            await self._ask(channel.exchange_declare, spent, "fanout", durable=True)
            await self._ask(channel.queue_declare, spent, durable=True, arguments=_spent_arguments(tokens, away))
            await self._ask(channel.queue_bind, spent, spent)
        if self._count_queue:
            for name in (self._count_queue, tokens.queue):
                await self._ask(channel.queue_delete, name)
            await self._declare_bound(self._count_queue, {"x-queue-type": "classic"})
        await self._ask(channel.tx_select)
        # In one piece: where the queue of tokens is, they are.
        channel.queue_declare(tokens.queue, durable=True, arguments=_arguments(tokens, spent))
        channel.queue_bind(tokens.queue, names.LIMITS_EXCHANGE, tokens.queue)
        self._publish(TOKEN, tokens.count, exchange=spent if were_lost else names.LIMITS_EXCHANGE)
        self._publish_count()
        await self._ask(channel.tx_commit)

    async def _change(self, tag: int, count: int) -> None:
        """Make so many more tokens, or debts for those that are too many."""
        more = self._tokens.count - count
        await self._ask(self._channel.tx_select)
        self._publish(TOKEN if more > 0 else DEBT, abs(more))
        self._publish_count()
        self._channel.basic_ack(tag)
        await self._ask(self._channel.tx_commit)

    async def _take_surplus(self) -> None:
        """Take away what a broker that died has doubled: it dead-letters at least once.

        A token that moves between two looks may seem to be two, so the fewest of several looks count.
        """
        surplus = self._tokens.count
        spent = names.spent_tokens(self._tokens.limit, self._tokens.back_after_seconds or 0.0)
        for _ in range(_LOOKS):
            ready, away = await self._ready(self._tokens.queue), await self._ready(spent)
            surplus = min(surplus, (ready or 0) + (away or 0) - self._tokens.count)
            if surplus <= 0:
                return
            await asyncio.sleep(_LOOK_PAUSE_SECONDS)
        for _ in range(surplus):
            if (got := await self._asking.get(self._tokens.queue)) is None:
                return
            self._channel.basic_ack(got.method.delivery_tag)

    async def _ready(self, name: str) -> int | None:
        """Return how many messages are ready in a queue; None where it is not there."""
        channel = await open_channel(self._connection)
        asking = Asking(channel, f"queue {name!r}")
        try:
            answer = await asking.ask(lambda answer: channel.queue_declare(name, passive=True, callback=answer))
        except TopologyError:
            return None
        channel.close()
        return int(answer.method.message_count)

    async def _read_count(self) -> tuple[int, int] | None:
        """Return how many tokens there are, with the tag of the message that says so; None where none does."""
        for _ in range(_LOOKS):
            got = await self._asking.get(self._count_queue)
            if got:
                try:
                    return got.method.delivery_tag, int(json.loads(got.body)["tokens"])
                except (ValueError, KeyError, TypeError):
                    return None
            await asyncio.sleep(_LOOK_PAUSE_SECONDS)  # one who died with the lock may not have given it back yet
        return None

    async def _declare_bound(self, name: str, arguments: dict[str, object]) -> None:
        await self._ask(self._channel.queue_declare, name, durable=True, arguments=arguments)
        await self._ask(self._channel.queue_bind, name, names.LIMITS_EXCHANGE, name)

    def _publish(self, kind: str, count: int, exchange: str = names.LIMITS_EXCHANGE) -> None:
        priority = 1 if kind == DEBT else 0  # a debt is to be paid before a task begins
        properties = pika.BasicProperties(type=kind, delivery_mode=PERSISTENT, priority=priority)
        for _ in range(count):
            self._channel.basic_publish(exchange, self._tokens.queue, b"", properties)

    def _publish_count(self) -> None:
        if self._count_queue:
            properties = pika.BasicProperties(content_type=CONTENT_TYPE, delivery_mode=PERSISTENT)
            body = json.dumps({"version": 1, "tokens": self._tokens.count}).encode()
            self._channel.basic_publish(names.LIMITS_EXCHANGE, self._count_queue, body, properties)

    def _ask(self, method: Callable[..., object], *values: object, **named: object) -> Awaitable[Any]:
        return self._asking.ask(lambda answer: method(*values, **named, callback=answer))


def _arguments(tokens: Tokens, spent: str) -> dict[str, object]:
    """Return the arguments of a queue of tokens; nobody takes from that of a key for hours, and it is gone."""
    expires = {"x-expires": KEYS_LIVE_SECONDS * 1000} if tokens.has_key else {}
    if tokens.period_seconds is None:
        return {"x-queue-type": "classic", "x-max-priority": 1, **expires}
    return {**_circle(spent), **expires}


def _spent_arguments(tokens: Tokens, away: float) -> dict[str, object]:
    """Return the arguments of the queue from which tokens come back: of those that had vanished, once."""
    arguments = {**_circle(names.LIMITS_EXCHANGE), "x-message-ttl": round(away * 1000)}
    if tokens.period_seconds is None:
        arguments["x-expires"] = round(away * 1000) + KEYS_LIVE_SECONDS * 1000
    return arguments


def _circle(exchange: str) -> dict[str, object]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
