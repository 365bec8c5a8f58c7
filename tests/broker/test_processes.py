"""The processes of a worker: whichever is killed from outside, no task is lost and nothing is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from leveret import Route
from tests.broker.jobs import jobs
from tests.broker.support import (
    Vhost,
    Worker,
    Workers,
    await_value,
    child_that_runs,
    children_of,
    is_alive,
    start_waiting_task,
)


def forkserver_of(worker: Worker) -> int:
    (forkserver,) = children_of(worker.process.pid)
    return forkserver


def task_processes_of(worker: Worker, number: int) -> list[int]:
    def look() -> list[int]:
        found = children_of(forkserver_of(worker))
        return found if len(found) == number else []

    return await_value(look, f"{number} children")


def test_an_idle_child_is_replaced(vhost: Vhost, workers: Workers) -> None:
    """A child that is killed while it has nothing to do is replaced, and said so."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1")
    (child,) = task_processes_of(worker, 1)

    os.kill(child, signal.SIGKILL)
    worker.await_event("an idle child process died")
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")

    worker.await_event("done", id="the-id", attempt=2, of=3)
    assert task_processes_of(worker, 1) != [child]


def test_crashing_tasks_are_no_reason_to_give_up(vhost: Vhost, workers: Workers) -> None:
    """However many children tasks have ended, one that dies with nothing to do is replaced like any."""
    vhost.declare(jobs)
    for number in range(4):
        vhost.publish_task(Route.direct(jobs.name), "jobs.exit", f"crash-{number}")
    worker = workers.start("--processes", "1")
    for number in range(4):
        worker.await_event("bury", id=f"crash-{number}")
    (child,) = task_processes_of(worker, 1)

    os.kill(child, signal.SIGKILL)
    worker.await_event("an idle child process died")
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")

    worker.await_event("done", id="the-id", attempt=2, of=3)
    assert worker.stop() == 0


def test_a_child_that_begins_nothing_is_replaced(vhost: Vhost, workers: Workers) -> None:
    """What it was given runs in another, at the same attempt."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1")
    (child,) = task_processes_of(worker, 1)

    os.kill(child, signal.SIGSTOP)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")

    worker.await_event("a child process has begun nothing")
    worker.await_event("retry", id="the-id", attempt=1, of=3)
    worker.await_event("done", id="the-id", attempt=2, of=3)
    assert worker.find("an idle child process died") == []
    assert not is_alive(child)


def test_children_that_die_at_once_end_the_worker(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """It says what happened instead of forking for ever, and leaves the message in its queue."""
    (tmp_path / "dying.py").write_text(
        "import os\nfrom tests.broker.jobs import jobs\nworker = os.getpid()\n"
        "os.register_at_fork(after_in_child=lambda: os.getppid() == worker or os._exit(5))\n"
    )
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail", "the-id")
    path = f"{tmp_path}:{workers.environment['PYTHONPATH']}"

    worker = workers.start("--processes", "1", tasks=["dying"], PYTHONPATH=path)

    assert worker.wait() == 1
    assert "child processes die as soon as they are forked, the last of 11 with exit status 5" in worker.text
    assert "Traceback" not in worker.text
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")


def test_a_child_killed_amid_its_task_costs_one_attempt(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A child that is killed from outside while it runs a task has failed that attempt, and the task is retried."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child = child_that_runs(started)

    os.kill(child, signal.SIGKILL)
    worker.await_event("retry", id="the-id", attempt=1, of=3)
    go.touch()

    worker.await_event("done", id="the-id", attempt=2, of=3)


def test_what_a_task_leaves_behind_ends_with_its_process(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A process that a task started is ended when the task overruns its time limit."""
    vhost.declare(jobs)
    pid_file = tmp_path / "pid"
    vhost.publish_task(Route.direct(jobs.name), "jobs.leave_behind", "the-id", pid_file=str(pid_file))
    worker = workers.start()

    worker.await_event("retry", id="the-id", attempt=1, of=3)

    await_value(lambda: not is_alive(int(pid_file.read_text().split()[0])), "its process to end")


@pytest.mark.parametrize("is_stopping", [False, True])
def test_without_its_forkserver_a_worker_hands_back_and_ends(
    is_stopping: bool, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """When the process that forks children is killed, the worker says so, ends, and the message is back."""
    vhost.declare(jobs)
    started, _ = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child = child_that_runs(started)
    if is_stopping:
        worker.signal(signal.SIGTERM)
        worker.await_event("SIGTERM: finishing")

    os.kill(forkserver_of(worker), signal.SIGKILL)

    assert worker.wait() == 1
    assert "the process that forks children died" in worker.text
    assert "Traceback" not in worker.text
    await_value(lambda: not is_alive(child), "the child's end")
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")


def test_a_signal_to_all_of_its_processes_lets_what_runs_finish(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A service manager tells the whole control group to end: the worker finishes what runs, and then ends."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    forkserver = forkserver_of(worker)
    child_that_runs(started)

    for process in (*children_of(forkserver), forkserver, worker.process.pid):
        os.kill(process, signal.SIGTERM)
    worker.await_event("SIGTERM: finishing")
    go.touch()

    assert worker.wait() == 0
    assert len(worker.find("done", id="the-id", attempt=1, of=3)) == 1
