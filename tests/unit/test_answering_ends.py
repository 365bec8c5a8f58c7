"""What has ended of late is counted, and forgotten when a minute has passed."""

from __future__ import annotations

import types

import pytest

from leveret.consumers.answering import ends as room
from leveret.consumers.answering.ends import Ends
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.queues import WorkQueue


class Clock:
    """Stands in for `time` in the room."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(room, "time", made)
    return made


def settled(queue: str, verdict: Verdict | None) -> Settled:
    delivery = types.SimpleNamespace(queue=WorkQueue(queue))
    return Settled(delivery, Outcome(Ending.RETURNED, "a.task", 0.1), verdict)  # type: ignore[arg-type]


def test_each_queue_and_verdict_has_its_count(clock: Clock) -> None:
    """Also over several slots."""
    ends = Ends()
    ends.observe([settled("mail", Verdict.DONE), settled("pdf", Verdict.DONE), settled("mail", Verdict.BURY)])
    clock.now += 20
    ends.observe([settled("mail", Verdict.DONE)])

    assert ends.counts() == ({"mail": 2, "pdf": 1}, {}, {"mail": 1})
    assert ends.seconds == 20


def test_what_is_older_than_a_minute_is_forgotten(clock: Clock) -> None:
    """Whether or not anything has ended since."""
    ends = Ends()
    ends.observe([settled("mail", Verdict.DONE)])
    clock.now += 40
    ends.observe([settled("mail", Verdict.RETRY)])
    clock.now += 25

    assert ends.counts() == ({}, {"mail": 1}, {})
    assert 55 <= ends.seconds <= 60
    clock.now += 60

    assert ends.counts() == ({}, {}, {})
