"""What waits for a child: in order, and what came back often one at a time."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace

import pika
import pytest

from leveret.consumers.running.backlog import SUSPECT_RETURNS, Backlog
from leveret.consumers.running.lanes import Lane
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer
from leveret.consumers.settling.settler import Settler
from leveret.topology.queues import WorkQueue

QUEUE = WorkQueue("waits")
IN_PLAIN_LANE = {QUEUE.name: Lane.PLAIN}


def delivery(tag: int, returns: int = 0) -> Delivery:
    """A delivery that came back so often without a verdict."""
    method = pika.spec.Basic.Deliver("", tag, bool(returns), "tasks.direct", "waits")
    properties = SimpleNamespace(reply_to=None, message_id=f"m{tag}", headers={"x-delivery-count": returns})
    settler: Settler = SimpleNamespace()  # type: ignore[assignment]  # not used
    return Delivery(settler, QUEUE, method, properties, b"")


def not_asked(_delivery: Delivery) -> Lane:
    """Where a delivery belongs whose queue has several lanes; none of these."""
    raise AssertionError("its queue has one lane")


def filled(*returns: int) -> tuple[Backlog, list[Delivery]]:
    """Deliveries with so many returns each, added in order."""
    waiting = Backlog(IN_PLAIN_LANE, not_asked)
    made = [delivery(tag, count) for tag, count in enumerate(returns, start=1)]
    for one in made:
        assert waiting.add(one) is (Answer.BEGIN if one.returns < SUSPECT_RETURNS else Answer.LATER)
    waiting.draw()
    return waiting, made


def test_deliveries_are_taken_in_their_order() -> None:
    """What came for the first time, or came back a few times, keeps its place."""
    waiting, made = filled(0, SUSPECT_RETURNS - 1, 0, 1)

    assert list(waiting.lines[Lane.PLAIN]) == made


def test_put_back_goes_in_front() -> None:
    """What a child did not begin is next, in its order."""
    waiting, made = filled(0, 0, 0)
    taken = [waiting.lines[Lane.PLAIN].popleft(), waiting.lines[Lane.PLAIN].popleft()]

    waiting.put_back(taken)

    assert list(waiting.lines[Lane.PLAIN]) == made


def test_suspects_are_taken_one_at_a_time() -> None:
    """The next becomes ready when the outcome of the one before is known, and not at that of another."""
    waiting, made = filled(SUSPECT_RETURNS, 0, SUSPECT_RETURNS, SUSPECT_RETURNS + 1)
    innocent = made[1]
    tried = []

    for _ in range(3):
        (suspect,) = (one for one in waiting.lines[Lane.PLAIN] if one is not innocent)
        line = waiting.lines[Lane.PLAIN]
        assert isinstance(line, deque)
        line.remove(suspect)
        waiting.ended(innocent)
        assert [one for one in waiting.lines[Lane.PLAIN] if one is not innocent] == []
        tried.append(suspect)
        waiting.ended(suspect)

    assert sorted(one.tag for one in tried) == [1, 3, 4]
    assert list(waiting.lines[Lane.PLAIN]) == [innocent]


def test_a_killer_does_not_hold_the_others_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is drawn beside a task that kills its worker each time gets through within a few rounds."""
    monkeypatch.setattr("leveret.consumers.running.backlog.random", random.Random(4711))
    killer, left = 1, set(range(2, 40))
    rounds = 0
    while left and rounds < 20 - SUSPECT_RETURNS:
        rounds += 1
        waiting = Backlog(IN_PLAIN_LANE, not_asked)
        for tag in sorted({killer, *left}):
            waiting.add(delivery(tag, SUSPECT_RETURNS + rounds))
        waiting.draw()
        while (one := waiting.lines[Lane.PLAIN].popleft()).tag != killer:
            left.discard(one.tag)
            waiting.ended(one)

    assert not left


@pytest.mark.parametrize("withdrawn", [1, 2, 3])
def test_withdrawn_deliveries_are_gone(withdrawn: int) -> None:
    """Ready or held back, what is withdrawn is not taken, and another suspect takes the place of one."""
    waiting, made = filled(SUSPECT_RETURNS, 0, SUSPECT_RETURNS)

    assert waiting.withdraw(lambda one: one.tag == withdrawn) == [made[withdrawn - 1]]

    taken = []
    while waiting.lines[Lane.PLAIN]:
        taken.append(waiting.lines[Lane.PLAIN].popleft())
        waiting.ended(taken[-1])
    assert {one.tag for one in taken} == {1, 2, 3} - {withdrawn}


def test_everything_can_be_withdrawn() -> None:
    """Suspects that were not ready yet are among what is handed back."""
    waiting, made = filled(SUSPECT_RETURNS, 0, SUSPECT_RETURNS)

    assert set(waiting.withdraw(lambda _: True)) == set(made)
    assert not waiting.lines[Lane.PLAIN]
    assert waiting.withdraw(lambda _: True) == []


def test_a_gate_decides_before_anything_else() -> None:
    """What it keeps is not in the backlog, and no later gate is asked about it."""
    asked: list[tuple[str, int]] = []

    def refuses_the_second(one: Delivery) -> Answer:
        asked.append(("first", one.tag))
        return Answer.NEVER if one.tag == 2 else Answer.BEGIN

    def lets_all_in(one: Delivery) -> Answer:
        asked.append(("second", one.tag))
        return Answer.BEGIN

    backlog = Backlog(IN_PLAIN_LANE, not_asked, (refuses_the_second, lets_all_in))
    made = [delivery(1), delivery(2)]

    assert [backlog.add(one) for one in made] == [Answer.BEGIN, Answer.NEVER]
    assert list(backlog) == made[:1]
    assert asked == [("first", 1), ("second", 1), ("first", 2)]


def test_what_comes_from_a_queue_of_several_lanes_is_sorted_one_by_one() -> None:
    """Each goes to the lane that its message says."""
    lanes = {"m1": Lane.ASYNC, "m2": Lane.PLAIN}
    backlog = Backlog({}, lambda one: lanes[one.id])
    made = [delivery(1), delivery(2)]

    for one in made:
        backlog.add(one)

    assert list(backlog.lines[Lane.ASYNC]) == made[:1]
    assert list(backlog.lines[Lane.PLAIN]) == made[1:]
