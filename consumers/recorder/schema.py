"""The tables of the record, and how those of an earlier version become those of this one."""

from __future__ import annotations

import sqlalchemy

from leveret.topology.errors import RecordError

_TEXT = {"sqlite": "TEXT", "postgresql": 'TEXT COLLATE "C"'}
"""Texts sort by their bytes, so that a list goes on where it ended."""

MIGRATIONS: list[tuple[str, ...]] = [
    (
        """CREATE TABLE leveret_tasks (
            id {text} PRIMARY KEY NOT NULL,
            state {text} NOT NULL,
            task {text} NOT NULL,
            queue {text} NOT NULL,
            changed DOUBLE PRECISION NOT NULL,
            details TEXT NOT NULL,
            result TEXT)""",
        "CREATE INDEX leveret_tasks_by_change ON leveret_tasks (state, changed, id)",
        """CREATE TABLE leveret_attempts (
            id {text} NOT NULL,
            number INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            PRIMARY KEY (id, number))""",
    ),
    (
        """CREATE TABLE leveret_logs (
            id {text} NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            attempt INTEGER NOT NULL,
            size INTEGER NOT NULL,
            dropped BIGINT NOT NULL,
            lines TEXT NOT NULL,
            PRIMARY KEY (id, at, attempt))""",
    ),
    (
        """CREATE TABLE leveret_unique (
            name {text} PRIMARY KEY NOT NULL,
            id {text} NOT NULL,
            token TEXT NOT NULL,
            until DOUBLE PRECISION NOT NULL,
            lasts INTEGER NOT NULL)""",
        "CREATE INDEX leveret_unique_by_id ON leveret_unique (id)",
        "CREATE INDEX leveret_unique_by_end ON leveret_unique (until)",
    ),
]
"""The statements that lead from each version to the next one. What stands here is never changed, only added to.

`changed` is when the recorder last wrote the row, by its own clock; `details` is what a status says beside the columns,
as JSON; `leveret_attempts` has the attempts that failed; `leveret_logs` has what was logged, a row for each event, with
the bytes of its lines, which are JSON. `leveret_unique` has the keys that are reserved, each with the task that holds
it; `until` is when that ends, by the recorder's clock, unless `lasts` is 0 and the task is known: then it ends with the
task. `token` is known to who has reserved it.
"""


def migrate(connection: sqlalchemy.Connection, where: str) -> None:
    """Bring the tables to this version, in the transaction of the connection. Raises `RecordError` for newer ones."""
    text = _TEXT[connection.dialect.name]
    connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS leveret_schema (version INTEGER NOT NULL)")
    found = connection.exec_driver_sql("SELECT max(version) FROM leveret_schema").scalar_one()
    version = 0 if found is None else int(found)
    if version > len(MIGRATIONS):
        raise RecordError(
            f"the record in {where} has tables of version {version}, and this leveret knows {len(MIGRATIONS)}: a newer "
            "one has made them. Run that one, or set RECORD_URL to another place"
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.exec_driver_sql(statement.format(text=text))
    if version < len(MIGRATIONS):
        connection.exec_driver_sql("DELETE FROM leveret_schema")
        insert = sqlalchemy.text("INSERT INTO leveret_schema (version) VALUES (:version)")
        connection.execute(insert, {"version": len(MIGRATIONS)})
