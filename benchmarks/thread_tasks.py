"""leveret's tasks for the benchmarks, each of which may run beside others in threads of one process."""

from __future__ import annotations

from benchmarks import work
from leveret import WorkQueue, task

bench = WorkQueue("bench")

noop = task("bench.noop", queue=bench, threads=True)(work.noop)
meet = task("bench.meet", queue=bench, threads=True)(work.meet)
slow = task("bench.slow", queue=bench, threads=True)(work.slow)
hold = task("bench.hold", queue=bench, threads=True)(work.hold)
fetch = task("bench.fetch", queue=bench, threads=True)(work.fetch)
hunt = task("bench.hunt", queue=bench, threads=True)(work.hunt)
