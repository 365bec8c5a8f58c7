"""When a child is taken for stuck, and how the death of one is told."""

from __future__ import annotations

import asyncio
import math
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.child.outcome import Ending
from leveret.consumers.running import child, child_handle
from leveret.consumers.running.child import BEGIN_SECONDS
from leveret.consumers.running.child_handle import ChildHandle
from leveret.consumers.running.deaths import death_of
from tests.unit.children import delivery_of


@pytest.mark.parametrize(
    ("exit_status", "told"),
    [
        (7, "ended with exit status 7"),
        (-signal.SIGSEGV, "was killed by signal 11 (SIGSEGV)"),
        (-(signal.SIGRTMIN + 2), "(a real-time signal)"),
    ],
)
def test_every_way_to_die_is_told(exit_status: int, told: str) -> None:
    """Each exit status is put into words, those of signals without a name too."""
    outcome = death_of(Begun(1, 0.0, math.inf, 1, "mail.send"), "", exit_status)

    assert outcome.ending is Ending.PROCESS_DIED
    assert outcome.failure is not None
    assert told in outcome.failure.message


def test_only_time_in_which_the_worker_itself_ran_makes_a_child_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was stopped together with its children does not kill them for it."""
    now = 100.0
    for module in (child, child_handle):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))

    async def look() -> None:
        nonlocal now
        forkserver: Any = SimpleNamespace(fork=lambda _index, child_end, _tokens: child_end.close())
        child = ChildHandle(0, forkserver, Board(1), lambda _child: None)
        child.start()
        child.send([delivery_of("id")])

        now += 3600
        assert not child.is_stuck(child.begun())
        for _ in range(round(BEGIN_SECONDS / 0.1)):
            now += 0.1
            stuck = child.is_stuck(child.begun())
        assert stuck
        child.disconnect()

    asyncio.run(look())
