"""The parent's side of a child that runs orders side by side: what it learns of each from reports and the board."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from leveret.consumers.child.board import CANCELLED, Board
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import pack_shared_report, unpack_shared_orders
from leveret.consumers.running import child, shared_child
from leveret.consumers.running.child import BEGIN_SECONDS
from leveret.consumers.running.deaths import GRACE_SECONDS
from leveret.consumers.running.shared_child import SharedChild
from leveret.consumers.settling.delivery import Delivery
from tests.unit.children import delivery_of

DONE = Outcome(Ending.RETURNED, "mail.send", 0.1)


class Other:
    """The child's side, played."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.kills = 0
        self.board = Board(1, 3)
        for module in (child, shared_child):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.socket: socket.socket
        self.tokens = 0

    def fork(self, _index: int, socket_end: socket.socket, tokens: int) -> None:
        self.socket = socket_end.dup()
        socket_end.close()
        self.tokens = os.dup(tokens)

    def kill(self, _index: int) -> None:
        self.kills += 1

    def begin(self, count: int) -> list[int]:
        """Take as many tokens and say on the board what they are for; returns the numbers."""
        os.read(self.tokens, count)
        numbers = []
        (orders,) = unpack_shared_orders(bytearray(self.socket.recv(65536)))
        assert isinstance(orders, list)
        for place, order in orders[:count]:
            self.board.write(0, order.number, self.now, self.now + 10, "mail.send", place)
            numbers.append(order.number)
        return numbers

    def close(self) -> None:
        self.socket.close()
        os.close(self.tokens)


def deliveries(*names: str) -> list[Delivery]:
    return [delivery_of(name) for name in names]


def names(found: list[Delivery]) -> list[str]:
    return [one.id for one in found]


def play(monkeypatch: pytest.MonkeyPatch, scene: Callable[[SharedChild, Other], None]) -> None:
    async def playing() -> None:
        other = Other(monkeypatch)
        forkserver: Any = other
        child = SharedChild(0, forkserver, other.board, lambda _child: None, 3)
        child.start()
        try:
            scene(child, other)
        finally:
            other.close()
            child.disconnect()

    asyncio.run(playing())


def test_outcomes_come_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each makes room."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a", "b", "c"))
        assert child.room == 0
        first, second, third = other.begin(3)
        other.socket.sendall(pack_shared_report([(third, DONE), (first, DONE)], [], [second]))

        ended, misplaced = child.receive()

        assert names([delivery for delivery, _ in ended]) == ["c", "a"]
        assert names(misplaced) == ["b"]
        assert child.room == 3

    play(monkeypatch, scene)


@pytest.mark.parametrize("number", [99, 0])
def test_a_report_of_what_it_was_not_given_ends_it(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What it told before that counts."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a", "b"))
        first, _ = other.begin(2)
        other.socket.sendall(pack_shared_report([(first, DONE), (number, DONE)], [], []))

        assert names([delivery for delivery, _ in child.receive()[0]]) == ["a"]
        assert other.kills == 1
        assert child.killed_because == "it wrote garbage to its parent (it was not given what it reports)"
        assert child.room == 0

    play(monkeypatch, scene)


def test_what_it_does_not_begin_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets nothing more until it has noticed, or it would take the tokens of others for what was taken back."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a", "b", "c"))
        other.begin(1)
        assert child.look() == []
        assert names([delivery for delivery, _ in child.look()]) == ["a"]
        assert not child.is_stalled()
        other.now += 0.1
        assert child.is_stalled()

        assert names(child.take_back()) == ["b", "c"]
        assert child.room == 0
        other.socket.sendall(pack_shared_report([], [2, 3], []))
        child.receive()
        assert child.room == 2
        assert child.look() == []
        assert not child.is_stalled()

    play(monkeypatch, scene)


def test_when_it_dies_the_last_to_begin_is_the_first_to_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What had not begun is told apart, and nobody is known to be the culprit."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a", "b", "c"))
        other.begin(2)

        begun, not_begun, is_known = child.bury()

        assert names([delivery for delivery, _ in begun]) == ["b", "a"]
        assert names(not_begun) == ["c"]
        assert not is_known

    play(monkeypatch, scene)


@pytest.mark.parametrize("was_cancelled", [True, False])
def test_who_ignores_its_cancellation_is_known(monkeypatch: pytest.MonkeyPatch, was_cancelled: bool) -> None:
    """Where the loop did not turn, and could not cancel anybody, nobody is."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a", "b"))
        first, _ = other.begin(2)
        child.look()
        child.look()
        other.now += 10 + GRACE_SECONDS - 0.1
        assert not child.kill_if_overdue()
        if was_cancelled:
            other.board.write(0, first, 1000.0, CANCELLED, "mail.send", 2)
        other.now += 0.2
        assert child.kill_if_overdue()

        begun, _, is_known = child.bury()

        assert is_known is was_cancelled
        assert names([delivery for delivery, _ in begun]) == (["a", "b"] if was_cancelled else ["b", "a"])

    play(monkeypatch, scene)


def test_who_was_cancelled_before_anybody_looked_has_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time limit is shorter than the time between two looks, or its parent did not run for a while."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a"))
        (number,) = other.begin(1)
        child.look()
        other.board.write(0, number, 1000.0, CANCELLED, "mail.send", 2)
        child.look()

        assert not child.kill_if_overdue()
        other.now += GRACE_SECONDS - 0.1
        assert not child.kill_if_overdue()
        other.now += 0.2
        assert child.kill_if_overdue()
        assert child.bury()[2]

    play(monkeypatch, scene)


def test_limits_of_what_has_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many run within the time limit of the first."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("first"))
        other.begin(1)
        child.look()
        child.look()
        for _ in range(50):
            child.send(deliveries("a", "b"))
            numbers = other.begin(2)
            child.look()
            child.look()
            other.socket.sendall(pack_shared_report([(number, DONE) for number in numbers], [], []))
            child.receive()

        assert len(child._deadlines) < 12
        assert names([delivery for delivery, _ in child.begun]) == ["first"]

    play(monkeypatch, scene)


def test_who_ends_all_between_two_looks_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never seen to run anything, though it always holds something; its reports say that it does."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("first"))
        for _ in range(round(BEGIN_SECONDS / 0.05) + 5):
            (number,) = other.begin(1)
            child.send(deliveries("next"))
            other.socket.sendall(pack_shared_report([(number, DONE)], [], []))
            child.receive()
            other.now += 0.05
            assert child.look() == []
            assert not child.kill_if_stuck()

    play(monkeypatch, scene)


def test_who_begins_nothing_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was stopped together with it does not kill it for that."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a"))
        other.now += 3600
        assert not child.kill_if_stuck()
        told = 0
        for _ in range(round(BEGIN_SECONDS / 0.05)):
            other.now += 0.05
            child.look()
            told += child.kill_if_stuck()

        assert (told, other.kills) == (1, 1)

    play(monkeypatch, scene)


def test_a_report_of_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that has gone wild does not pass for one that works."""

    def scene(child: SharedChild, other: Other) -> None:
        child.send(deliveries("a"))
        other.socket.sendall(pack_shared_report([], [], []))

        assert child.receive() == ([], [])
        assert child.killed_because == "it wrote garbage to its parent (a report of nothing)"

    play(monkeypatch, scene)
