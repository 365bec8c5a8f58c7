"""The process that forks children: as many as asked for, each reaped, whatever descriptors are open."""

from __future__ import annotations

import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from leveret.consumers.running.forkserver import Forkserver


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """Hold so many descriptors that new ones have numbers beyond what select() knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("this process may not open enough files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    yield
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fork(forkserver: Forkserver, count: int) -> None:
    """Have so many children forked, in slots 0, 1, …"""
    reading, writing = os.pipe()
    for index in range(count):
        ours, theirs = socket.socketpair()
        forkserver.fork(index, theirs, reading)
        ours.close()
    os.close(reading)
    os.close(writing)


def exit_statuses(forkserver: Forkserver, count: int) -> dict[int, int]:
    """Wait for the end of so many children."""
    poller = select.poll()
    poller.register(forkserver.fileno(), select.POLLIN)
    found: dict[int, int] = {}
    while len(found) < count:
        assert poller.poll(60_000), f"only {len(found)} of {count} ended"
        found.update(forkserver.events())
    return found


def test_hundreds_of_children_at_once(many_open_files: None) -> None:
    """They are asked for faster than they are forked, and end meanwhile."""
    forkserver = Forkserver(lambda _parent, _tokens, _index: None)
    fork(forkserver, 400)

    assert exit_statuses(forkserver, 400) == dict.fromkeys(range(400), 0)
    forkserver.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_what_children_leave_behind_is_adopted() -> None:
    """So it is reaped where no init does that, as in a container."""
    reading, writing = os.pipe()

    def leave_behind(_parent: socket.socket, _tokens: int, _index: int) -> None:
        child = os.getpid()
        left, leaves = os.pipe()
        if os.fork():
            os.read(left, 1)
        else:
            os.setsid()  # it is not ended with the child's group
            os.write(leaves, b".")
            while os.getppid() == child:
                time.sleep(0.001)
            os.write(writing, str(os.getppid()).encode())

    forkserver = Forkserver(leave_behind)
    fork(forkserver, 1)

    assert exit_statuses(forkserver, 1) == {0: 0}
    assert int(os.read(reading, 20)) == forkserver.pid
    forkserver.stop()
    os.close(reading)
    os.close(writing)
