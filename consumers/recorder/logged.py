"""What followed tasks have logged, as rows of the record: in the order in which it was told, and capped."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy
from sqlalchemy import text

from leveret.consumers.child.protocol import LONGEST_LINE_BYTES, MOST_LOGGED_BYTES
from leveret.consumers.recorder import rows
from leveret.topology.record import Logged, LogPlace

MOST_BYTES = MOST_LOGGED_BYTES + 4 * LONGEST_LINE_BYTES
"""Kept of one attempt: what a worker tells of it at most. What it tells when it runs again counts as well."""

_SIZES = text(
    f"SELECT id, attempt, SUM(size) AS size FROM leveret_logs WHERE {rows.OF_IDS} GROUP BY id, attempt"  # noqa: S608 - nobody's text
)
_KNOWN = text(f"SELECT id, at, attempt FROM leveret_logs WHERE {rows.OF_IDS} AND at >= :oldest")  # noqa: S608
_INSERT = text(
    "INSERT INTO leveret_logs (id, at, attempt, size, dropped, lines) "
    "VALUES (:id, :at, :attempt, :size, :dropped, :lines)"
)
_SELECT = text(
    "SELECT at, attempt, dropped, lines FROM leveret_logs WHERE id = :id AND (at, attempt) >= (:at, :attempt) "
    "ORDER BY at, attempt LIMIT :most"
)


def write(connection: sqlalchemy.Connection, told: Sequence[tuple[str, Logged]]) -> None:
    """Write what was told, with the ids of the tasks, unless it is there already.

    Of what passes `MOST_BYTES` it is written once that lines were left out, and then nothing.
    """
    if not told:
        return
    ids = rows.ids_of(task_id for task_id, _ in told)
    oldest = {"oldest": min(one.at for _, one in told)}
    sizes = {(row.id, row.attempt): int(row.size) for row in connection.execute(_SIZES, ids)}
    known = {(row.id, row.at, row.attempt) for row in connection.execute(_KNOWN, ids | oldest)}
    new = []
    for task_id, one in told:
        of_attempt, key = (task_id, one.attempt), (task_id, one.at, one.attempt)
        before = sizes.get(of_attempt, 0)
        if key in known or before > MOST_BYTES:
            continue
        known.add(key)
        lines, dropped = [line[:LONGEST_LINE_BYTES] for line in one.lines], one.dropped
        size = sum(len(line.encode(errors="replace")) + 1 for line in lines)
        sizes[of_attempt] = before + size
        if sizes[of_attempt] > MOST_BYTES:
            lines, dropped = [], dropped + len(lines)
        row_of = {"id": task_id, "at": one.at, "attempt": one.attempt, "size": size, "dropped": dropped}
        new.append({**row_of, "lines": json.dumps(lines)})
    if new:
        connection.execute(_INSERT, new)


def read(connection: sqlalchemy.Connection, task_id: str, place: LogPlace, most: int) -> list[Logged]:
    """Return at most so many rows of a task, from this place on; the first of them from its beginning."""
    values = {"id": task_id, "at": place.at, "attempt": place.attempt, "most": most}
    return [
        Logged(row.attempt, row.at, json.loads(row.lines), row.dropped) for row in connection.execute(_SELECT, values)
    ]
