"""What a worker hands back itself says nothing against a message."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.running.lanes import Lanes
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.consumers.taking import prefetching
from leveret.consumers.taking.prefetching import Prefetching
from leveret.topology import queues
from leveret.topology.queues import WorkQueue


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue; tests know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})
    return WorkQueue("words")


def delivery(queue: WorkQueue, task_id: str, is_open: bool = True) -> Delivery:
    """A delivery whose channel is open or not."""
    settler: Any = SimpleNamespace(nack=lambda _tag, requeue: is_open and requeue)
    method = pika.spec.Basic.Deliver("", 1, True, "tasks.direct", "words")
    return Delivery(settler, queue, method, SimpleNamespace(message_id=task_id, reply_to=None, headers=None), b"")


def test_own_returns_are_remembered_until_the_outcome(words: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """By id, not when the broker took the message back itself, and not of more messages than a few."""
    monkeypatch.setattr(prefetching, "_MOST_REMEMBERED", 2)

    async def look() -> None:
        pool: Any = SimpleNamespace()
        made = Prefetching(pool, [words], Lanes([words], 1, 100, 1, has_spares=False), None, 1800)
        one, other = delivery(words, "one"), delivery(words, "other")
        made.hand_back([one, other, delivery(words, "one", is_open=False)])
        made.hand_back([one])
        assert [made.times_handed_back(each) for each in (one, other)] == [2, 1]

        made.hand_back([delivery(words, "third")])
        assert [made.times_handed_back(each) for each in (one, other)] == [2, 0]

        made.observe([Settled(one, Outcome(Ending.RETURNED, "words.count", 0.1), Verdict.DONE)])
        assert made.times_handed_back(one) == 0
        made.stop()

    asyncio.run(look())
