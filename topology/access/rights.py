"""What a producer, a worker and the topology's owner may do on the broker: each its own work, and nothing else.

producer   publishes to `tasks.direct`, `tasks.topic` and `tasks.fanout`
worker     takes from its queues, counts its retry tiers (for --until-empty), publishes what its tasks submit, what it
           buries (`tasks.dead`) and what it gives an id on its way back (`tasks.again`)
topology   declares everything, and redrives: it may read the DLQs

A nack needs no right, so no worker may touch a dead-letter exchange. RabbitMQ knows no rights by routing key on a
direct exchange: whoever may write to `tasks.direct` reaches every work queue of the virtual host, and a worker every
DLQ. What a producer reaches begins at attempt 1, whatever key it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from leveret.topology import names
from leveret.topology.objects import PRODUCERS_EXCHANGES, WORKERS_EXCHANGES
from leveret.topology.queues import WorkQueue

PRODUCER, WORKER, TOPOLOGY = ROLES = ("producer", "worker", "topology")


class Rights(NamedTuple):
    """RabbitMQ's permissions of a user in a virtual host: regular expressions of names."""

    configure: str
    write: str
    read: str


def rights_of(role: str, queues: Sequence[WorkQueue]) -> Rights:
    """Return what a role needs for these work queues, and for any retry plan they may get."""
    producers = [re.escape(exchange.name) for exchange in PRODUCERS_EXCHANGES]
    if role == PRODUCER:
        return Rights(_any_of(()), _any_of(producers), _any_of(()))
    exchanges = [*producers, *(re.escape(exchange.name) for exchange in WORKERS_EXCHANGES)]
    if role == WORKER:
        return Rights(_any_of(()), _any_of(exchanges), _any_of(names.waiting_pattern(queue.name) for queue in queues))
    everything = _any_of([*exchanges, *(names.family_pattern(queue.name) for queue in queues)])
    return Rights(everything, everything, everything)


def taken_away(former: Rights, now: Rights) -> dict[str, str]:
    """Return each kind of right that allowed what it does not allow now, with its former pattern."""
    return {
        kind: before
        for kind, before, after in zip(Rights._fields, former, now, strict=True)
        if before and not _alternatives(before) <= _alternatives(after)
    }


def _alternatives(pattern: str) -> set[str]:
    """Split what `_any_of` made; any other pattern is an alternative of its own."""
    inner = re.fullmatch(r"\^\((.*)\)\$", pattern)
    return set(re.split(r"\|(?![^()]*\))", inner[1])) if inner else {pattern} - {"^$"}


def _any_of(patterns: Iterable[str]) -> str:
    alternatives = "|".join(patterns)
    return f"^({alternatives})$" if alternatives else "^$"
