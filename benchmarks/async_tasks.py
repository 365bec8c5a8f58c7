"""leveret's tasks for the benchmarks as coroutine functions, which run side by side on an event loop."""

from __future__ import annotations

from benchmarks import work
from leveret import WorkQueue, task

bench = WorkQueue("bench")

slow = task("bench.slow", queue=bench)(work.COROUTINES["slow"])
hold = task("bench.hold", queue=bench)(work.COROUTINES["hold"])
fetch = task("bench.fetch", queue=bench)(work.COROUTINES["fetch"])


@task("bench.noop", queue=bench)
async def noop() -> None:
    """Do nothing."""


@task("bench.meet", queue=bench)
async def meet(number: int, path: str) -> None:
    """Take a moment of the whole process, so that every process gets one, and append which process it was."""
    work.meet(number, path)


@task("bench.hunt", queue=bench)
async def hunt(number: int, folder: str, path: str) -> None:
    """Look for the treasure in one file; a file that is there has nothing to wait for."""
    work.hunt(number, folder, path)
