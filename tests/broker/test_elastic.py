"""`--processes 1:3`: as many children as the work takes, and no task pays for it when they come and go."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from leveret import Route
from tests.broker.asking import infos
from tests.broker.jobs import jobs
from tests.broker.other_jobs import others
from tests.broker.support import JOBS, Vhost, Worker, Workers, await_value, is_alive
from tests.broker.waiting_jobs import waiting

FEWEST, MOST = 1, 3


class Waiting(NamedTuple):
    """Tasks that have begun say so in a file, with their process, and end when there is another."""

    folder: Path

    def publish(self, vhost: Vhost, count: int) -> None:
        for number in range(count):
            path, started = str(self.folder / "go"), str(self.folder / f"started-{number}")
            vhost.publish_task(Route.direct("jobs"), "jobs.wait_for", f"id-{number}", path=path, started=started)

    @property
    def processes(self) -> set[int]:
        return {int(text) for file in self.folder.glob("started-*") if (text := file.read_text())}

    def go(self) -> None:
        (self.folder / "go").touch()


@pytest.fixture
def tasks(vhost: Vhost, tmp_path: Path) -> Waiting:
    vhost.declare(jobs, waiting)
    return Waiting(tmp_path)


@pytest.fixture
def worker(workers: Workers, tasks: Waiting) -> Worker:
    return workers.start("--processes", f"{FEWEST}:{MOST}")


def processes_now(vhost: Vhost) -> int:
    (info,) = infos(vhost)
    assert FEWEST <= info["processes"]["now"] + (info["processes"]["now"] == 0) <= MOST
    return int(info["processes"]["now"])


def await_processes(vhost: Vhost, count: int) -> None:
    await_value(lambda: processes_now(vhost) == count, f"{count} processes")


def test_they_grow_with_a_backlog_and_shrink_when_it_is_gone(vhost: Vhost, worker: Worker, tasks: Waiting) -> None:
    """Within their bounds, one decision after the other in the log with its reason."""
    await_processes(vhost, FEWEST)
    tasks.publish(vhost, 2 * MOST)
    await_value(lambda: len(tasks.processes) == MOST, "as many processes as there may be")
    await_processes(vhost, MOST)
    tasks.go()
    for number in range(2 * MOST):
        worker.await_event("done", id=f"id-{number}")
    await_processes(vhost, FEWEST)

    decisions = [tuple(map(int, re.findall(r"\d+", event["message"]))) for event in worker.find("from ")]
    *grown, first, last = decisions
    assert [before for before, *_ in grown] == [FEWEST, *(after for _, after, *_ in grown[:-1])]
    assert [after for _, after, *_ in grown] == [min(MOST, waiting + running) for _, _, waiting, running, *_ in grown]
    assert grown[-1][1] == MOST  # at once, where all had been seen to wait
    assert (first[:2], last[:2]) == ((3, 2), (2, 1))
    assert worker.find("retry") == []
    assert worker.find("an idle child process died") == []


def test_they_grow_again_after_they_have_shrunk(vhost: Vhost, worker: Worker, tasks: Waiting, tmp_path: Path) -> None:
    """The place of one that was let go is free for another."""
    tasks.publish(vhost, MOST)
    await_value(lambda: len(tasks.processes) == MOST, "as many processes as there may be")
    tasks.go()
    await_processes(vhost, FEWEST)
    again = Waiting(tmp_path / "again")
    again.folder.mkdir()
    again.publish(vhost, MOST)

    await_value(lambda: len(again.processes) == MOST, "as many again")
    again.go()
    assert worker.stop() == 0


def test_what_runs_side_by_side_grows_by_what_a_process_holds(
    vhost: Vhost, workers: Workers, tasks: Waiting, tmp_path: Path
) -> None:
    """Two tasks a process: six take three."""
    worker = workers.start(
        "--processes", "1:4", "--concurrency", "2", queue=waiting.name, tasks=["tests.broker.waiting_jobs"]
    )
    for number in range(6):
        vhost.publish_task(Route.direct(waiting.name), "waiting.wait", f"id-{number}", folder=str(tmp_path))
    file = tmp_path / "began"

    def began() -> list[str]:
        return [line.split()[2] for line in file.read_text().splitlines()] if file.exists() else []

    await_value(lambda: len(began()) == 6, "all tasks to begin")
    assert len(set(began())) == 3
    tasks.go()
    await_value(lambda: len(worker.find("done")) == 6, "the end of all tasks")
    await_processes_of(vhost, 1)
    assert worker.stop() == 0
    assert worker.find("retry") == []


def await_processes_of(vhost: Vhost, count: int) -> None:
    await_value(lambda: infos(vhost)[0]["processes"]["now"] == count, f"{count} processes")


def test_a_child_killed_while_they_grow_is_replaced(vhost: Vhost, worker: Worker, tasks: Waiting) -> None:
    """Its task has failed once, the others run on, and there are as many as before."""
    tasks.publish(vhost, MOST)
    await_value(lambda: tasks.processes, "the first task")
    victim = min(tasks.processes)
    os.kill(victim, signal.SIGKILL)
    failed = worker.await_event("retry")
    await_value(lambda: len([pid for pid in tasks.processes if is_alive(pid)]) == MOST, "three that live")
    tasks.go()
    for number in range(MOST):
        worker.await_event("done", id=f"id-{number}")

    assert "ProcessDied" in failed["error"] or "died" in failed["error"]
    assert len(worker.find("retry")) == 1
    assert vhost.counts(jobs) == {}


def test_a_worker_that_is_told_to_stop_while_they_shrink_does(vhost: Vhost, worker: Worker, tasks: Waiting) -> None:
    """With the status of one that is done, and no process left."""
    tasks.publish(vhost, MOST)
    await_value(lambda: len(tasks.processes) == MOST, "as many processes as there may be")
    processes = tasks.processes
    tasks.go()
    worker.await_event(f"from {MOST} to {MOST - 1}")

    assert worker.stop() == 0
    assert [pid for pid in processes if is_alive(pid)] == []
    assert vhost.counts(jobs) == {}


def test_a_fixed_number_says_nothing_and_stays(vhost: Vhost, workers: Workers, tasks: Waiting) -> None:
    """As without this."""
    worker = workers.start("--processes", "2")
    tasks.publish(vhost, 6)
    await_value(lambda: len(tasks.processes) == 2, "two tasks")
    tasks.go()
    await_value(lambda: len(worker.find("done")) == 6, "the end")

    assert worker.find("from ") == []
    assert len(tasks.processes) == 2
    assert infos(vhost)[0]["processes"] == {"least": 2, "most": 2, "now": 2, "desired": 2}


def test_what_lies_in_a_paused_queue_waits_for_no_process(vhost: Vhost, workers: Workers, tasks: Waiting) -> None:
    """It will not be taken, however many there are."""
    vhost.declare(others)
    said = {"version": 1, "pause": "others", "at": time.time(), "by": "ops@desk", "reason": ""}
    worker = workers.start(
        "--processes", f"{FEWEST}:{MOST}", queue="jobs,others", tasks=[JOBS, "tests.broker.other_jobs"]
    )
    vhost.publish(Route("tasks.control", "pause"), json.dumps(said).encode())
    worker.await_event("paused", queue="others")
    for number in range(10 * MOST):
        vhost.publish_task(Route.direct("others"), "jobs.write", f"other-{number}", path="/dev/null")
    tasks.publish(vhost, 2)
    await_value(lambda: len(tasks.processes) == 2, "two tasks")
    tasks.go()
    for number in range(2):
        worker.await_event("done", id=f"id-{number}")

    assert [event["message"].partition(" process")[0] for event in worker.find("from ")] == ["from 1 to 2"]
    assert vhost.count("others") == 10 * MOST
