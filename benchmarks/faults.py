"""What faults cost: a worker's child, a whole worker or the broker is killed while tasks are sent and run.

A task counts once its send has returned without an error. Lost are those that were then never run to their end.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from benchmarks.bench import START_TIMEOUT_SECONDS, Cell
from benchmarks.processes import Failed, wait_until
from benchmarks.work import CONFIRMED, FINISHED, STARTED, STEP
from tests.faults.nodes import answers

T = TypeVar("T")

INTERVAL_SECONDS = 0.02
WORK_SECONDS = 0.01
_LEAST_BETWEEN_SECONDS, _MOST_BETWEEN_SECONDS = 1.5, 2.5
_GIVEN_UP_AFTER_SECONDS = 45.0
"""Nothing has run for so long: what is missing then is lost."""
_RESTART_SECONDS = 0.1
"""What a service manager waits before it starts an ended worker again, as systemd does by default."""


class Step(NamedTuple):
    """One line of the log."""

    number: int
    seconds: float
    pid: int
    what: int


class Blow(NamedTuple):
    """When a fault was over, and the process it hit in the middle of a task, if that was all it hit."""

    end: float
    pid: int | None = None


@dataclass(frozen=True)
class Fault:
    """Something that breaks, several times in one measurement."""

    name: str
    title: str
    times: int
    blow: Callable[[_Run], Blow]


def measure(cell: Cell, fault: Fault) -> dict[str, float]:
    """Break it while tasks are sent; return what was lost, what ran twice, and the longest recovery."""
    return _Run(cell).through(fault)


class _Run:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._log = cell.folder / "steps"
        self._stop = cell.folder / "stop"
        self._log.touch()

    def through(self, fault: Fault) -> dict[str, float]:
        job = {"steps": str(self._log), "until": str(self._stop), "interval": INTERVAL_SECONDS, "work": WORK_SECONDS}
        sender = self.cell.start_sender(job)
        blows: list[Blow] = []
        for _ in range(fault.times):
            self._work_for(random.uniform(_LEAST_BETWEEN_SECONDS, _MOST_BETWEEN_SECONDS))  # noqa: S311 - moments, not secrets
            blows.append(fault.blow(self))
        self._work_for(_MOST_BETWEEN_SECONDS)
        self._stop.touch()
        self._await(lambda: sender.has_ended() or self._is_still(), "the last answer to the sender")
        self._await(lambda: not self.missing() or self._is_still(), "the last task")
        runs = Counter(step.number for step in self.steps() if step.what == FINISHED)
        numbers: dict[str, float] = {
            "lost": len(self.missing()),
            "twice": sum(count - 1 for count in runs.values()),
            "recovery": max(self._recovery_seconds(blow.end, self._hit(*blows)) for blow in blows),
        }
        if again := [self._first_ends(hit, blow.end) for blow in blows if (hit := self._hit(blow) - self.missing())]:
            numbers["again"] = max(again)
        return {f"{fault.name}_{what}": number for what, number in numbers.items()}

    def steps(self) -> list[Step]:
        """Return what has happened so far."""
        raw = self._log.read_bytes()
        return [Step(*fields) for fields in STEP.iter_unpack(raw[: len(raw) // STEP.size * STEP.size])]

    def missing(self) -> set[int]:
        """Return the tasks whose send returned and that have not run to their end."""
        steps = self.steps()
        confirmed = {step.number for step in steps if step.what == CONFIRMED}
        return confirmed - {step.number for step in steps if step.what == FINISHED}

    def running(self) -> Step | None:
        """Return the beginning of a task that runs now, if one does."""
        latest = {step.number: step for step in self.steps() if step.what != CONFIRMED}
        begun = [step for step in latest.values() if step.what == STARTED and _is_alive(step.pid)]
        return max(begun, key=lambda step: step.seconds, default=None)

    def _work_for(self, seconds: float) -> None:
        """Let so much time go by, counted from when work goes on."""
        since = time.monotonic()

        def goes_on() -> bool:
            return any(step.what == STARTED and step.seconds > since for step in self.steps())

        self._await(lambda: goes_on() or self._is_still(), "a task to begin")
        if self._is_still():
            raise Failed(f"nothing has run for {_GIVEN_UP_AFTER_SECONDS:g} s")
        until = time.monotonic() + seconds
        self._await(lambda: time.monotonic() > until, "time to go by")

    def _is_still(self) -> bool:
        """Whether nothing has happened for long."""
        return time.time() - self._log.stat().st_mtime > _GIVEN_UP_AFTER_SECONDS

    def _await(self, look: Callable[[], T | None], what: str) -> T:
        """Wait for something; a worker that ends meanwhile is started again, as a service manager would."""

        def see() -> T | None:
            if self.cell.worker_has_ended():
                time.sleep(_RESTART_SECONDS)
                self.cell.start_worker()
            return look()

        return wait_until(see, 10 * START_TIMEOUT_SECONDS, what)

    def _recovery_seconds(self, end: float, hit: set[int]) -> float:
        """Return how long after a fault work was as before.

        That is when all that was sent or begun before its end had run, as far as it ever did, but for what was hit in
        the middle; and when the first that was sent after it had run.
        """
        steps = self.steps()
        affected = {step.number for step in steps if step.what != FINISHED and step.seconds <= end}
        sent_later = (step.number for step in steps if step.what == CONFIRMED and step.seconds > end)
        affected.update(islice(sent_later, 1))
        return self._first_ends(affected - hit, end)

    def _hit(self, *blows: Blow) -> set[int]:
        """Return the tasks that these hit in the middle."""
        pids = {blow.pid for blow in blows}
        steps = [step for step in self.steps() if step.pid in pids]
        finished = {(step.number, step.pid) for step in steps if step.what == FINISHED}
        return {step.number for step in steps if step.what == STARTED and (step.number, step.pid) not in finished}

    def _first_ends(self, numbers: set[int], since: float) -> float:
        """Return when the last of these tasks had run for the first time, in seconds."""
        ends: dict[int, float] = {}
        for step in self.steps():
            if step.what == FINISHED and step.number in numbers:
                ends.setdefault(step.number, step.seconds)
        return max(0.0, max(ends.values(), default=since) - since)

    def kill_child(self) -> Blow:
        """Kill a process in the middle of a task."""
        step = self._await(self.running, "a task that runs")
        with suppress(ProcessLookupError):
            os.kill(step.pid, signal.SIGKILL)
        return Blow(time.monotonic(), step.pid)

    def kill_worker(self) -> Blow:
        """Kill all processes of the worker, and start another."""
        self.cell.kill_worker()
        self.cell.start_worker()
        return Blow(time.monotonic())

    def kill_broker(self) -> Blow:
        """Kill the broker and start it again."""
        nodes = self.cell.bench.nodes
        if nodes is None:
            raise Failed("this needs a broker that may be killed: --broker private, or a command")
        nodes.kill(1)
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(nodes.start, 1)
            self._await(lambda: answers(nodes.amqp_url(1)), "the broker to take connections again")
            end = time.monotonic()
            self._await(started.done, "the broker to start")
            started.result()
        return Blow(end)


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("kill-child", "kill -9 of a child in the middle of a task, 5 times", 5, _Run.kill_child),
        Fault("kill-worker", "kill -9 of all processes of the worker, 5 times", 5, _Run.kill_worker),
        Fault("kill-broker", "kill -9 of the broker, twice", 2, _Run.kill_broker),
    )
}
