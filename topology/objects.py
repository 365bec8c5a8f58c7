"""The table of everything that exists on the broker, as values. `apply` brings a broker to it, nothing else does.

What a failed message meets, for a queue `words` with retry delays of 5 and 30 seconds:

    words ──nack──▶ words.failed (direct) ──words@3──▶ words.dlq
                      │        └──────────────words@2──▶ words.retry.2.after.30s ──TTL──▶ tasks.again as words@3
                      └─ any other key: words.failed.first.after.5s-30s (fanout, its alternate exchange)
                                                      ──▶ words.retry.1.after.5s  ──TTL──▶ tasks.again as words@2

The routing key is the attempt counter, so a nack is all a worker has to send. Whoever may write to `tasks.again` can
make a message any attempt, and to `tasks.dead` bury one; so these are exchanges of their own, with rights of their own.
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
    """A queue is bound to an exchange by a routing key, or on a headers exchange by arguments."""

    queue: str
    exchange: str
    routing_key: str
    arguments: Mapping[str, object] | None = None


class Link(NamedTuple):
    """An exchange is bound to another, from which it gets what these arguments match."""

    exchange: str
    source: str
    routing_key: str
    arguments: Mapping[str, object] | None = None


class Table(NamedTuple):
    """Exchanges, queues and bindings, in the order in which they can be declared.

    `former_bindings` are those of earlier versions that must not be there any more. Where what is
    `last` is there, all the rest is.
    """

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    former_bindings: tuple[Binding, ...] = ()
    links: tuple[Link, ...] = ()
    last: tuple[Exchange, ...] = ()


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
                "x-single-active-consumer": True,
                "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
                "x-overflow": "drop-head",
                "x-max-length": RECORD_MOST_MESSAGES,
                "x-max-length-bytes": _RECORD_MOST_BYTES,
            },
        ),
        Queue(
            names.QUESTIONS_QUEUE,
            {"x-queue-type": "classic", "x-message-ttl": 10_000, "x-max-length": 1_000, "x-max-length-bytes": 2**24},
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


def objects_of(queue: WorkQueue) -> Table:
    """Return everything a work queue consists of."""
    failed = names.failed_exchange(queue.name)
    first = names.first_failure_exchange(queue.name, queue.retry_delays)
    dlq = names.dlq_name(queue.name)
    tiers = [
        (tier, names.retry_queue(queue.name, tier, delay), delay)
        for tier, delay in enumerate(queue.retry_delays, start=1)
    ]
    keys = [queue.name, *(names.attempt_key(queue.name, tier + 1) for tier, _, _ in tiers)]
    after_failure = [*(name for _, name, _ in tiers), dlq]
    entrances = (
        Binding(queue.name, *names.Route.direct(queue.name)),
        *(Binding(queue.name, names.AGAIN_EXCHANGE, key) for key in keys[1:]),
        *(Binding(queue.name, names.TOPIC_EXCHANGE, topic) for topic in queue.topics),
        *((Binding(queue.name, names.FANOUT_EXCHANGE, ""),) if queue.fanout else ()),
    )
    return Table(
        exchanges=(
            Exchange(first, "fanout", internal=True),
            Exchange(failed, "direct", internal=True, arguments={"alternate-exchange": first}),
        ),
        queues=(
            _quorum_queue(queue.name, **_dead_letter(failed)),
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
            *entrances,
            *(binding._replace(exchange=names.MIRRORS[binding.exchange]) for binding in entrances),
        ),
        # What led back to the queue stays: a tier of version 0.1 may still hold messages.
        former_bindings=(Binding(dlq, names.DIRECT_EXCHANGE, dlq),),
    )


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
