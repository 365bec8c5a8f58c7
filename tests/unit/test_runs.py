"""Runs: who follows a task is told that it runs and how far it has come, now and then; for others nothing is done."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from leveret.consumers.child.board import Begun, Board, Progress
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.observing import events as telling_module
from leveret.consumers.observing.events import Telling
from leveret.consumers.observing.runs import Runs
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import events
from leveret.topology.errors import LeveretError, Nacked, PublishError
from leveret.topology.events import Kind
from leveret.topology.link.outbox import Outgoing
from leveret.topology.names import RECORD_QUEUE
from tests.unit.children import delivery_of

FOLLOWER = "tasks.reply.me"
TASK = "mail.send"


class Stage:
    """A board on which one child runs orders, a clock, and what is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(
            "leveret.consumers.observing.runs.time", SimpleNamespace(monotonic=lambda: self.now, time=time.time)
        )
        self.board = Board(2, 2)
        self.told: list[tuple[Kind, str, dict[str, Any]]] = []
        self.runs = Runs(self.board, self._tell, ["mail.always"])

    def _tell(self, kind: Kind, delivery: Delivery, task: str, fields: Any) -> None:
        assert task == TASK
        self.told.append((kind, delivery.id, dict(fields)))

    def begin(self, number: int, reply_to: str = FOLLOWER, task: str = TASK) -> Delivery:
        """Have a delivery begun by the child in slot 1, in place 1."""
        delivery = delivery_of(f"id-{number}")
        delivery.reply_to = reply_to
        self.board.write(1, number, self.now, self.now + 10, task, 1)
        self.runs.on_started(delivery, self.board.read(1, 1))
        return delivery

    def after(self, seconds: float) -> list[tuple[Kind, str, dict[str, Any]]]:
        """Look after so many seconds; returns what was told."""
        self.now += seconds
        self.told.clear()
        self.runs.on_look()
        return self.told


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def test_that_it_has_begun_is_told_of_what_takes_longer_than_a_moment(stage: Stage) -> None:
    """Once, with when that was, and in which process."""
    stage.begin(1)

    assert stage.after(0.04) == []
    ((kind, task_id, fields),) = stage.after(0.02)
    assert (kind, task_id, fields["child"]) == (Kind.STARTED, "id-1", stage.board.read(1, 1).pid)
    assert 0.05 < time.time() - fields["at"] < 60
    assert stage.after(1) == []


def test_progress_is_told_four_times_a_second_where_it_is_another(stage: Stage) -> None:
    """However often the task tells it."""
    stage.begin(1)
    stage.after(0.1)
    stage.board.write_progress(1, 1, Progress(1, 10, "page 1"), 1)

    assert stage.after(0.2) == []
    assert stage.after(0.1) == [(Kind.PROGRESS, "id-1", {"done": 1.0, "total": 10.0, "note": "page 1"})]
    stage.board.write_progress(1, 1, Progress(2, None, ""), 1)
    assert stage.after(0.2) == []
    assert stage.after(0.1) == [(Kind.PROGRESS, "id-1", {"done": 2.0})]
    assert stage.after(0.3) == []


def test_of_what_has_ended_nothing_is_told(stage: Stage) -> None:
    """Nor is its progress that of the next one in its place."""
    ended = stage.begin(1)
    stage.after(0.1)
    stage.board.write_progress(1, 1, Progress(1, 10, ""), 1)
    stage.runs.observe([Settled(ended, Outcome(Ending.RETURNED, TASK, 0.1), Verdict.DONE)])

    assert stage.after(1) == []

    stage.begin(2)
    assert [(kind, task_id) for kind, task_id, _ in stage.after(1)] == [(Kind.STARTED, "id-2")]
    assert stage.after(1) == []


def test_what_nobody_follows_is_not_looked_at(stage: Stage) -> None:
    """Unless its task always is: then those who record are told."""
    unfollowed = stage.begin(1, reply_to="")
    stage.board.write_progress(1, 1, Progress(1, 10, ""), 1)

    assert stage.after(1) == []
    assert unfollowed.reply_to == ""
    assert stage.begin(2, reply_to="", task="mail.always").reply_to == RECORD_QUEUE


def test_what_ended_before_anybody_looked_does_not_run(stage: Stage) -> None:
    """The log may want to hear of its start."""
    delivery = delivery_of("id")
    delivery.reply_to = FOLLOWER
    stage.runs.on_started(delivery, Begun(0, 99.0, 200.0, 1, TASK))

    assert stage.after(1) == []


class Sent:
    """An outbox that only notes what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[Outgoing, Callable[[LeveretError | None], None]]] = []

    def send(self, outgoing: Outgoing, on_published: Callable[[LeveretError | None], None]) -> None:
        self.messages.append((outgoing, on_published))


def test_what_is_told_in_one_turn_travels_together() -> None:
    """One message for those of one kind, task and follower, as long as that is not too many."""
    sent = Sent()
    outbox: Any = sent

    async def play() -> None:
        telling = Telling(outbox, "host:1")
        for number in range(70):
            delivery = delivery_of(f"id-{number}")
            delivery.reply_to = FOLLOWER
            telling.tell(Kind.PROGRESS, delivery, TASK, {"done": number})
        telling.tell(Kind.STARTED, delivery, TASK, {"child": 5})
        assert sent.messages == []
        await asyncio.sleep(0)

    asyncio.run(play())
    told = [events.read(outgoing.body) for outgoing, _ in sent.messages]

    assert [(one.kind, one.task, len(one.events)) for one in told] == [
        (Kind.PROGRESS, TASK, 64),
        (Kind.PROGRESS, TASK, 6),
        (Kind.STARTED, TASK, 1),
    ]
    assert [event["done"] for one in told[:2] for event in one.events] == list(range(70))
    assert {str(outgoing.properties.headers) for outgoing, _ in sent.messages} == {str({"CC": [FOLLOWER]})}
    assert json.loads(sent.messages[2][0].body)["events"][0]["child"] == 5


def test_while_the_broker_takes_nothing_no_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be confirmed would grow without an end, before what has to be."""
    monkeypatch.setattr(telling_module, "_MOST_UNCONFIRMED", 3)
    sent = Sent()
    outbox: Any = sent

    async def play() -> None:
        telling = Telling(outbox, "host:1")
        delivery = delivery_of("id")
        delivery.reply_to = FOLLOWER
        for number in range(5):
            telling.tell(Kind.PROGRESS, delivery, TASK, {"done": number})
            await asyncio.sleep(0)
        assert len(sent.messages) == 3
        sent.messages[0][1](None)
        telling.tell(Kind.PROGRESS, delivery, TASK, {"done": 6})
        await asyncio.sleep(0)
        assert len(sent.messages) == 4
        sent.messages[1][1](Nacked("the queue of one who waits is full"))
        telling.tell(Kind.PROGRESS, delivery, TASK, {"done": 7})
        await asyncio.sleep(0)
        assert len(sent.messages) == 5
        sent.messages[2][1](PublishError("no such exchange"))
        telling.tell(Kind.PROGRESS, delivery, TASK, {"done": 8})
        await asyncio.sleep(0)
        assert len(sent.messages) == 5  # it was refused a moment ago, which has cost the channel

    asyncio.run(play())
