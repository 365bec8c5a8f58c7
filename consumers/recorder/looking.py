"""What is found in the record: statuses by their ids, a result, and lists by state, task, queue and time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import exc, text

from leveret.consumers.recorder import logged, rows
from leveret.consumers.recorder.store import Store
from leveret.topology.errors import QuestionRefused, RecordUnavailable
from leveret.topology.record import Logged, LogPlace
from leveret.topology.status import State, Status

_LONGEST_SECONDS = 1.5
"""What takes longer is given up, for who asked does not wait for it."""
_STEPS = 10_000
_SELECT = (
    "SELECT id, state, task, queue, details, changed FROM leveret_tasks WHERE state = :state AND changed >= :since"
)
_PATTERNS = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_", "*": "%", "?": "_"})


class Place(NamedTuple):
    """A place in a list, which begins with what has changed last."""

    changed: float
    id: str


class Wanted(NamedTuple):
    """What a list is of: tasks whose names fit, with `*` and `?`; empty texts stand for all."""

    states: Sequence[State]
    task: str
    queue: str
    since: float
    after: Place | None
    most: int


def find(store: Store, ids: Sequence[str]) -> list[Status]:
    """Return what is known of each, UNKNOWN where that is nothing."""
    with store.looking() as connection:
        known = rows.read(connection, list(dict.fromkeys(ids)))
    return [known.get(task_id) or Status(task_id) for task_id in ids]


def attempts(store: Store, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the attempts of these that failed, by id."""
    with store.looking() as connection:
        return rows.read_attempts(connection, ids)


def logs(store: Store, task_id: str, place: LogPlace, most: int) -> tuple[Status, list[Logged]]:
    """Return what is known of a task, and at most so much of what it has logged, from this place on.

    Of a task that has ended this is all that was logged before its end was recorded.
    """
    with store.looking() as connection:
        status = rows.read(connection, [task_id]).get(task_id) or Status(task_id)
        return status, logged.read(connection, task_id, place, most)


def find_all(store: Store, wanted: Wanted) -> tuple[list[tuple[Status, Place]], Place | None]:
    """Return the tasks of a list with their places, what changed last first, and where it goes on if there may be more.

    Raises `QuestionRefused` when looking for them takes too long.
    """
    conditions = _SELECT
    values: dict[str, Any] = {"since": wanted.since, "most": wanted.most}
    if wanted.after:
        conditions += " AND (changed, id) < (:changed, :id)"
        values |= wanted.after._asdict()
    if wanted.task:
        conditions += " AND task LIKE :task ESCAPE '\\'"
        values["task"] = wanted.task.translate(_PATTERNS)
    if wanted.queue:
        conditions += " AND queue = :queue"
        values["queue"] = wanted.queue
    statement = text(f"{conditions} ORDER BY changed DESC, id DESC LIMIT :most")
    found: list[tuple[Status, Place]] = []
    with _in_time(store) as connection:
        for state in wanted.states:  # each by the index
            for row in connection.execute(statement, {**values, "state": str(state)}):
                found.append((rows.status_of(row), Place(row.changed, row.id)))
    found.sort(key=lambda one: one[1], reverse=True)
    found = found[: wanted.most]
    return found, found[-1][1] if len(found) == wanted.most else None


@contextlib.contextmanager
def _in_time(store: Store) -> Iterator[sqlalchemy.Connection]:
    until = time.monotonic() + _LONGEST_SECONDS
    try:
        with store.looking() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {round(_LONGEST_SECONDS * 1000)}")
                yield connection
                return
            driver: Any = connection.connection.driver_connection
            driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            try:
                yield connection
            finally:
                driver.set_progress_handler(None, 0)
    except RecordUnavailable as error:
        if time.monotonic() < until or not isinstance(error.__cause__, exc.OperationalError):
            raise
        raise QuestionRefused(
            f"looking for it took longer than {_LONGEST_SECONDS:g} s and was given up; name a state, or a shorter time"
        ) from error
