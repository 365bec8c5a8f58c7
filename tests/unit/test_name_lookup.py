"""Looking up the host of a broker: a fork waits for it, for the C library's lock would stay taken in the child."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from leveret.topology.link import name_lookup


def test_a_fork_waits_for_what_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on then, in both processes."""
    said: list[str] = []
    looking, forked = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        looking.set()
        forked.wait(0.3)
        said.append("looked up")
        return []

    def fork() -> None:
        looking.wait()
        if (child := os.fork()) == 0:
            found = threading.Thread(target=name_lookup._turn.look_up, daemon=True)
            found.start()
            found.join(10)
            os._exit(int(found.is_alive()))
        said.append("forked")
        forked.set()
        said.append(f"child: {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    forking = threading.Thread(target=fork)
    forking.start()
    name_lookup._turn.look_up()
    forking.join()

    assert said == ["looked up", "forked", "child: 0"]
    assert name_lookup._turn.look_up() == []


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the next one, and who looks up after that."""
    monkeypatch.setattr(name_lookup, "_MOST_WAIT_SECONDS", 0.01)
    looking, over = threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        looking.set()
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hanging = threading.Thread(target=name_lookup._turn.look_up)
    hanging.start()
    looking.wait()
    for _ in range(2):
        if (child := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    over.set()
    hanging.join()
    monkeypatch.setattr(name_lookup, "_MOST_WAIT_SECONDS", 60.0)
    assert name_lookup._turn.look_up() == []
