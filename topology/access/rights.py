"""What a producer, a worker and the topology's owner may do on the broker: each its own work, and nothing else.

producer   publishes to `tasks.direct`, `tasks.topic` and `tasks.fanout`, and to come there later to `tasks.delay.0` …;
           waits for results in queues of its own, tells that it has submitted, cancels by id, and asks recorders and
           workers
worker     takes from its queues, counts its retry tiers (for --until-empty), publishes what its tasks submit, what it
           buries (`tasks.dead`) and what it gives an id on its way back (`tasks.again`); tells what happens to tasks,
           hears what is cancelled, paused and asked, and does what a producer does; takes tokens of limits, and makes
           those of keys
topology   declares everything, redrives and pauses: it may read the DLQs
recorder   takes what happens to tasks, and answers what it is asked of them
scheduler  takes the lease of the schedules and fires them, which is to do what a producer does

A nack needs no right, so no worker may touch a dead-letter exchange. RabbitMQ knows no rights by routing key on a
direct exchange: whoever may write to `tasks.direct` reaches every work queue of the virtual host, and a worker every
DLQ. What a producer reaches begins at attempt 1, whatever key it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from leveret.topology import names
from leveret.topology.ladder import ENTRANCES, WHOLE
from leveret.topology.objects import AROUND_EXCHANGES, PRODUCERS_EXCHANGES, WORKERS_EXCHANGES
from leveret.topology.queues import WorkQueue

PRODUCER, WORKER, TOPOLOGY, RECORDER, SCHEDULER = ROLES = (
    "producer",
    "worker",
    "topology",
    "recorder",
    "scheduler",
)

_REPLIES = re.escape(names.REPLY_PREFIX) + ".+"
_REPLY_KEY = f"^{re.escape(names.REPLY_PREFIX)}[0-9a-f]+$"
_LIMITS = rf"{re.escape(names.LIMITS_EXCHANGE)}|{re.escape(names.LIMIT_PREFIX)}.+"
_NOTHING = "^$"
_DELAYS = [*(re.escape(entrance) for entrance in ENTRANCES), re.escape(WHOLE)]
"""By which messages are delayed, and to see on RabbitMQ 4.3 that all of that is there."""


class Rights(NamedTuple):
    """RabbitMQ's permissions of a user in a virtual host: regular expressions of names."""

    configure: str
    write: str
    read: str


def rights_of(role: str, queues: Sequence[WorkQueue]) -> Rights:
    """Return what a role needs for these work queues, and for any retry plan they may get."""
    events, control = (re.escape(exchange.name) for exchange in AROUND_EXCHANGES)
    producers = [*(re.escape(exchange.name) for exchange in PRODUCERS_EXCHANGES), *_DELAYS, events, control]
    if role == PRODUCER:
        return Rights(_any_of([_REPLIES]), _any_of([*producers, _REPLIES]), _any_of([events, _REPLIES]))
    if role == SCHEDULER:
        own = [_REPLIES, *(re.escape(name) for name in (names.SCHEDULES_QUEUE, names.SCHEDULES_SHOWN_QUEUE))]
        return Rights(_any_of(own), _any_of([*producers, *own]), _any_of([*own, events, control]))
    if role == RECORDER:
        own = [re.escape(name) for name in (names.RECORD_QUEUE, names.QUESTIONS_QUEUE)]
        return Rights(_any_of(own), _any_of([*own, events]), _any_of([*own, events, control]))
    exchanges = [*producers, *(re.escape(exchange.name) for exchange in WORKERS_EXCHANGES)]
    if role == WORKER:
        own = [_REPLIES, re.escape(names.WORKER_PREFIX) + ".+", _LIMITS]
        streams = [re.escape(name) for name in (names.CANCELLED_QUEUE, names.PAUSED_QUEUE)]
        takes = [names.waiting_pattern(queue.name) for queue in queues]
        takes += [names.levels_pattern(queue.name) for queue in queues if queue.priorities]
        return Rights(_any_of(own), _any_of([*exchanges, *own]), _any_of([*takes, *own, *streams, events, control]))
    around = r"tasks\.(reply|worker|delay|later|held)\..+|"
    around += r"tasks\.(apply|record|questions|cancelled|paused|schedules(\.shown)?)"
    families = [names.family_pattern(queue.name) for queue in queues]
    for queue in queues:
        if queue.priorities:
            families += [names.levels_pattern(queue.name), names.entrance_pattern(queue.name)]
    everything = _any_of([*exchanges, around, _LIMITS, *families])
    return Rights(everything, everything, everything)


class TopicRights(NamedTuple):
    """RabbitMQ's topic permissions of a user on one exchange: regular expressions of routing and binding keys."""

    exchange: str
    write: str
    read: str


def topic_rights_of(role: str) -> list[TopicRights]:
    """Return by which keys a role may publish and listen, where its rights on the exchange alone would be too much."""
    events, control = (exchange.name for exchange in AROUND_EXCHANGES)
    commands = _any_of(re.escape(key) for key in (names.CANCEL_KEY, names.ASK_RECORD_KEY, names.ASK_WORKERS_KEY))
    schedules_keys = (
        names.ASK_RECORD_KEY,
        names.SCHEDULES_BEGIN_KEY,
        names.SCHEDULES_STATE_KEY,
        names.SCHEDULES_PAUSE_KEY,
    )
    told = f"^(task|{re.escape(names.REPLY_PREFIX.rstrip('.'))})\\."
    by_role = {
        PRODUCER: [(events, r"^task\.(submitted|delayed)\.", _REPLY_KEY), (control, commands, _NOTHING)],
        WORKER: [(events, told, _REPLY_KEY), (control, commands, _any_of([re.escape(names.ASK_WORKERS_KEY)]))],
        TOPOLOGY: [],
        SCHEDULER: [
            (events, r"^(task\.submitted|schedule\.fired)\.", _REPLY_KEY),
            (control, _any_of(map(re.escape, schedules_keys)), _any_of(map(re.escape, schedules_keys[1:]))),
        ],
        RECORDER: [
            (events, _REPLY_KEY, r"^task\."),
            (control, _NOTHING, _any_of([re.escape(names.ASK_RECORD_KEY)])),
        ],
    }
    return [TopicRights(*rights) for rights in by_role[role]]


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
