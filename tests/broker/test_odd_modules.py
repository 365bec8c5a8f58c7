"""Task modules and tasks that change or misuse what they share with the worker: it lives, and says what it ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from leveret import Route
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, children_of, is_alive

pytestmark = pytest.mark.once  # it is between a worker and its children

Start = Callable[..., Worker]

HAND_PATCHED = """
import os, select, selectors, signal, socket, threading, time

class NoSocket(socket.socket):
    def __init__(self, *arguments, **options):
        raise AssertionError("a socket of another event loop")

def nothing(*arguments, **options):
    raise AssertionError("a function of another event loop")

socket.socket = NoSocket
for module, names in {
    os: ("fork", "waitpid"),
    select: ("poll", "select"),
    selectors: ("DefaultSelector", "SelectSelector"),
    socket: ("socketpair", "create_connection", "getaddrinfo"),
    threading: ("Thread", "Lock"),
    time: ("sleep",),
}.items():
    for name in names:
        setattr(module, name, nothing)
del select.epoll, selectors.EpollSelector
is_patched = lambda: time.sleep is nothing and not hasattr(select, "epoll")
"""
GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, time
gevent.sleep(0)  # makes the hub before anything is forked
def is_patched():
    time.sleep(0.01)
    ran = gevent.spawn(lambda: (time.sleep(0.01), 7)[1])
    return ran.get() == 7 and monkey.is_module_patched("time")
"""
TIMEOUT = """
import socket
socket.setdefaulttimeout(0.05)
is_patched = lambda: socket.getdefaulttimeout() == 0.05
"""
CHECKED = """
from leveret import task
from tests.broker.jobs import jobs

@task("jobs.odd_check", queue=jobs)
def check():
    assert is_patched()
"""
HOSTILE = """
import os, socket, stat, struct
from leveret import task
from tests.broker.jobs import jobs

def parent():
    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                return socket.socket(fileno=os.dup(number))
        except OSError:
            continue

def flood(text):
    to = parent()
    frame = struct.pack("!I", len(text)) + text
    while True:
        to.sendall(frame * 100)

@task("jobs.flood", queue=jobs)
def flood_parent(text):
    flood(text.encode())

@task("jobs.leave_flood", queue=jobs)
def leave_flood(text, pid_file):
    if os.fork() == 0:
        try:
            os.setsid()
            with open(pid_file, "a") as file:
                file.write(f"{os.getpid()}\\n")
            flood(text.encode())
        finally:
            os._exit(0)
"""
KILLED = "a child process is killed, and another takes its place"
EMPTY, LAST, NOT_GIVEN = "[1,[],false]", "[1,[],true]", '[999,[[0,"odd",0.5,null]],false]'


@pytest.fixture
def start(vhost: Vhost, workers: Workers, tmp_path: Path) -> Start:
    """Start a worker of one process with a task module of this source."""

    def start_with(source: str) -> Worker:
        (tmp_path / "odd_module.py").write_text(source)
        vhost.declare(jobs)
        path = f"{tmp_path}:{workers.environment['PYTHONPATH']}"
        return workers.start("--processes", "1", tasks=["odd_module"], PYTHONPATH=path)

    return start_with


@pytest.mark.parametrize("source", [HAND_PATCHED, GEVENT, TIMEOUT], ids=["by-hand", "gevent", "timeout"])
def test_what_modules_patch_holds_in_children_only(source: str, vhost: Vhost, start: Start) -> None:
    """Tasks find it; the parent goes on replacing children, answers signals, and ends."""
    if source is GEVENT:
        pytest.importorskip("gevent")
    worker = start(source + CHECKED)
    vhost.publish_task(Route.direct(jobs.name), "jobs.odd_check", "first")
    worker.await_event("done", id="first", attempt=1, of=3)
    (forkserver,) = children_of(worker.process.pid)
    (child,) = await_value(lambda: children_of(forkserver), "a child")
    files = set(Path(f"/proc/{forkserver}/fd").iterdir())

    os.kill(child, signal.SIGKILL)
    worker.await_event("an idle child process died")
    vhost.publish_task(Route.direct(jobs.name), "jobs.odd_check", "second")
    worker.await_event("done", id="second", attempt=1, of=3)

    assert set(Path(f"/proc/{forkserver}/fd").iterdir()) == files
    assert worker.stop() == 0
    assert len(worker.find("an idle child process died")) == 1
    assert worker.text == ""


@pytest.mark.parametrize("text", [EMPTY, LAST, NOT_GIVEN])
def test_a_task_that_floods_its_parent_with_reports_is_ended(text: str, vhost: Vhost, start: Start) -> None:
    """What it reports was not asked for; its attempt has failed for that, and others run."""
    worker = start(HOSTILE)
    vhost.publish_task(Route.direct(jobs.name), "jobs.flood", "flood", text=text)

    assert "garbage" in worker.await_event("bury", id="flood")["error"]
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "other")
    worker.await_event("done", id="other", attempt=2, of=3)
    assert worker.stop() == 0


@pytest.mark.parametrize("text", [EMPTY, LAST, NOT_GIVEN])
def test_what_a_task_left_behind_floods_in_vain(text: str, vhost: Vhost, start: Start, tmp_path: Path) -> None:
    """A process in a session of its own outlives the child whose socket it holds; the worker reads it no more."""
    worker = start(HOSTILE)
    pid_file = tmp_path / "pid"
    vhost.publish_task(Route.direct(jobs.name), "jobs.leave_flood", "flood", text=text, pid_file=str(pid_file))
    ended = await_value(lambda: worker.find("done", id="flood") or worker.find("bury", id="flood"), "the task's end")
    # each attempt leaves a process, whose flood may come before the attempt has ended, or amid what runs after it
    await_value(lambda: len(worker.find(KILLED)) == ended[0]["attempt"], "a kill for each process that is left behind")
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "other")
    worker.await_event("done", id="other", attempt=2, of=3)

    assert worker.stop() == 0
    left = list(map(int, pid_file.read_text().split()))
    assert len(left) == len(worker.find(KILLED)) == ended[0]["attempt"]
    await_value(lambda: not any(map(is_alive, left)), "their end")


def test_a_stopped_forkserver_does_not_hold_up_leaving(start: Start) -> None:
    """It is continued, so that it can take its children with it."""
    worker = start("from tests.broker.jobs import jobs")
    (forkserver,) = children_of(worker.process.pid)
    (child,) = await_value(lambda: children_of(forkserver), "a child")
    os.kill(forkserver, signal.SIGSTOP)

    assert worker.stop() == 0
    await_value(lambda: not is_alive(child), "the child's end")


def test_nothing_is_left_open(vhost: Vhost, workers: Workers) -> None:
    """With warnings as errors a worker whose children die says nothing of sockets that nobody closed."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "2", PYTHONWARNINGS="error")
    vhost.publish_task(Route.direct(jobs.name), "jobs.exit", "dies")
    worker.await_event("bury", id="dies")

    assert worker.stop() == 0
    assert worker.text == ""
