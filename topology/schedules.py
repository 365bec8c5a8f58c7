"""What schedulers share through the broker: the queue that is their lease, and the state that lies in it.

`tasks.schedules` gives its messages to one consumer at a time: whoever gets them fires the schedules. The one message
that stays in it says up to when each schedule is done and which are paused; it is acknowledged when the next one is
confirmed, so the next holder begins where the last one ended. `tasks.schedules.shown` has a copy of it for who looks.

Moments are milliseconds of the epoch, for an id derives from them.

    {"version": 1, "at": 1785585600123, "by": "web-3:812", "pauses": {"digest": [true, 1785585600.1, "ops@desk", ""]},
     "schedules": {"digest": ["9f1c…", 1785567600000, 1785567600000, 1785567600004]}}
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from leveret.topology import names
from leveret.topology.control import Command
from leveret.topology.errors import UnreadableMessage
from leveret.topology.message import read_json
from leveret.topology.message.bounds import excess
from leveret.topology.objects import AROUND_EXCHANGES, SINGLE_ACTIVE, UNREACHABLE_DELIVERY_LIMIT, Binding, Queue, Table

VERSION = 1
MOST_SCHEDULES = 2_000
LARGEST_STATE_BYTES = 2 * 1024 * 1024
_FORGET_MILLISECONDS = 30 * 24 * 3600 * 1000
"""So long the state keeps what nobody's schedules have any more, for an older file may come back."""
_FIRES = uuid.UUID("b9b0a1b6-6d83-5f0c-8a0d-3c1a5c7f9f62")
"""The namespace of the ids of fires."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

SCHEDULES = Table(
    AROUND_EXCHANGES,
    (
        Queue(
            names.SCHEDULES_QUEUE,
            {
                "x-queue-type": "quorum",
                **SINGLE_ACTIVE,
                "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
            },
        ),
        Queue(
            names.SCHEDULES_SHOWN_QUEUE,
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
                "x-max-length": 1,
                "x-overflow": "drop-head",
            },
        ),
    ),
    (
        Binding(names.SCHEDULES_QUEUE, names.CONTROL_EXCHANGE, names.SCHEDULES_BEGIN_KEY),
        Binding(names.SCHEDULES_QUEUE, names.CONTROL_EXCHANGE, names.SCHEDULES_STATE_KEY),
        Binding(names.SCHEDULES_QUEUE, names.CONTROL_EXCHANGE, names.SCHEDULES_PAUSE_KEY),
        Binding(names.SCHEDULES_SHOWN_QUEUE, names.CONTROL_EXCHANGE, names.SCHEDULES_STATE_KEY),
    ),
)
"""What schedulers take from, and what shows it."""


class Done(NamedTuple):
    """How far one schedule is."""

    times: str
    """A fingerprint of its times: when they are changed, it begins anew."""
    until: int
    """What was planned up to here is done with, fired or left out."""
    planned: int | None = None
    """For when the last one was planned that was fired."""
    at: int | None = None
    """When that was confirmed."""


class Pause(NamedTuple):
    """Whether a schedule is paused, since when, by whom and why."""

    is_paused: bool
    said: Command


@dataclass
class State:
    """How far each schedule is, and what is paused, by name."""

    done: dict[str, Done] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    at: int = 0
    by: str = ""
    """The scheduler that has written it, as host:pid."""

    def merge(self, other: State) -> None:
        """Take over what is further on in another state, and what was said later."""
        for name, done in other.done.items():
            if name not in self.done or done.until > self.done[name].until:
                self.done[name] = done
        for name, pause in other.pauses.items():
            self.say(name, pause)

    def say(self, name: str, pause: Pause) -> None:
        """Pause a schedule or have it go on, unless something else was said later."""
        if name not in self.pauses or pause.said.at >= self.pauses[name].said.at:
            self.pauses[name] = pause

    def reached(self, name: str, now: int) -> Done | None:
        """Return how far a schedule is: one that was paused goes on from when that was said, and makes up nothing."""
        done, pause = self.done.get(name), self.pauses.get(name)
        if done and pause and not pause.is_paused:
            return done._replace(until=max(done.until, min(round(pause.said.at * 1000), now)))
        return done

    def paused(self, name: str) -> Command | None:
        """Return who has paused a schedule; None when nobody has."""
        pause = self.pauses.get(name)
        return pause.said if pause and pause.is_paused else None

    def forget(self, known: Iterable[str], now: int) -> None:
        """Drop what is about schedules that nobody has had for a month, and never keep more than may be."""
        kept = set(known)
        self.done = {
            name: done for name, done in self.done.items() if name in kept or now - done.until < _FORGET_MILLISECONDS
        }
        self.pauses = {
            name: pause
            for name, pause in self.pauses.items()
            if name in kept or now - pause.said.at * 1000 < _FORGET_MILLISECONDS
        }
        for kind in (self.done, self.pauses):
            for name in [name for name in kind if name not in kept][: max(0, len(kind) - MOST_SCHEDULES)]:
                del kind[name]


def fire_id(schedule: str, planned: int) -> str:
    """Return the id of a fire: the same whoever fires it, and however often."""
    return str(uuid.uuid5(_FIRES, f"{schedule} {planned}"))


def write_state(state: State) -> bytes:
    """Return the body of the message that is the state."""
    pauses = {name: [pause.is_paused, *pause.said] for name, pause in state.pauses.items()}
    document = {"version": VERSION, "at": state.at, "by": state.by, "schedules": state.done, "pauses": pauses}
    return _encode(document).encode(errors="replace")


def read_state(body: bytes) -> State:
    """Read a state. Raises `UnreadableMessage` saying what is wrong with it."""
    if len(body) > LARGEST_STATE_BYTES:
        raise UnreadableMessage(f"a state of schedules has {len(body):,} bytes, over {LARGEST_STATE_BYTES:,}")
    if too_much := excess(body):
        raise UnreadableMessage(f"a state of schedules: {too_much}")
    try:
        document = read_json(body.decode())
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"a state of schedules is no JSON: {error}") from error
    match document:
        case {"version": 1, "at": int(at), "by": str(by), "schedules": dict(done), "pauses": dict(pauses)}:
            return State(
                {name: _read_done(value) for name, value in done.items()},
                {name: _read_pause(value) for name, value in pauses.items()},
                at,
                by,
            )
    raise UnreadableMessage("a state of schedules needs version 1, at, by, schedules and pauses")


def _read_done(value: Any) -> Done:
    match value:
        case [str(times), int(until), int() | None as planned, int() | None as at]:
            return Done(times, until, planned, at)
    raise UnreadableMessage("a state of schedules has one whose place is none")


def _read_pause(value: Any) -> Pause:
    match value:
        case [bool(is_paused), int() | float() as at, str(by), str(reason)] if math.isfinite(at):
            return Pause(is_paused, Command(float(at), by, reason))
    raise UnreadableMessage("a state of schedules has a pause that is none")


def fired_key(schedule: str) -> str:
    """Return the key by which it is told on the exchange of events that a schedule has fired."""
    return f"schedule.fired.{schedule}".encode()[: names.LONGEST_NAME_BYTES].decode(errors="ignore")


def write_fired(schedule: str, task: str, task_id: str, planned: int, at: int, by: str) -> bytes:
    """Return the body of the message that tells it; times are seconds of the epoch."""
    event = {"schedule": schedule, "task": task, "id": task_id, "planned": planned / 1000, "at": at / 1000, "by": by}
    return _encode({"version": VERSION, "kind": "fired", **event}).encode(errors="replace")
