"""The line of deliveries where queues have priorities: shares, turns of other queues, and what is put back."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from leveret.consumers.running.backlog import Backlog
from leveret.consumers.running.lanes import Lane
from leveret.consumers.running.level_line import LevelLine
from leveret.topology.names import LEVELS

NUMBERS = itertools.count()


class One:
    """A delivery that came by the channel of a level."""

    def __init__(self, level: str, queue: str) -> None:
        self.settler = SimpleNamespace(level=LEVELS.index(level))
        self.queue = SimpleNamespace(name=queue)
        self.returns = 0
        self.id = f"{next(NUMBERS)}"


def one(level: str, queue: str = "mail") -> Any:
    return One(level, queue)


def level_of(delivery: Any) -> str:
    return LEVELS[delivery.settler.level]


def line_of(*deliveries: Any) -> LevelLine:
    line = LevelLine(["mail"])
    line.extend(deliveries)
    return line


def taken(line: LevelLine, most: int = 1000) -> list[str]:
    return [level_of(line.popleft()) for _ in range(min(most, len(line)))]


def test_of_ten_six_are_high_three_normal_and_one_is_low() -> None:
    """In whatever order they came, in every ten for as long as all levels have some."""
    line = line_of(*(one(level) for level in reversed(LEVELS) for _ in range(100)))

    for _ in range(10):
        assert Counter(taken(line, 10)) == {"high": 6, "normal": 3, "low": 1}


def test_low_is_never_starved_by_what_keeps_coming() -> None:
    """It has its share also where a high one comes for each that is taken."""
    line = line_of(one("low"), one("low"), one("high"))
    order = []
    for _ in range(16):
        order.append(level_of(line.popleft()))
        line.append(one("high"))

    assert Counter(order) == {"high": 14, "low": 2}


def test_what_comes_to_an_empty_level_is_next_and_has_saved_nothing_up() -> None:
    """Behind any number of low ones; and after a silence high ones get no more than their share."""
    line = line_of(*(one("low") for _ in range(1000)))
    taken(line, 500)
    line.extend(one("high") for _ in range(20))

    order = taken(line, 22)

    assert order[:6] == ["high"] * 6
    assert Counter(order)["low"] == 3


@pytest.mark.parametrize("alone", LEVELS)
def test_a_level_alone_is_taken_in_its_order(alone: str) -> None:
    """First come, first served."""
    made = [one(alone) for _ in range(5)]
    line = line_of(*made)

    assert [line.popleft() for _ in made] == made
    assert len(line) == 0


def test_other_queues_keep_their_turns() -> None:
    """A queue without priorities gets as many as it would, and in its order; a level has no claim to them."""
    line = line_of(one("low"), one("normal", "other"), one("high"), one("normal", "other"), one("low"))

    order = [(delivery.queue.name, level_of(delivery)) for delivery in (line.popleft() for _ in range(5))]

    assert order == [("mail", "high"), ("other", "normal"), ("mail", "low"), ("other", "normal"), ("mail", "low")]


def test_what_is_looked_at_is_what_is_taken() -> None:
    """Until another comes that is more urgent."""
    line = line_of(one("low"), one("normal"))
    first = line[0]
    assert line[0] is first
    line.append(urgent := one("high"))

    assert line[0] is urgent
    assert [line.popleft(), line.popleft()] == [urgent, first]


def test_what_is_put_back_is_next_and_counts_once() -> None:
    """As if it had not been taken."""
    made = [one(level) for level in LEVELS for _ in range(10)]
    undisturbed = line_of(*made)
    line = line_of(*made)
    batch = [line.popleft() for _ in range(7)]
    for delivery in reversed(batch):
        line.appendleft(delivery)

    assert [line.popleft() for _ in made] == [undisturbed.popleft() for _ in made]


def test_it_can_be_looked_through_and_filled_anew() -> None:
    """Each is seen once; so the backlog withdraws some of them, and leaves the others in their order."""
    backlog = Backlog({"mail": Lane.PLAIN, "other": Lane.PLAIN}, lambda _: Lane.PLAIN, with_levels=["mail"])
    made = [one(level, queue) for level in LEVELS for queue in ("mail", "other") for _ in range(3)]
    for delivery in made:
        backlog.add(delivery)
    assert set(backlog) == set(made)

    gone = backlog.withdraw(lambda delivery: level_of(delivery) == "normal")

    assert [level_of(delivery) for delivery in gone] == ["normal"] * 6
    left = [backlog.lines[Lane.PLAIN].popleft() for _ in range(12)]
    assert set(left) == set(made) - set(gone)
    assert [delivery for delivery in left if delivery.queue.name == "other"] == made[3:6] + made[15:18]
