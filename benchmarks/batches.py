"""What a batch saves: rows a second that tasks insert into SQLite, one by one and a hundred at once.

    python -m benchmarks.batches              3,000 rows each way, three rounds, on the broker of AMQP_URL

The queue is filled first, then a worker of one process runs it empty. Timed from the commit that brings the first tenth
of the rows to the last one, so starting is left out. SQLite is as it comes: each commit reaches the disk.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.batches_tasks import DATABASE, SINGLE, SIZE, TOGETHER, single, together
from leveret import Publisher, Settings, WorkQueue, declare
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import CHECKOUT

_WAYS: tuple[tuple[str, AnyTask, WorkQueue, str], ...] = (
    ("one by one", single, SINGLE, "singly"),
    (f"batches of {SIZE}", together, TOGETHER, "together"),
)


def main() -> int:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000, help="rows to insert each way")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    configured = default_broker.resolve(settings.load())
    declare(configured, [SINGLE, TOGETHER])
    rates: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, task, queue, table in _WAYS:
            rates.setdefault(name, []).append(_once(configured, task, queue, table, options.rows))
    for name, measured in rates.items():
        print(f"{name:<16} {statistics.median(measured):>8,.0f} rows/s  ({min(measured):,.0f}–{max(measured):,.0f})")
    first, second = (statistics.median(measured) for measured in rates.values())
    print(f"{second / first:.1f} times as many")
    return 0


def _once(configured: Settings, task: AnyTask, queue: WorkQueue, table: str, count: int) -> float:
    with Publisher(configured) as publisher:
        publisher.submit_many(task.options(queue=queue.name).message(number) for number in range(count))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.db"
        database = sqlite3.connect(file)
        database.execute(f"CREATE TABLE {table} (number INTEGER, at REAL)")
        command = ["run", queue.name, "-a", "benchmarks.batches_tasks", "--processes", "1", "--until-empty"]
        environment = {
            **os.environ,
            "AMQP_URL": configured.amqp_url,
            DATABASE: str(file),
            "PYTHONPATH": str(CHECKOUT),
        }
        ran = subprocess.run(
            [sys.executable, "-m", "leveret", *command], env=environment, capture_output=True, check=False
        )
        if ran.returncode:
            raise SystemExit(ran.stderr.decode()[-2000:])
        times = [at for (at,) in database.execute(f"SELECT at FROM {table} ORDER BY at")]  # noqa: S608 - of a few
        database.close()
    if len(times) != count:
        raise SystemExit(f"{len(times)} rows are there, not {count}")
    left = [at for at in times if at > times[count // 10]]
    return len(left) / float(times[-1] - times[count // 10])


if __name__ == "__main__":
    sys.exit(main())
