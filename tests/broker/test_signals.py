"""Signals to a worker and its processes: which stop it, which ask it, and none is lost, whatever it inherited."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leveret import Route
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.support import (
    JOBS,
    Vhost,
    Workers,
    await_value,
    child_that_runs,
    children_of,
    is_alive,
    start_waiting_task,
)

HANG_AT_IMPORT = """
import pathlib, time
while True:
    try:
        pathlib.Path(__file__).with_name("importing").touch()
        time.sleep(1)
    except BaseException:
        pass
"""
"""A module that takes long to import, and catches whatever is raised in it."""
ASKING = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT]


def start_importing(folder: Path, *before: str) -> subprocess.Popen[str]:
    """Start a worker, and wait until it imports a task module that takes long."""
    (folder / "slow_tasks.py").write_text(HANG_AT_IMPORT)
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "consumers.run", "-a", "slow_tasks"],
        env={**os.environ, "PYTHONPATH": f"{folder}:{CHECKOUT}"},
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    await_value((folder / "importing").exists, "the import")
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGHUP, 0), (signal.SIGINT, 130)], ids=lambda one: str(int(one))
)
def test_a_signal_while_task_modules_are_imported_ends_the_worker(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    """At once, whatever the module does about it: nothing was taken yet."""
    process = start_importing(tmp_path)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)

    assert process.returncode == status
    assert f"{number.name} while starting: ending, for nothing was taken yet" in log
    assert "Traceback" not in log


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root makes a namespace of processes")
def test_a_first_process_hears_of_it_too(tmp_path: Path) -> None:
    """In a container no signal has an effect on it unless it asked for one."""
    outside = start_importing(tmp_path, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    (first,) = children_of(outside.pid)
    os.kill(first, signal.SIGTERM)
    _, log = outside.communicate(timeout=60)

    assert outside.returncode == 0
    assert "SIGTERM while starting" in log


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to it", "to all its processes"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_queues_are_declared_ends_the_worker(
    send: Callable[[int, int], None], number: signal.Signals, status: int
) -> None:
    """Where something listens at the broker's address, and says nothing. It is said once, and no process is left."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = subprocess.Popen(
            [sys.executable, "-m", "consumers.run", "--queue", jobs.name, "--tasks", JOBS],
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                "AMQP_URL": f"amqp://127.0.0.1:{silent.getsockname()[1]}/",
            },
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        connection, _ = silent.accept()
        send(worker.pid, number)
        _, log = worker.communicate(timeout=60)
        with connection:
            while connection.recv(4096):  # until the process that declares has ended
                pass

    assert worker.returncode == status, log
    assert log.count("while starting: ending") == 1
    assert "Traceback" not in log


@pytest.mark.parametrize("blocked_by", ["the parent", "a task module"])
def test_blocked_signals_make_a_worker_neither_deaf_nor_blind(
    blocked_by: str, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """It hears SIGTERM, and of the end of its children; what tasks start is not deaf either."""
    block = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"
    vhost.declare(jobs)
    text = (
        "@task('jobs.program', queue=jobs)\ndef program():\n"
        "    started = subprocess.Popen(['sleep', '60'])\n    started.terminate()\n    assert started.wait(30) == -15\n"
    )
    in_module = blocked_by == "a task module"
    vhost.publish_task(Route.direct(jobs.name), "jobs.program", "program")
    vhost.publish_task(Route.direct(jobs.name), "jobs.exit", "crash")

    worker = workers.start_with(f"{text}{block if in_module else ''}", before="" if in_module else block)
    worker.await_event("done", id="program", attempt=1)
    worker.await_event("bury", id="crash")

    assert worker.stop() == 0


def test_an_ignored_end_of_children_is_noticed(vhost: Vhost, workers: Workers) -> None:
    """Some parents leave SIGCHLD ignored, and then the kernel forgets how children ended."""
    vhost.declare(jobs)
    text = (
        "ended_at_import = subprocess.call(['false'])\n"
        "@task('jobs.program', queue=jobs)\ndef program():\n"
        "    assert (ended_at_import, subprocess.call(['false'])) == (1, 1)"
    )
    vhost.publish_task(Route.direct(jobs.name), "jobs.program", "program")

    worker = workers.start_with(text, before="import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    worker.await_event("done", id="program", attempt=1)

    assert worker.stop() == 0


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="nohup has SIGHUP ignored")
def test_a_closed_terminal_stops_a_worker(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """SIGHUP does what SIGTERM does: what runs is finished."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child_that_runs(started)

    worker.signal(signal.SIGHUP)
    worker.await_event("SIGHUP: finishing 1 running task(s)")
    go.touch()

    assert worker.wait() == 0
    assert worker.find("done", id="the-id", attempt=1)


def test_nohup_outlives_the_terminal(workers: Workers) -> None:
    """Where SIGHUP is ignored it stays so."""
    worker = workers.start_with("", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")

    worker.signal(signal.SIGHUP)
    worker.signal(signal.SIGUSR1)
    worker.await_event("nothing runs")

    assert worker.stop() == 0
    assert worker.find("SIGHUP") == []


@pytest.mark.parametrize("number", ASKING)
def test_a_worker_can_be_asked_what_it_runs(
    number: signal.Signals, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """The task, its child and for how long; however often, and no process of the worker ends of it."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "2")
    worker.signal(number)
    worker.await_event("nothing runs")

    started, go = start_waiting_task(vhost, tmp_path)
    child = child_that_runs(started)
    (forkserver,) = children_of(worker.process.pid)
    processes = [forkserver, *children_of(forkserver)]
    for process in processes:
        os.kill(process, number)
    worker.signal(number)
    said = worker.await_event("still running", id="the-id", task="jobs.wait_for", child=child)
    go.touch()
    worker.await_event("done", id="the-id", attempt=1)

    assert said["seconds"] > 0
    assert all(map(is_alive, processes))
    assert worker.stop() == 0


@pytest.mark.parametrize("number", ASKING)
def test_what_a_task_starts_ends_by_them_as_anywhere(number: signal.Signals, vhost: Vhost, workers: Workers) -> None:
    """A program, and a copy of the process."""
    vhost.declare(jobs)
    text = (
        "import signal\n@task('jobs.end', queue=jobs)\ndef end():\n"
        f"    started = subprocess.Popen(['sleep', '60'])\n    started.send_signal({int(number)})\n"
        f"    assert started.wait(30) == -{int(number)}\n"
        "    copy = os.fork()\n    if copy == 0:\n        time.sleep(60)\n"
        f"    os.kill(copy, {int(number)})\n"
        f"    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == -{int(number)}\n"
    )
    vhost.publish_task(Route.direct(jobs.name), "jobs.end", "the-id")

    worker = workers.start_with(text)

    worker.await_event("done", id="the-id", attempt=1)


def test_a_module_keeps_its_own_handler_in_the_children(vhost: Vhost, workers: Workers) -> None:
    """Such as one that writes down where a task hangs; the worker's process itself says what runs."""
    vhost.declare(jobs)
    text = (
        "import signal\nheard = []\nsignal.signal(signal.SIGUSR1, lambda *_: heard.append(1))\n"
        "@task('jobs.hear', queue=jobs)\ndef hear():\n"
        "    signal.raise_signal(signal.SIGUSR1)\n    assert heard == [1]\n"
    )
    vhost.publish_task(Route.direct(jobs.name), "jobs.hear", "the-id")

    worker = workers.start_with(text)
    worker.await_event("done", id="the-id", attempt=1)
    worker.signal(signal.SIGUSR1)

    worker.await_event("nothing runs")
