"""Faults of the worker's processes: killed, told to stop, stopped for a while."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from leveret import TaskMessage
from tests.broker.support import Worker
from tests.faults.row import Row
from tests.faults.stage import HELD, PREFETCH, Stage

HANDED_BACK = 3
_LONG_SECONDS = 20.0


def kill_child(stage: Stage) -> None:
    """Kill a child in the middle of a task."""
    stage.worker()
    with stage.load():
        stage.wait_a_moment()
        victim = stage.await_running()
        stage.blow(hit=[victim.id])
        os.kill(victim.pid, signal.SIGKILL)


def kill_parent(stage: Stage) -> None:
    """Kill the parent of a worker at work; its children die with it, and another worker takes over."""
    doomed = stage.worker()
    stage.leaving[doomed] = -signal.SIGKILL
    with stage.load():
        stage.wait_a_moment()
        stage.await_running()
        stage.blow()
        doomed.process.kill()
        stage.worker()


def stop_once(stage: Stage) -> None:
    """Tell a worker at work to stop; it finishes what runs."""
    doomed = stage.worker()
    with stage.load():
        stage.wait_a_moment()
        stage.await_running()
        stage.blow()
        doomed.signal(signal.SIGTERM)
        stage.worker()
    stage.expect(doomed.wait() == 0, "it did not leave with status 0")


def stop_in_no_time(stage: Stage) -> None:
    """Tell a worker at work to stop, with less time than its task takes; it hands the task back."""
    doomed = stage.worker(SHUTDOWN_TIMEOUT_SECONDS="0.2")
    stage.leaving[doomed] = HANDED_BACK
    long = stage.submit(_long_at_first(stage))
    with stage.load():
        stage.await_running(*long)
        stage.blow()
        doomed.signal(signal.SIGTERM)
        _expect_to_leave(stage, doomed)
        stage.worker()


def stop_twice(stage: Stage) -> None:
    """Tell a worker at work to stop, twice: it hands back what runs, at once."""
    doomed = stage.worker()
    stage.leaving[doomed] = HANDED_BACK
    long = stage.submit(_long_at_first(stage))
    with stage.load():
        stage.await_running(*long)
        first, second = stage.random.choices((signal.SIGTERM, signal.SIGINT), k=2)
        doomed.signal(first)
        doomed.await_event(f"{first.name}: finishing")
        stage.blow()
        doomed.signal(second)
        _expect_to_leave(stage, doomed)
        stage.worker()


def _long_at_first(stage: Stage) -> TaskMessage:
    return stage.message("faults.slow_at_first", seconds=_LONG_SECONDS, marker=str(stage.folder / "slow"))


def _expect_to_leave(stage: Stage, worker: Worker) -> None:
    """See a worker leave long before its task could have ended."""
    worker.wait()
    seconds = time.monotonic() - stage.began
    stage.expect(seconds < _LONG_SECONDS / 2, f"it took {seconds:.1f} s to leave")


def close_the_lid(stage: Stage) -> None:
    """Stop a whole worker for longer than the broker waits for heartbeats, then let it go on, beside another."""
    asleep = stage.worker("--prefetch", str(PREFETCH), HEARTBEAT_SECONDS="1")
    with stage.load(count=300, seconds=7.0):
        stage.wait_a_moment()
        stage.await_running()
        family = family_of(asleep)
        with stage.fault():
            for pid in family:
                os.kill(pid, signal.SIGSTOP)
            stage.worker(processes=1)
            time.sleep(stage.random.uniform(4.0, 5.5))
            for pid in family:
                os.kill(pid, signal.SIGCONT)
        asleep.await_event("consuming again")


def family_of(worker: Worker) -> list[int]:
    """Return the pids of a worker, its forkserver and its children, parents first."""
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    family = [worker.process.pid]
    for member in family:
        family += [pid for pid, parent in parents.items() if parent == member]
    return family


_IN_FLIGHT = "what was begun at the blow, or had finished so shortly before that its ack was under way"

ROWS = [
    Row(1, "kill-child", "kill -9 of a child in the middle of a task", _IN_FLIGHT, kill_child, Stage.in_flight),
    Row(
        2,
        "kill-parent",
        "kill -9 of a worker's parent; another worker starts",
        _IN_FLIGHT,
        kill_parent,
        Stage.in_flight,
    ),
    Row(3, "sigterm", "SIGTERM in the middle of tasks shorter than the grace", "0", stop_once),
    Row(
        3,
        "sigterm-short-grace",
        "SIGTERM in the middle of a task longer than the grace",
        _IN_FLIGHT,
        stop_in_no_time,
        Stage.in_flight,
    ),
    Row(4, "sigterm-twice", "a second SIGTERM or SIGINT", _IN_FLIGHT, stop_twice, Stage.in_flight),
    Row(
        33,
        "lid",
        "SIGSTOP of a whole worker for longer than the heartbeat, then SIGCONT",
        HELD,
        close_the_lid,
        Stage.held,
    ),
]
