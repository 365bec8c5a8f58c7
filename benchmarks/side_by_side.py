"""The systems set up to run many waiting tasks side by side: 500 in each of two processes, or as many as suit them.

README.md says how each was set, and why.
"""

from __future__ import annotations

from importlib import metadata
from typing import ClassVar

from benchmarks import systems
from benchmarks.systems import PROCESSES, Celery, Dramatiq, FastStream, Leveret, System, Taskiq
from benchmarks.waiting import WAITING

AT_ONCE = 500
"""Tasks each process runs side by side."""
GRACE_SECONDS = 2
"""What running tasks are given when the worker is told to stop."""
_COUNTED = {"BENCH_AT_ONCE": str(AT_ONCE), "BENCH_GRACE": str(GRACE_SECONDS)}


def each(command: list[str]) -> list[str]:
    """Return a command that runs one of this for each process, and tells them to stop when it is told."""
    script = (
        "trap 'kill -TERM $pids' TERM; "
        f'for _ in $(seq {PROCESSES}); do "$@" & pids="$pids $!"; done; wait $pids; wait $pids'
    )
    return ["sh", "-c", script, "sh", *command]


class LeveretAsync(Leveret):
    """`async def` tasks."""

    name = "leveret, async"
    requirements = (
        *(one for one in metadata.requires("leveret") or () if "extra ==" not in one),
        "aiohttp",
        "uvloop",
    )
    takes_part = frozenset({"drain", "hunt", *WAITING})
    notes = f"all defaults but --concurrency {AT_ONCE}; all tasks are coroutine functions"
    variables: ClassVar[dict[str, str]] = {"SHUTDOWN_TIMEOUT_SECONDS": str(GRACE_SECONDS)}
    tasks: ClassVar[str] = "benchmarks.async_tasks"
    many: ClassVar[str] = "--concurrency"

    def declare(self) -> list[str]:  # noqa: D102
        return [self.python(), "-m", "leveret", "declare", "--tasks", self.tasks]

    def worker(self) -> list[str]:  # noqa: D102
        command = f"-m leveret run bench --tasks {self.tasks} --processes {PROCESSES} {self.many} {AT_ONCE}"
        return [self.python(), *command.split()]


class LeveretThreads(LeveretAsync):
    """Plain tasks that say `threads=True`."""

    name = "leveret, threads"
    notes = f"all defaults but --threads {AT_ONCE}; all tasks are plain functions, with threads=True"
    tasks = "benchmarks.thread_tasks"
    many = "--threads"


class CeleryGevent(Celery):
    """Two workers, each with greenlets."""

    name = "Celery, gevent"
    requirements = ("celery[gevent]",)
    takes_part = frozenset(WAITING)
    notes = f"as Celery, but two workers, each with {AT_ONCE} greenlets and prefetch multiplier 1"
    variables: ClassVar[dict[str, str]] = {"BENCH_PREFETCH": "1"}
    pool: ClassVar[str] = "gevent"

    def worker(self) -> list[str]:  # noqa: D102
        options = f"--pool {self.pool} --without-gossip --without-mingle --without-heartbeat --loglevel WARNING"
        app = "-m celery -A benchmarks.peers.celery_app worker"
        return each([self.python(), *app.split(), *options.split(), "--concurrency", str(AT_ONCE)])


class CeleryThreads(CeleryGevent):
    """Two workers, each with threads."""

    name = "Celery, threads"
    notes = f"as Celery, but two workers, each with {AT_ONCE} threads and prefetch multiplier 1"
    pool = "threads"


class DramatiqThreads(Dramatiq):
    """Hundreds of threads."""

    name = "Dramatiq, threads"
    takes_part = frozenset(WAITING)
    notes = f"as Dramatiq, but {AT_ONCE} threads a process and its default prefetch, twice that"
    variables: ClassVar[dict[str, str]] = {}
    threads = AT_ONCE

    def worker(self) -> list[str]:  # noqa: D102
        return [*super().worker(), "--worker-shutdown-timeout", str(GRACE_SECONDS * 1000)]


class TaskiqMany(Taskiq):
    """More at once than its default of 100."""

    name = "Taskiq, 500 at once"
    takes_part = frozenset(WAITING)
    requirements = (*Taskiq.requirements, "aiohttp")
    notes = f"as Taskiq, but --max-async-tasks {AT_ONCE} and prefetch {AT_ONCE}"
    variables: ClassVar[dict[str, str]] = {"BENCH_PREFETCH": str(AT_ONCE)}

    def worker(self) -> list[str]:  # noqa: D102
        return [*super().worker(), "--max-async-tasks", str(AT_ONCE), "--wait-tasks-timeout", str(GRACE_SECONDS)]


class FastStreamMany(FastStream):
    """More at once by a larger prefetch."""

    name = "FastStream, 500 at once"
    takes_part = frozenset(WAITING)
    requirements = (*FastStream.requirements, "aiohttp")
    notes = f"as FastStream, but prefetch {AT_ONCE}"
    variables: ClassVar[dict[str, str]] = {**_COUNTED, "BENCH_PREFETCH": str(AT_ONCE)}


class Arq(System):
    """arq's workers, each with an event loop."""

    name = "arq (Redis)"
    app = "arq_app"
    requirements = ("arq", "aiohttp")
    takes_part = frozenset(WAITING)
    on_redis = True
    counted_by = "ZCARD"
    notes = (
        f"Redis as above; two workers, max_jobs {AT_ONCE}, poll_delay 0.05 s, no results; a task stays in Redis until "
        "it has run"
    )
    variables: ClassVar[dict[str, str]] = {**_COUNTED, "BENCH_POLL": "0.05"}

    def worker(self) -> list[str]:  # noqa: D102
        return each([self._script("arq"), "benchmarks.peers.arq_app.WorkerSettings"])


ALL: tuple[System, ...] = (
    *systems.ALL,
    LeveretAsync(),
    LeveretThreads(),
    CeleryGevent(),
    CeleryThreads(),
    DramatiqThreads(),
    TaskiqMany(),
    FastStreamMany(),
    Arq(),
)
