"""A task's status as a row of the record, and the statements that read and write rows by their ids."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import bindparam, text

from leveret.topology.record import write_status
from leveret.topology.status import State, Status

COLUMNS = "id, state, task, queue, details"
_OF_ROW = ("id", "state", "task", "queue")
_IDS_AT_ONCE = 500
_encode = json.JSONEncoder(separators=(",", ":")).encode

_UPSERT = text(
    """INSERT INTO leveret_tasks (id, state, task, queue, changed, details, result)
    VALUES (:id, :state, :task, :queue, :changed, :details, :result)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, task = excluded.task, queue = excluded.queue,
        changed = excluded.changed, details = excluded.details, result = excluded.result"""
)
_UPSERT_ATTEMPT = text(
    """INSERT INTO leveret_attempts (id, number, outcome) VALUES (:id, :number, :outcome)
    ON CONFLICT (id, number) DO UPDATE SET outcome = excluded.outcome"""
)


def by_ids(statement: str) -> sqlalchemy.TextClause:
    """Return a statement with `:ids` in it, for a list of them."""
    return text(statement).bindparams(bindparam("ids", expanding=True))


_SELECT = by_ids(f"SELECT {COLUMNS}, result FROM leveret_tasks WHERE id IN :ids")  # noqa: S608 - nobody's text
_SELECT_ATTEMPTS = by_ids("SELECT id, number, outcome FROM leveret_attempts WHERE id IN :ids ORDER BY id, number")


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in pieces that a statement takes."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def status_of(row: Any, result: str | None = None) -> Status:
    """Return the status that a row says."""
    details = json.loads(row.details)
    return Status(row.id, State(row.state), row.task, row.queue, result=result, **details)


def read(connection: sqlalchemy.Connection, ids: Sequence[str]) -> dict[str, Status]:
    """Return what is known of these, by id, with the results."""
    return {
        row.id: status_of(row, row.result)
        for some in chunks(ids)
        for row in connection.execute(_SELECT, {"ids": list(some)})
    }


def write(connection: sqlalchemy.Connection, statuses: Sequence[Status], changed: float) -> None:
    """Write rows, new or not; `changed` is the time by this machine's clock."""
    if statuses:
        connection.execute(_UPSERT, [_row_of(status, changed) for status in statuses])


def _row_of(status: Status, changed: float) -> dict[str, Any]:
    details = write_status(status)
    row = {name: details.pop(name, "") for name in _OF_ROW}
    return {**row, "changed": changed, "details": _encode(details), "result": status.result}


def read_attempts(connection: sqlalchemy.Connection, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the failed attempts of these, by id, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for some in chunks(ids):
        for row in connection.execute(_SELECT_ATTEMPTS, {"ids": list(some)}):
            found.setdefault(row.id, []).append({"attempt": row.number, **json.loads(row.outcome)})
    return found


def write_attempts(connection: sqlalchemy.Connection, outcomes: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Write how attempts failed, by id and number."""
    if outcomes:
        rows = [{"id": id, "number": number, "outcome": _encode(one)} for (id, number), one in outcomes.items()]
        connection.execute(_UPSERT_ATTEMPT, rows)
