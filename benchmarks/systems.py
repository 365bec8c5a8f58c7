"""The systems side by side: what each is called, how its worker is started, and where its tasks wait.

The configuration of a system's sending side and of its tasks is in its module under peers/; README.md says why.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from benchmarks import environment

PROCESSES = 2
FAULTS = frozenset({"kill-child", "kill-worker", "kill-broker"})
EVERYTHING = FAULTS | {"submit", "drain", "latency", "books", "hunt", "footprint", "backlog", "mix"}


class System:
    """What all have in common. A peer runs in `.venv-bench`; leveret and what needs pika only, where we run."""

    name: ClassVar[str]
    app: ClassVar[str]
    requirements: ClassVar[tuple[str, ...]] = ()
    takes_part: ClassVar[frozenset[str]] = EVERYTHING - {"backlog", "mix"}
    on_redis: ClassVar[bool] = False
    waits_in: ClassVar[str] = "bench"
    """The queue, or on Redis the list, that holds the tasks no worker has taken."""
    counted_by: ClassVar[str] = "LLEN"
    """Redis' command for the length of that."""
    ways: ClassVar[tuple[str, ...]] = ("one_by_one", "many")
    """`many` where the system can send many other than one after another."""
    confirms_by_default: ClassVar[bool] = True
    confirms: ClassVar[bool] = True
    """Whether it sends with confirms where results or faults are measured."""
    results: ClassVar[str] = ""
    """What carries results to who waits for them, where the system is set up for that: its module knows it by this."""
    workers: ClassVar[int] = PROCESSES
    """How many processes run tasks."""
    notes: ClassVar[str]
    variables: ClassVar[dict[str, str]] = {}
    """Environment of the worker."""

    def python(self) -> str:
        """Return the interpreter of its environment."""
        return str(environment.python()) if self.requirements else sys.executable

    def declare(self) -> list[str]:
        """Return a command that declares the topology, if the sending side does not."""
        return []

    def worker(self) -> list[str]:
        """Return the command that runs a worker."""
        raise NotImplementedError

    def recorder(self) -> list[str]:
        """Return the command that runs what records beside the worker."""
        raise NotImplementedError

    def needs_redis(self) -> bool:
        """Whether its tasks wait in Redis, or their results."""
        return self.on_redis or self.results == "redis"

    def one_task_a_process(self) -> System:
        """Return the system with a worker that runs one task at a time in each process."""
        return self

    def bulk(self) -> str:
        """Return its fastest way of sending many with confirms."""
        return self.ways[-1]

    def _script(self, name: str) -> str:
        return str(Path(self.python()).parent / name)


class Leveret(System):
    """This project."""

    name = "leveret"
    app = "leveret_app"
    takes_part = EVERYTHING | {"result", "gather", "follow", "delayed"}
    notes = (
        "all defaults: quorum queue, mandatory and confirmed publishing, late acks, at-least-once retries, time limits"
    )

    def declare(self) -> list[str]:  # noqa: D102
        return [self.python(), "-m", "leveret", "declare", "--tasks", "benchmarks.tasks"]

    def worker(self) -> list[str]:  # noqa: D102
        command = "-m leveret run bench --tasks benchmarks.tasks --processes"
        return [self.python(), *command.split(), str(PROCESSES)]

    def recorder(self) -> list[str]:  # noqa: D102
        return [self.python(), "-m", "leveret", "recorder"]


class Celery(System):
    """Celery's prefork pool."""

    name = "Celery"
    app = "celery_app"
    requirements: ClassVar[tuple[str, ...]] = ("celery",)
    takes_part = EVERYTHING - {"backlog"} | {"delayed"}
    ways = ("one_by_one",)
    confirms_by_default = False
    notes = (
        "quorum queue, prefork, acks_late, reject_on_worker_lost, prefetch multiplier 64, confirm_publish (off by "
        "default), no results, no gossip, mingle, heartbeat, events and remote control"
    )

    def worker(self) -> list[str]:  # noqa: D102
        options = "--pool prefork --without-gossip --without-mingle --without-heartbeat --loglevel WARNING"
        app = "-m celery -A benchmarks.peers.celery_app worker"
        return [self.python(), *app.split(), *options.split(), "--concurrency", str(PROCESSES)]


class CeleryAsItComes(Celery):
    """The same without the settings for safety, which are not its defaults."""

    name = "Celery, as it comes"
    takes_part = FAULTS
    confirms = False
    notes = "the same without acks_late, reject_on_worker_lost and confirm_publish"
    variables = {"BENCH_LATE": "0"}  # noqa: RUF012 - a constant, as in the base class


class Dramatiq(System):
    """Dramatiq's worker processes, each with threads."""

    name = "Dramatiq"
    app = "dramatiq_app"
    requirements: ClassVar[tuple[str, ...]] = ("dramatiq[rabbitmq]",)
    takes_part = EVERYTHING - {"backlog"} | {"delayed"}
    ways = ("one_by_one",)
    confirms_by_default = False
    notes = (
        "quorum queue by the virtual host's default, late acks, default middleware, 2 threads a process and "
        "prefetch 300 (in the mix 1 and its default, 2), confirm_delivery (off by default)"
    )

    variables = {"dramatiq_queue_prefetch": "300"}  # noqa: RUF012 - a constant, as in the base class
    threads = 2

    def worker(self) -> list[str]:  # noqa: D102
        options = f"--processes {PROCESSES} --threads {self.threads}"
        return [self._script("dramatiq"), "benchmarks.peers.dramatiq_app", *options.split()]

    def one_task_a_process(self) -> System:  # noqa: D102
        return DramatiqOneThread()


class DramatiqOneThread(Dramatiq):
    """The same with one thread and the small prefetch that goes with it, so that no task waits behind a slow one."""

    variables = {}  # noqa: RUF012 - as above
    threads = 1


class Taskiq(System):
    """Taskiq's worker processes, each with an event loop."""

    name = "Taskiq"
    app = "taskiq_app"
    requirements: ClassVar[tuple[str, ...]] = ("taskiq[uv]", "taskiq-aio-pika")
    takes_part = EVERYTHING - {"backlog", "mix"} | {"delayed"}
    notes = (
        "quorum queue, late acks, confirmed publishing (its default), prefetch 300, no type casting, tasks on the "
        "event loop, with uvloop"
    )

    def worker(self) -> list[str]:  # noqa: D102
        options = f"--workers {PROCESSES} --no-parse --log-level WARNING"
        return [self._script("taskiq"), "worker", "benchmarks.peers.taskiq_app:broker", *options.split()]


class FastStream(System):
    """FastStream's processes, each with an event loop."""

    name = "FastStream"
    app = "faststream_app"
    requirements: ClassVar[tuple[str, ...]] = ("faststream[rabbit,cli]", "uvloop")
    notes = (
        "quorum queue, ack after the handler (nack on error), confirmed publishing (its default), prefetch 100, "
        "no type casting, no logging"
    )

    def worker(self) -> list[str]:  # noqa: D102
        return [self._script("faststream"), "run", "benchmarks.peers.faststream_app:app", "--workers", str(PROCESSES)]


class Huey(System):
    """Huey's process workers."""

    name = "Huey (Redis)"
    app = "huey_app"
    requirements = ("huey", "redis")
    takes_part = EVERYTHING - FAULTS - {"backlog", "mix"}
    on_redis = True
    waits_in = "huey.redis.bench"
    ways = ("one_by_one",)
    notes = (
        "Redis with an append-only file synced every second (it answers before that), no results; a task is lost if "
        "its worker dies"
    )

    def worker(self) -> list[str]:  # noqa: D102
        options = f"--worker-type process --workers {PROCESSES} --quiet"
        return [self._script("huey_consumer"), "benchmarks.peers.huey_app.huey", *options.split()]


class Rq(System):
    """RQ's pool of workers."""

    name = "RQ (Redis)"
    app = "rq_app"
    requirements = ("rq", "redis")
    takes_part = EVERYTHING - FAULTS - {"backlog", "mix", "footprint"}  # 200,000 tasks take it six minutes
    on_redis = True
    waits_in = "rq:queue:bench"
    notes = (
        "Redis with an append-only file synced every second (it answers before that), no results, SimpleWorker (no "
        "fork for each task)"
    )

    def worker(self) -> list[str]:  # noqa: D102
        options = f"--num-workers {PROCESSES} --worker-class rq.worker.SimpleWorker --logging-level WARNING --quiet"
        return [self._script("rq"), "worker-pool", "bench", *options.split()]


class Pika(System):
    """A loop around pika's asynchronous channel."""

    name = "pika, ack each"
    app = "pika_app"
    takes_part = frozenset({"submit", "drain", "latency"})
    workers = 1
    notes = "no worker system: a bare loop in one process, quorum queue, prefetch 250, one ack for each message"

    def worker(self) -> list[str]:  # noqa: D102
        return [self.python(), "-m", "benchmarks.peers.pika_app"]


class PikaCoalesced(Pika):
    """The same with one ack for many."""

    name = "pika, coalesced"
    takes_part = frozenset({"drain"})
    notes = "the same bare loop with one ack for 50 messages"

    def worker(self) -> list[str]:  # noqa: D102
        return [*super().worker(), "coalesced"]


class Pool(System):
    """multiprocessing.Pool."""

    name = "multiprocessing.Pool"
    app = "pool"
    takes_part = frozenset({"books"})
    notes = "no broker and no guarantees: the same function in a pool of 2 processes, one book at a time"

    def worker(self) -> list[str]:  # noqa: D102
        return [self.python(), "-m", "benchmarks.peers.pool", str(PROCESSES)]


ALL: tuple[System, ...] = (
    Leveret(),
    Celery(),
    CeleryAsItComes(),
    Dramatiq(),
    Taskiq(),
    FastStream(),
    Huey(),
    Rq(),
    Pika(),
    PikaCoalesced(),
    Pool(),
)
