"""leveret's tasks for the benchmarks, on a queue with nothing but defaults."""

from __future__ import annotations

from benchmarks import work
from leveret import WorkQueue, task

bench = WorkQueue("bench")

noop = task("bench.noop", queue=bench)(work.noop)
echo = task("bench.echo", queue=bench)(work.echo)
stamp = task("bench.stamp", queue=bench)(work.stamp)
meet = task("bench.meet", queue=bench)(work.meet)
tick = task("bench.tick", queue=bench)(work.tick)
slow = task("bench.slow", queue=bench)(work.slow)
step = task("bench.step", queue=bench)(work.step)
count = task("bench.count", queue=bench)(work.count)
hunt = task("bench.hunt", queue=bench)(work.hunt)
