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


def test_results_that_were_not_reported_are_found() -> None:
    """Of what ended before what it runs, whether it lives or has died meanwhile."""

    async def look() -> None:
        forkserver: Any = SimpleNamespace(fork=lambda _index, child_end, _tokens: child_end.close())
        board = Board(1)
        child = ChildHandle(0, forkserver, board, lambda _child: None)
        child.start()
        child.send([delivery_of(str(number)) for number in range(1, 6)])
        board.keep(0, 1, "1")
        board.write(0, 3, 0.0, math.inf, "mail.send")
        ended = child.finished_before(child.begun())
        assert [(delivery.id, outcome.result) for delivery, outcome in ended] == [("1", "1"), ("2", None)]

        board.keep(0, 3, "3")
        board.write(0, 4, 0.0, math.inf, "mail.send")
        assert child._pipe is not None
        child._pipe.take_tokens(4)  # as the child does before it runs what they are for
        ended, not_begun = child.reap(-signal.SIGKILL)
        told = [(delivery.id, outcome.ending, outcome.result) for delivery, outcome in ended]
        assert told == [("3", Ending.RETURNED, "3"), ("4", Ending.PROCESS_DIED, None)]
        assert [delivery.id for delivery in not_begun] == ["5"]

    asyncio.run(look())
