"""The table of everything that exists on the broker, as values. `apply` brings a broker to it, nothing else does.

What a failed message meets, for a queue `words` with retry delays of 5 and 30 seconds:

    words ──nack──▶ words.failed (direct) ──words@3──▶ words.dlq
                      │        └──────────────words@2──▶ words.retry.2.after.30s ──TTL──▶ tasks.again as words@3
                      └─ any other key: words.failed.first.after.5s-30s (fanout, its alternate exchange)
                                                      ──▶ words.retry.1.after.5s  ──TTL──▶ tasks.again as words@2

The routing key is the attempt counter, so a nack is all a worker has to send. Whoever may write to `tasks.again` can
make a message any attempt, and to `tasks.dead` bury one; so these are exchanges of their own, with rights of their own.

With priorities whatever leads to `words` leads to `words.in` (headers) instead, an attempt that comes back included:

    words.in ──priority=high──▶ words.high
        │    ──priority=low───▶ words.low
        └─ anything else: words.in.normal (fanout, its alternate exchange) ──▶ words

All three are nacked into `words.failed`, each message with the key it came by, so they share tiers and DLQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from leveret.topology import names
from leveret.topology.queues import WorkQueue

UNREACHABLE_DELIVERY_LIMIT = 1_000_000
"""A message that dies of the delivery limit is dropped by the broker when its retry tier's TTL ends, for its
dead-letter cycle holds no rejection (seen on 3.10.8 and 4.3.6). So the limit is explicit and out of reach, and
the worker counts deliveries itself."""


class Exchange(NamedTuple):
    """A durable exchange; only the broker publishes to an internal one."""

    name: str
    type: str
    internal: bool = False
    arguments: Mapping[str, object] = MappingProxyType({})


class Queue(NamedTuple):
    """A durable queue."""

    name: str
    arguments: dict[str, object]


class Binding(NamedTuple):
    """A queue is bound to an exchange by a routing key; an exchange instead, where `is_exchange` says so."""

    queue: str
    exchange: str
    routing_key: str
    arguments: tuple[tuple[str, str], ...] = ()
    is_exchange: bool = False


class Table(NamedTuple):
    """Exchanges, queues and bindings, in the order in which they can be declared.

    `former_bindings` are those of earlier versions and of another kind of queue that must not be there any more,
    `last_bindings` those that must not be there before. `levels` are all that a queue without priorities has not,
    and might have had. Where the `last_exchanges` are there, all the rest is. Where the exchange `changing` is,
    somebody makes its queues anew, and nobody else declares them.
    """

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    former_bindings: tuple[Binding, ...] = ()
    last_bindings: tuple[Binding, ...] = ()
    levels: tuple[Binding, ...] = ()
    last_exchanges: tuple[Exchange, ...] = ()
    changing: str = ""


PRODUCERS_EXCHANGES = (
    Exchange(names.DIRECT_EXCHANGE, "direct"),
    Exchange(names.TOPIC_EXCHANGE, "topic"),
    Exchange(names.FANOUT_EXCHANGE, "fanout"),
)
"""Where tasks are submitted."""
WORKERS_EXCHANGES = (
    Exchange(names.AGAIN_EXCHANGE, "direct"),
    Exchange(names.DEAD_EXCHANGE, "direct"),
)
"""Where only the broker and workers publish."""
MIRROR_EXCHANGES = tuple(
    Exchange(
        names.MIRRORS[exchange.name], exchange.type, internal=True, arguments={"alternate-exchange": names.LATER_LOST}
    )
    for exchange in (*PRODUCERS_EXCHANGES, WORKERS_EXCHANGES[0])
)
"""To which queues are bound for what was delayed; see `ladder`."""
CONTROL = Exchange(names.CONTROL_EXCHANGE, "topic")
AROUND_EXCHANGES = (Exchange(names.EVENTS_EXCHANGE, "topic"), CONTROL)
"""Where what is around a task travels: what happens to it, and what is asked of workers."""

CANCELS_LIVE_SECONDS = 7 * 24 * 3600
"""So long a cancel is remembered; a task that waits longer than that may run after all."""
_CANCELS_BYTES, _PAUSES_BYTES = 16_000_000, 2_000_000
_SEGMENT_BYTES = 500_000
"""A stream forgets whole segments only, and only when it begins another one."""
SINGLE_ACTIVE = {"x-single-active-consumer": True, "x-consumer-disconnected-timeout": 5_000}
"""Another consumer takes over at once, or five seconds after the first one's node was lost: RabbitMQ 4.3 waits 60 s."""
RECORD_MOST_MESSAGES = 500_000
"""What waits for a recorder. Then what is oldest is dropped, for the work never stops for the record."""
_RECORD_MOST_BYTES = 512 * 1024 * 1024
RECORD = Table(
    AROUND_EXCHANGES,
    (
        Queue(
            names.RECORD_QUEUE,
            {
                "x-queue-type": "quorum",
                **SINGLE_ACTIVE,
                "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
                "x-overflow": "drop-head",
                "x-max-length": RECORD_MOST_MESSAGES,
                "x-max-length-bytes": _RECORD_MOST_BYTES,
            },
        ),
        Queue(
            names.QUESTIONS_QUEUE,
            {  # on every node, as all that a recorder or a scheduler cannot do without
                "x-queue-type": "quorum",
                "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
                "x-message-ttl": 10_000,
                "x-max-length": 1_000,
                "x-max-length-bytes": 2**24,
            },
        ),
    ),
    (
        Binding(names.RECORD_QUEUE, names.EVENTS_EXCHANGE, "task.#"),
        Binding(names.QUESTIONS_QUEUE, names.CONTROL_EXCHANGE, names.ASK_RECORD_KEY),
    ),
)
"""What recorders take from."""


def shared_exchanges() -> Table:
    """Return the exchanges that all work queues share."""
    return Table((*PRODUCERS_EXCHANGES, *WORKERS_EXCHANGES, *AROUND_EXCHANGES, *MIRROR_EXCHANGES))


def control_streams() -> Table:
    """Return what keeps the commands to all workers, for those that start later.

    A pause has no age, for it holds until somebody has the queue go on.
    """
    return Table(
        (),
        queues=(
            _stream(names.CANCELLED_QUEUE, _CANCELS_BYTES, **{"x-max-age": f"{CANCELS_LIVE_SECONDS}s"}),
            _stream(names.PAUSED_QUEUE, _PAUSES_BYTES),
        ),
        bindings=(
            Binding(names.CANCELLED_QUEUE, names.CONTROL_EXCHANGE, names.CANCEL_KEY),
            Binding(names.PAUSED_QUEUE, names.CONTROL_EXCHANGE, names.PAUSE_KEY),
        ),
    )


def ways_to(queue: WorkQueue) -> tuple[names.Route, ...]:
    """Return by which exchanges and keys a message reaches a work queue; other attempts than the first, too.

    What was delayed comes by the same ways from the mirrors of these exchanges.
    """
    ways = (
        names.Route.direct(queue.name),
        *(names.Route.again(queue.name, attempt) for attempt in range(2, queue.attempts + 1)),
        *(names.Route.topic(topic) for topic in queue.topics),
        *((names.Route.fanout(),) if queue.fanout else ()),
    )
    return (*ways, *(way._replace(exchange=names.MIRRORS[way.exchange]) for way in ways))


def objects_of(queue: WorkQueue) -> Table:
    """Return everything a work queue consists of."""
    failed = names.failed_exchange(queue.name)
    first = names.first_failure_exchange(queue.name, queue.retry_delays, queue.priorities)
    dlq = names.dlq_name(queue.name)
    tiers = [
        (tier, names.retry_queue(queue.name, tier, delay), delay)
        for tier, delay in enumerate(queue.retry_delays, start=1)
    ]
    keys = [queue.name, *(names.attempt_key(queue.name, tier + 1) for tier, _, _ in tiers)]
    after_failure = [*(name for _, name, _ in tiers), dlq]
    entrance = _entrance(queue)
    return Table(
        exchanges=(
            Exchange(first, "fanout", internal=True),
            Exchange(failed, "direct", internal=True, arguments={"alternate-exchange": first}),
            *entrance.exchanges,
        ),
        queues=(
            *(_quorum_queue(name, **_dead_letter(failed)) for name in queue.waits_in),
            *(
                _quorum_queue(
                    name,
                    **_dead_letter(*names.Route.again(queue.name, tier + 1)),
                    **{"x-message-ttl": round(delay * 1000)},
                )
                for tier, name, delay in tiers
            ),
            _quorum_queue(dlq),
        ),
        bindings=(
            Binding(after_failure[0], first, ""),
            *(Binding(target, failed, key) for key, target in zip(keys[1:], after_failure[1:], strict=True)),
            Binding(dlq, *names.Route.dead(queue.name)),
            *entrance.bindings,
        ),
        # What led back to the queue stays: a tier of version 0.1 may still hold messages.
        former_bindings=(Binding(dlq, names.DIRECT_EXCHANGE, dlq), *entrance.former_bindings),
        last_bindings=entrance.last_bindings,
        levels=entrance.levels,
        changing=names.changing_exchange(queue.name),
    )


def _entrance(queue: WorkQueue) -> Table:
    """Return what leads messages into a work queue.

    Where it gets priorities, all of its messages are first led through the entrance into the queue they went to before,
    which takes a message once by however many ways it comes; only when the former ways are gone the levels are bound.
    """
    entrance, normal = names.entrance_exchange(queue.name), names.normal_exchange(queue.name)
    straight = tuple(Binding(queue.name, *way) for way in ways_to(queue))
    through = tuple(Binding(entrance, *way, is_exchange=True) for way in ways_to(queue))
    levels = tuple(
        Binding(names.level_queue(queue.name, level), entrance, "", _matching(level))
        for level in (names.HIGH, names.LOW)
    )
    if not queue.priorities:
        return Table((), bindings=straight, levels=(*levels, *through))
    return Table(
        (
            Exchange(normal, "fanout", internal=True),
            Exchange(entrance, "headers", internal=True, arguments={"alternate-exchange": normal}),
        ),
        bindings=(Binding(queue.name, normal, ""), *through),
        former_bindings=straight,
        last_bindings=levels,
    )


def _matching(level: str) -> tuple[tuple[str, str], ...]:
    return (("x-match", "all"), (names.PRIORITY_HEADER, level))


def _quorum_queue(name: str, **arguments: object) -> Queue:
    return Queue(name, {"x-queue-type": "quorum", "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT, **arguments})


def _stream(name: str, most_bytes: int, **arguments: object) -> Queue:
    size = {"x-max-length-bytes": most_bytes, "x-stream-max-segment-size-bytes": _SEGMENT_BYTES}
    return Queue(name, {"x-queue-type": "stream", **size, **arguments})


def _dead_letter(exchange: str, routing_key: str | None = None) -> dict[str, object]:
    """At-least-once dead-lettering works only together with reject-publish; without it the broker is silent."""
    arguments: dict[str, object] = {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    if routing_key is not None:
        arguments["x-dead-letter-routing-key"] = routing_key
    return arguments
