"""A task's status as a row of the record, and the statements that read and write rows by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy
from sqlalchemy import text

from leveret.topology.record import write_status
from leveret.topology.status import State, Status

COLUMNS = "id, state, task, queue, details"
_OF_ROW = ("id", "state", "task", "queue")

_UPSERT = """INSERT INTO leveret_tasks (id, state, task, queue, changed, details, result) {rows}
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, task = excluded.task, queue = excluded.queue,
        changed = excluded.changed, details = excluded.details, result = excluded.result"""
_UPSERT_EACH = _UPSERT.format(rows="VALUES (:id, :state, :task, :queue, :changed, :details, :result)")
"""In SQLite's own words: SQLAlchemy's take as long as all the rest."""
_UPSERT_TOGETHER = text(
    _UPSERT.format(
        rows="""SELECT id, state, task, queue, changed, details, result FROM json_to_recordset(CAST(:rows AS json)) AS
        given(id text, state text, task text, queue text, changed double precision, details text, result text)"""
    )
)
"""In one statement, which costs PostgreSQL and this process half of what one for each row does."""
_UPSERT_ATTEMPT = text(
    """INSERT INTO leveret_attempts (id, number, outcome) VALUES (:id, :number, :outcome)
    ON CONFLICT (id, number) DO UPDATE SET outcome = excluded.outcome"""
)


OF_IDS = "id IN (SELECT key FROM json_each(:ids))"
"""Of any number of ids: `ids_of` makes one parameter of them, which both databases take apart alike."""

_SELECT = text(f"SELECT {COLUMNS}, result FROM leveret_tasks WHERE {OF_IDS}")  # noqa: S608 - nobody's text
_SELECT_ATTEMPTS = text(f"SELECT id, number, outcome FROM leveret_attempts WHERE {OF_IDS} ORDER BY id, number")  # noqa: S608


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def ids_of(ids: Iterable[str]) -> dict[str, str]:
    """Return the parameter of `OF_IDS`."""
    return {"ids": _encode(dict.fromkeys(ids, 0))}


def status_of(row: Any, result: str | None = None) -> Status:
    """Return the status that a row says."""
    details = msgspec.json.decode(row.details)
    return Status(row.id, State(row.state), row.task, row.queue, result=result, **details)


def read(connection: sqlalchemy.Connection, ids: Sequence[str]) -> dict[str, Status]:
    """Return what is known of these, by id, with the results."""
    return {row.id: status_of(row, row.result) for row in connection.execute(_SELECT, ids_of(ids))}


def write(connection: sqlalchemy.Connection, statuses: Sequence[Status], changed: float) -> None:
    """Write rows, new or not; `changed` is the time by this machine's clock."""
    if not statuses:
        return
    written = [_row_of(status, changed) for status in statuses]
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_UPSERT_EACH, written)
    else:
        connection.execute(_UPSERT_TOGETHER, {"rows": _encode(written)})


def _row_of(status: Status, changed: float) -> dict[str, Any]:
    details = write_status(status)
    row = {name: details.pop(name, "") for name in _OF_ROW}
    return {**row, "changed": changed, "details": _encode(details), "result": status.result}


def read_attempts(connection: sqlalchemy.Connection, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the failed attempts of these, by id, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(_SELECT_ATTEMPTS, ids_of(ids)):
        found.setdefault(row.id, []).append({"attempt": row.number, **msgspec.json.decode(row.outcome)})
    return found


def write_attempts(connection: sqlalchemy.Connection, outcomes: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Write how attempts failed, by id and number."""
    if outcomes:
        rows = [{"id": id, "number": number, "outcome": _encode(one)} for (id, number), one in outcomes.items()]
        connection.execute(_UPSERT_ATTEMPT, rows)
