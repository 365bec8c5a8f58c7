"""What a measurement works with: a broker made empty for it, the system's sending side, its worker, its queue."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.brokers import Depth, ListDepth, QueueDepth, RabbitMQ, Redis
from benchmarks.environment import CHECKOUT
from benchmarks.processes import Failed, Process, wait_until
from benchmarks.systems import System
from benchmarks.work import RECORD
from tests.faults.nodes import Nodes

START_TIMEOUT_SECONDS = 60.0
TIMEOUT_SECONDS = 900.0
_MEETING_ROUND = 20
# Without its bytecode a checkout would be compiled at each start, which an installed peer is not.
_KEPT_FROM_COMMANDS = ("BENCH_", "LEVERET_", "PYTHONDONTWRITEBYTECODE")

Call = tuple[str, dict[str, object]]


@dataclass(frozen=True)
class Sent:
    """What the sending side says: when it sent the first, how long it took, and how many it sent."""

    began: float
    seconds: float
    count: int
    times: Sequence[float] = ()
    """Where each call was waited for: how many seconds each took."""


@dataclass(frozen=True)
class Sizes:
    """How much work each measurement is."""

    submit_seconds: float = 3.0
    drain_seconds: float = 3.0
    drain_fewest: int = 20_000
    drain_most: int = 200_000
    latency_tasks: int = 300
    latency_interval_seconds: float = 0.01
    book_rounds: int = 10
    book_repeats: int = 5
    hunt_files: int = 10_000
    memory_tasks: int = 200_000
    idle_seconds: float = 10.0
    mix_slow: int = 100
    mix_slow_seconds: float = 1.0
    mix_tiny: int = 10_000
    backlogs: tuple[int, ...] = (10_000, 1_000_000)
    backlog_tasks: int = 10_000
    wait_tasks: int = 20_000
    wait_seconds: float = 0.1
    fetch_tasks: int = 5_000
    fetch_milliseconds: int = 20
    hold_tasks: int = 1_000
    hold_seconds: float = 10.0
    hold_idle_seconds: float = 3.0
    result_tasks: int = 300
    gather_seconds: float = 6.0
    gather_most: int = 20_000
    delayed_tasks: int = 2_000
    delayed_interval_seconds: float = 0.005


QUICK = Sizes(
    submit_seconds=0.5,
    drain_seconds=0.0,
    drain_fewest=3_000,
    latency_tasks=100,
    delayed_tasks=200,
    book_rounds=2,
    book_repeats=1,
    hunt_files=500,
    memory_tasks=1_000,
    idle_seconds=1.0,
    wait_tasks=2_000,
    fetch_tasks=500,
    hold_tasks=100,
    hold_idle_seconds=1.0,
    result_tasks=50,
    gather_most=500,
)


@dataclass
class Bench:
    """All that the measurements share."""

    rabbitmq: RabbitMQ
    redis: Redis | None
    folder: Path
    sizes: Sizes
    books: Sequence[Path]
    nodes: Nodes | None = None
    """The broker's node, where it may be killed."""
    settled: dict[str, int] = field(default_factory=dict)
    """How many messages suit a system, found out in the first round."""

    @contextmanager
    def cell(self, system: System) -> Iterator[Cell]:
        """Make the brokers empty for a measurement, and stop what it started afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        with self.rabbitmq.vhost() as url:
            cell = Cell(self, system, folder, url)
            try:
                cell.declare()
                yield cell
            finally:
                cell.stop()
                shutil.rmtree(folder, ignore_errors=True)


class Cell:
    """One system on brokers that are empty but for its tasks."""

    def __init__(self, bench: Bench, system: System, folder: Path, amqp_url: str) -> None:
        self.bench = bench
        self.sizes = bench.sizes
        self.system = system
        self.folder = folder
        self._amqp_url = amqp_url
        self._depth: Depth | None = None
        self._worker: Process | None = None
        self._sender: Process | None = None
        self._recorder: Process | None = None
        if system.needs_redis() and bench.redis is None:
            raise Failed("there is no Redis")
        if bench.redis:
            bench.redis.empty()
        redis_url = bench.redis.url if bench.redis else ""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_KEPT_FROM_COMMANDS)},
            "PYTHONPATH": str(CHECKOUT),
            "AMQP_URL": amqp_url,
            "REDIS_URL": redis_url,
            "RQ_REDIS_URL": redis_url,
            "BENCH_RESULTS": system.results,
        }

    def declare(self) -> None:
        """Declare the system's topology."""
        if command := self.system.declare():
            self._run(command, "", START_TIMEOUT_SECONDS)

    def send(self, way: str, job: Mapping[str, object], confirm: bool = True) -> Sent:
        """Have the sending side do a job, which peers/produce.py describes."""
        answer = self._run(self._sender_command(), json.dumps({"way": way, **job}), TIMEOUT_SECONDS, confirm)
        return Sent(**json.loads(answer.splitlines()[-1]))

    def start_sender(self, job: Mapping[str, object]) -> Process:
        """Have the sending side begin a job that goes on until it is told to stop."""
        environment = self._sender_environment(self.system.confirms)
        self._sender = Process(self._sender_command(), environment, self.folder, json.dumps(job).encode())
        return self._sender

    def preload(self, count: int, way: str = "") -> None:
        """Put no-op tasks into the queue, without confirms where that is faster, and wait until all are there."""
        self._fill({"task": "noop", "count": count}, count, way)

    def preload_calls(self, calls: Sequence[Call]) -> None:
        """Put these into the queue in the same way."""
        self._fill({"calls": calls}, len(calls))

    def _fill(self, job: Mapping[str, object], count: int, way: str = "") -> None:
        self.send(way or self.system.bulk(), job, confirm=self.system.confirms_by_default)
        wait_until(lambda: self.depth() >= count, START_TIMEOUT_SECONDS, f"{count} messages in the queue")

    def depth(self) -> int:
        """Return how many tasks no worker has taken."""
        if self._depth is None:
            if self.system.on_redis and self.bench.redis:
                self._depth = ListDepth(self.bench.redis.url, self.system.waits_in, self.system.counted_by)
            else:
                self._depth = QueueDepth(self._amqp_url, self.system.waits_in)
        return self._depth()

    def start_worker(self) -> Process:
        """Start the worker; what is left of one before it is killed."""
        self.kill_worker()
        self._worker = Process(self.system.worker(), {**self._environment, **self.system.variables}, self.folder)
        return self._worker

    def start_warm_worker(self) -> Process:
        """Start the worker and wait until each of its processes has run a task."""
        worker = self.start_worker()
        path = self.folder / "met"
        sent = 0

        def all_ran() -> bool:
            worker.check()
            return _size(path) >= sent * RECORD.size

        while len({pid for _, pid in _records(path)}) < self.system.workers:
            if sent >= 20 * _MEETING_ROUND:
                raise Failed(f"not all of the {self.system.workers} processes run tasks")
            calls = [("meet", {"number": number, "path": str(path)}) for number in range(_MEETING_ROUND)]
            self.send(self.system.ways[0], {"calls": calls})
            sent += _MEETING_ROUND
            wait_until(all_ran, START_TIMEOUT_SECONDS, "the first tasks to run")
        return worker

    def seconds_until_run(self, calls: Sequence[Call], path: Path) -> float:
        """Send tasks that append their number to a file, and return the time from the first send to the last run."""
        sent = self.send(self.system.bulk(), {"calls": calls})
        return self.wait_until_run(len(calls), path)[1] - sent.began

    def wait_until_run(self, count: int, path: Path) -> tuple[int, float]:
        """Wait until so many tasks have appended their number; return how many have by then, and when the last did."""

        def enough_ran() -> tuple[int, float] | None:
            self.check_worker()
            if _size(path) < count * RECORD.size:
                return None
            last = path.stat().st_mtime_ns / 1e9
            ran = len({number for number, _ in _records(path)})
            return (ran, last) if ran >= count else None

        return wait_until(enough_ran, TIMEOUT_SECONDS, f"{count} tasks to run")

    def worker_has_ended(self) -> bool:
        """Whether a worker was started and has ended."""
        return self._worker is not None and self._worker.has_ended()

    def kill_worker(self) -> None:
        """Kill all processes of the worker."""
        if self._worker:
            self._worker.kill()

    def check_worker(self) -> None:
        """Raise `Failed` if the worker has ended."""
        if self._worker:
            self._worker.check()

    def run_pool(self, calls: Sequence[Call]) -> Sent:
        """Run the calls in the system's worker without any broker."""
        return Sent(**json.loads(self._run(self.system.worker(), json.dumps({"calls": calls}), TIMEOUT_SECONDS)))

    def start_recorder(self) -> Path:
        """Start a recorder, wait until it takes events, and return the file that it writes."""
        path = self.folder / "record.sqlite3"
        environment = {**self._environment, "RECORD_URL": f"sqlite:///{path}"}
        self._recorder = recorder = Process(self.system.recorder(), environment, self.folder)

        def records() -> bool:
            recorder.check()
            return "recording" in recorder.log_end()

        wait_until(records, START_TIMEOUT_SECONDS, "the recorder to take events")
        return path

    def stop(self) -> None:
        """Stop the worker, and what was started beside it."""
        if self._depth:
            with contextlib.suppress(Exception):
                self._depth.close()
        for process in filter(None, (self._sender, self._worker, self._recorder)):
            process.stop()

    def _sender_command(self) -> list[str]:
        return [self.system.python(), "-m", "benchmarks.peers.produce", self.system.app]

    def _sender_environment(self, confirm: bool) -> dict[str, str]:
        return {**self._environment, "BENCH_CONFIRM": str(int(confirm))}

    def _run(self, command: Sequence[str], given: str, timeout_seconds: float, confirm: bool = True) -> str:
        try:
            ran = subprocess.run(
                command,
                input=given,
                env=self._sender_environment(confirm),
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{' '.join(command[1:4])} did not end within {timeout_seconds:g} s") from error
        if ran.returncode:
            lines = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
            raise Failed(f"{' '.join(command[1:5])}: {lines[-1]}")
        return ran.stdout


def wait_for_files(folder: Path, count: int, check: Callable[[], None]) -> float:
    """Wait for so many results in a folder and return when the last was saved."""

    def all_there() -> list[Path] | None:
        check()
        results = list(folder.glob("*.json"))
        return results if len(results) >= count else None

    results = wait_until(all_there, TIMEOUT_SECONDS, f"{count} results")
    return max(result.stat().st_mtime_ns for result in results) / 1e9


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _records(path: Path) -> list[tuple[int, int]]:
    return list(RECORD.iter_unpack(path.read_bytes())) if path.exists() else []
