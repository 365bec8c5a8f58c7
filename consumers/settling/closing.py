"""How tasks ended, for who follows them: messages that are confirmed before the tasks' own are acknowledged.

What ends in one turn of the loop travels together: one message for the events of one kind and task, and one who waits.
"""

from __future__ import annotations

from collections.abc import Iterator

from leveret.consumers.child.outcome import Outcome
from leveret.consumers.settling.delivery import Delivery, cancel_of
from leveret.consumers.settling.products import seconds_of
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.link.outbox import Outgoing
from leveret.topology.link.telling import event_message
from leveret.topology.names import dlq_name

MOST_EVENTS = 64
"""In one message: enough to cost little each, few enough to be read at once."""
_MOST_CHARACTERS = 1024 * 1024
_KINDS = {Verdict.DONE: Kind.SUCCEEDED, Verdict.CANCEL: Kind.CANCELLED}

_Group = tuple[Kind, str, str]


class Closings:
    """Collects how followed tasks ended, until they are taken as messages."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._groups: dict[_Group, list[tuple[Delivery, str]]] = {}

    def add(self, delivery: Delivery, outcome: Outcome, verdict: Verdict) -> None:
        """Note how a delivery ended."""
        kind = _KINDS.get(verdict, Kind.FAILED)
        text = events.write_event(event_of(delivery, outcome, kind))
        self._groups.setdefault((kind, outcome.task, delivery.reply_to), []).append((delivery, text))

    def take(self) -> Iterator[tuple[list[Delivery], Outgoing]]:
        """Yield the messages, each with the deliveries whose ends it tells; they are not kept any longer."""
        groups, self._groups = self._groups, {}
        for (kind, task, reply_to), told in groups.items():
            for part in _parts(told):
                body = events.write(kind, task, self._worker, [text for _, text in part])
                yield [delivery for delivery, _ in part], event_message(kind, task, reply_to, body)


def event_of(delivery: Delivery, outcome: Outcome, kind: Kind) -> events.Event:
    """Return the event that tells how an attempt ended."""
    event: events.Event = {
        "id": delivery.id,
        "at": events.now(),
        "queue": delivery.queue.name,
        "attempt": delivery.attempt,
        "of": delivery.queue.attempts,
        "seconds": round(outcome.duration_seconds, 6),
    }
    if outcome.failure:
        event["failure"] = outcome.failure._asdict()
    if kind is Kind.SUCCEEDED:
        event["result"] = "null" if outcome.result is None else outcome.result
    elif kind is Kind.FAILED:
        event["lies_in"] = dlq_name(delivery.queue.name)
    elif kind is Kind.CANCELLED and (command := cancel_of(delivery)):
        event["by"], event["reason"] = command.by, command.reason
    return event


def delayed_event(delivery: Delivery, outcome: Outcome) -> events.Event:
    """Return the event that tells that a task asked to be run later."""
    told = event_of(delivery, outcome, Kind.DELAYED)
    failure = told.pop("failure", {})
    return {**told, "until": round(told["at"] + seconds_of(outcome), 3), "reason": failure.get("message", "")}


def _parts(told: list[tuple[Delivery, str]]) -> Iterator[list[tuple[Delivery, str]]]:
    part: list[tuple[Delivery, str]] = []
    size = 0
    for one in told:
        if part and (len(part) == MOST_EVENTS or size + len(one[1]) > _MOST_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one[1])
    if part:
        yield part
