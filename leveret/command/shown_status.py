"""How statuses are shown: lines of 80 columns for people, objects for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from leveret.topology.message import read_json
from leveret.topology.printable import printable
from leveret.topology.record import write_status
from leveret.topology.status import State, Status

COLUMNS = 80
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def status_object(status: Status, attempts: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a status as the object that `--json` prints: every field, times in seconds of the epoch."""
    made = {"id": status.id, "state": str(status.state), "task": status.task, "queue": status.queue}
    empty = {"worker": "", "attempt": 0, "of": 0, "times": {}, "seconds": None, "failure": None, "next_at": None}
    late = {"lies_in": "", "reason": "", "done": None, "total": None, "note": ""}
    return {**made, **empty, **late, **write_status(status), "failed_attempts": list(attempts)}


def result_text(text: str | None) -> str:
    """Return a result as one line of JSON for a terminal; who wrote it may be anybody who may publish events."""
    if text is None:
        return "null"
    try:
        return text if text.isprintable() else json.dumps(read_json(text))  # escaped as JSON does it
    except (ValueError, RecursionError):
        return text  # it is no JSON, and is escaped when it is told


def status_lines(status: Status, attempts: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """Yield what is known of a task: the id and its state, then a line for each attempt that failed, and details."""
    yield cut(f"{printable(status.id)}  {status.state}{_when(status)}")
    if status.state is State.UNKNOWN:
        return
    where = f" on {printable(status.worker)}" if status.worker else ""
    took = "" if status.seconds is None else f", {_number(status.seconds)} s"
    count = f", attempt {status.attempt} of {status.of}" if status.of else ""
    yield cut(f"  {printable(status.task)} from {printable(status.queue)}{count}{took}{where}")
    for attempt in attempts:
        failure = attempt.get("failure")
        if not isinstance(failure, Mapping):
            continue
        yield cut(f"  attempt {printable(attempt.get('attempt'))} failed: {_failure(failure)}")
    if status.failure and not attempts:
        yield cut(f"  failed: {_failure(status.failure)}")
    if status.state is State.RETRYING and status.next_at:
        yield f"  again {_clock(status.next_at)}"
    if status.state is State.DELAYED and status.next_at:
        yield f"  due {_clock(status.next_at)}"
    if status.done is not None and status.state is State.STARTED:
        total = "" if status.total is None else f" of {_number(status.total)}"
        yield cut(f"  {_number(status.done)}{total} done {printable(status.note)}".rstrip())
    if status.lies_in:
        yield cut(f"  its message lies in {printable(status.lies_in)}")
    if status.reason:
        yield cut(f"  {printable(status.reason)}")


def table_lines(statuses: Sequence[Status]) -> Iterator[str]:
    """Yield a table with a heading; the id stands last and whole, for others are made of it."""
    yield "STATE      AGE   TASK                      ID"
    for status in statuses:
        age = _age(max(status.times.values(), default=0.0))
        yield f"{status.state:<10} {age:<5} {_fit(printable(status.task), 25):<25} {printable(status.id)}"


def cut(line: str) -> str:
    """Return a line that fits the width."""
    return _fit(line, COLUMNS)


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _failure(failure: Mapping[str, Any]) -> str:
    return printable(f"{failure.get('type', 'it failed')}: {failure.get('message', '')}".rstrip(": "))


def _when(status: Status) -> str:
    at = status.times.get(status.state)
    return f" since {_clock(at)}" if at is not None else ""


def _clock(at: float) -> str:
    try:
        moment = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, OSError, ValueError):  # whoever told of it has no clock like ours
        return "at no possible time"
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _number(value: float) -> str:
    """Return a number of somebody else's, which may be larger than any that can be shown."""
    try:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    except OverflowError:
        return "?"


def _age(at: float) -> str:
    try:
        seconds = max(0.0, time.time() - at)
    except OverflowError:
        return "?"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return "now"
