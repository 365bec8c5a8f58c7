"""The tasks of `benchmarks.batches`: a row in SQLite for each call, with a commit for each or one for a batch."""

from __future__ import annotations

import os
import sqlite3
import time

from leveret import Batch, WorkQueue, task

DATABASE = "BATCHES_DATABASE"
"""The environment variable that names the database file."""
SIZE = 100
SINGLE = WorkQueue("batches-single", topics=["batches.single"], retry_delays=())
TOGETHER = WorkQueue("batches-together", topics=["batches.together"], retry_delays=())
_connections: list[sqlite3.Connection] = []


def _database() -> sqlite3.Connection:
    if not _connections:
        _connections.append(sqlite3.connect(os.environ[DATABASE]))
    return _connections[0]


@task("batches.single", queue=SINGLE)
def single(number: int) -> None:
    """Insert a row and commit."""
    with _database() as database:
        database.execute("INSERT INTO singly VALUES (?, ?)", (number, time.monotonic()))


@task("batches.together", queue=TOGETHER, batch=Batch(SIZE, within_seconds=1))
def together(numbers: list[int]) -> None:
    """Insert the rows and commit."""
    with _database() as database:
        now = time.monotonic()
        database.executemany("INSERT INTO together VALUES (?, ?)", [(number, now) for number in numbers])
