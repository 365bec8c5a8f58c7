"""How fast a record is written and asked: `python -m benchmarks.record`.

It works without a broker, so what a recorder needs to take messages from one is left out. On a busy machine read the
numbers of this process's own time; with PostgreSQL the server's comes on top.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from leveret import Settings
from leveret.consumers.recorder import looking
from leveret.consumers.recorder.intake import MOST_MESSAGES
from leveret.consumers.recorder.store import Store
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.message import new_id
from tests import postgresql

_IN_A_MESSAGE = 64
_ASKED = 500


def messages(ids: Sequence[str]) -> Iterator[bytes]:
    """Yield what workers tell of tasks that succeed, as many in a message as they put there at most."""
    for start in range(0, len(ids), _IN_A_MESSAGE):
        told = [
            events.write_event(
                {"id": one, "at": events.now(), "queue": "mail", "attempt": 1, "of": 4, "seconds": 0.21, "result": "5"}
            )
            for one in ids[start : start + _IN_A_MESSAGE]
        ]
        yield events.write(Kind.SUCCEEDED, "mail.send", "web-3:812", told)


def measure(configured: Settings, tasks: int) -> None:
    """Write so many tasks, ask for some, and print what it took."""
    store = Store(configured)
    ids = [new_id() for _ in range(tasks)]
    spent = used = 0.0
    batch_of_tasks = MOST_MESSAGES * _IN_A_MESSAGE
    memory = _mebibytes()
    for start in range(0, tasks, batch_of_tasks):
        batch = list(messages(ids[start : start + batch_of_tasks]))
        began, began_using = time.perf_counter(), time.process_time()
        store.write(batch)
        spent, used = spent + time.perf_counter() - began, used + time.process_time() - began_using
        if start == 0:
            memory = _mebibytes()
    print(f"{tasks / spent:,.0f} events a second; {tasks / used:,.0f} by this process's own time")
    print(f"{_mebibytes() - memory:+.1f} MiB between the first batch and the last")
    seconds = []
    for one in random.sample(ids, min(_ASKED, tasks)):
        began = time.perf_counter()
        looking.find(store, [one])
        seconds.append(time.perf_counter() - began)
    *_, ninety_ninth = statistics.quantiles(seconds, n=100)
    print(f"a status among {tasks:,}: {statistics.median(seconds) * 1000:.2f} ms (p99 {ninety_ninth * 1000:.2f} ms)")
    store.close()


def _mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record", description="How fast is a record?")
    parser.add_argument("--tasks", type=int, default=1_000_000, metavar="N", help="how many (default: a million)")
    into = parser.add_mutually_exclusive_group()
    into.add_argument("--url", default="", help="an empty PostgreSQL database (default: SQLite)")
    into.add_argument("--postgresql", action="store_true", help="a PostgreSQL that is started for it, on this machine")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="leveret-record-"))
        url = options.url
        if options.postgresql:
            programs = postgresql.find_programs()
            if programs is None:
                parser.error("no PostgreSQL is installed: apt-get install postgresql")
            url = stack.enter_context(postgresql.running(programs, syncs=True)).make_database()
        measure(Settings(output_dir=Path(folder), record_url=url), options.tasks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
