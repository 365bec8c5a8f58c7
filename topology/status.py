"""What is known of a task: its state, and what the events that came so far have told."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from leveret.topology.events import CLOSING, Event, Kind


class State(enum.StrEnum):
    """Where a task stands."""

    UNKNOWN = "unknown"
    """Nobody knows the id: it never was, was not followed, or what was known of it is too old."""
    SUBMITTED = "submitted"
    DELAYED = "delayed"
    """It runs at `next_at`."""
    BLOCKED = "blocked"
    STARTED = "started"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


_CLOCKS_DIFFER_SECONDS = 1.0
"""So much later than its end a task may seem to have been submitted: another machine says so, and after the confirm."""
_ORDER = {str(kind): number for number, kind in enumerate(Kind)}
"""Within one attempt, what is further down has happened later."""
_STATES = {kind: State(kind) for kind in Kind if kind not in (Kind.PROGRESS, Kind.LOG)}


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a task. Times are seconds of the epoch, durations seconds."""

    id: str
    state: State = State.UNKNOWN
    task: str = ""
    queue: str = ""
    worker: str = ""
    """host:pid of the worker that told of it last."""
    attempt: int = 0
    of: int = 0
    times: dict[str, float] = field(default_factory=dict)
    """When each state was reached last, by its name."""
    seconds: float | None = None
    """How long the last attempt took."""
    failure: dict[str, str] | None = None
    """type, message, traceback and fingerprint of the last failure."""
    next_at: float | None = None
    """When it is tried again, or is due."""
    lies_in: str = ""
    """The DLQ in which the dead message lies."""
    reason: str = ""
    """Of a cancel, of what blocks it, or why it asked to be run later."""
    done: float | None = None
    total: float | None = None
    note: str = ""
    result: str | None = None
    """Of a task that succeeded, as JSON text."""


def advance(status: Status, kind: Kind, task: str, worker: str, event: Event) -> Status | None:
    """Return the status after an event; None where the event is not believed.

    A state only moves forward. What has succeeded or was cancelled stays so; what has failed may go on when its dead
    message is sent round again, so a later event is believed. The task's name never changes.
    """
    if status.task and status.task != task:
        return None
    if kind is Kind.LOG:
        return status
    at = float(event["at"])
    attempt = event.get("attempt", 0)
    since = status.times.get(status.state, 0.0)
    is_later = at > since
    if kind is Kind.SUBMITTED and status.state.is_final and at <= since + _CLOCKS_DIFFER_SECONDS:  # told after the end
        return (
            status if State.SUBMITTED in status.times else replace(status, times={State.SUBMITTED: at, **status.times})
        )
    if status.state in (State.SUCCEEDED, State.CANCELLED):
        return status if kind not in CLOSING or State(kind) is status.state else None
    if status.state is State.FAILED and not is_later:
        return status
    if kind is Kind.PROGRESS:
        if attempt < status.attempt or status.state is State.FAILED:
            return status
        return replace(
            status,
            task=task,
            worker=worker or status.worker,
            state=State.STARTED,
            queue=event.get("queue", status.queue),
            attempt=attempt or status.attempt,
            of=event.get("of", status.of),
            times=status.times if State.STARTED in status.times else {**status.times, State.STARTED: at},
            done=event.get("done"),
            total=event.get("total"),
            note=event.get("note", ""),
        )
    state = _STATES[kind]
    times = {**status.times, state: at}
    is_known = status.state is not State.UNKNOWN  # who waits knows the task's name before anything was told
    is_again = kind is Kind.DELAYED and is_later and attempt >= status.attempt  # it ran, and asked to be run later
    is_behind = is_known and not is_again and (attempt, _ORDER[kind]) < (status.attempt, _ORDER[status.state])
    if is_behind and kind not in CLOSING and status.state is not State.FAILED:
        return replace(status, times={state: at, **status.times})
    get = event.get
    return Status(  # `replace` takes twice the time, and this is done for each task
        id=status.id,
        state=state,
        task=task,
        queue=get("queue", status.queue),
        worker=worker or status.worker,
        attempt=attempt or status.attempt,
        of=get("of", status.of),
        times=times,
        seconds=get("seconds", status.seconds),
        failure=get("failure", None if kind is Kind.SUCCEEDED else status.failure),
        next_at=get("next_at", get("until")),
        lies_in=get("lies_in", ""),
        reason=str(get("reason", get("by", ""))),
        done=status.done,
        total=status.total,
        note=status.note,
        result=get("result"),
    )
