"""Board: what a child says it has begun is what the parent reads."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from leveret.consumers.child.board import Begun, Board

NOTHING = Begun(0, 0.0, 0.0, 0, "")


def test_a_fresh_slot_is_empty() -> None:
    """Before anything began there is no number, no time and no name."""

    assert Board(2).read(1) == NOTHING


def test_each_child_has_a_slot_of_its_own() -> None:
    """Writing one slot leaves its neighbours alone, and a later order replaces an earlier one."""
    board = Board(3)
    board.write(0, 1, 0.5, 10.5, "words.count")
    board.write(2, 2**64 - 1, 0.125, 0.25, "treasure.search")
    board.write(0, 2, 1.0, 11.5, "a")

    assert [board.read(index) for index in range(3)] == [
        Begun(2, 1.0, 11.5, os.getpid(), "a"),
        NOTHING,
        Begun(2**64 - 1, 0.125, 0.25, os.getpid(), "treasure.search"),
    ]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("é", "é"),
        ("x" * 255, "x" * 128),
        ("\ud800", "?"),
        ("x" + "é" * 100, "x" + "é" * 63 + "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_name_is_made_to_fit(task: str, expected: str) -> None:
    """A long name is cut and one that UTF-8 cannot hold is replaced; the next slot stays whole."""
    board = Board(2)
    board.write(1, 5, 0.5, 1.5, "neighbour")
    board.write(0, 1, 0.5, 2.5, task)

    assert board.read(0) == Begun(1, 0.5, 2.5, os.getpid(), expected)
    assert board.read(1) == Begun(5, 0.5, 1.5, os.getpid(), "neighbour")


def test_the_parent_reads_what_its_child_wrote() -> None:
    """The memory is shared over a fork."""
    board = Board(1)
    child = os.fork()
    if child == 0:
        board.write(0, 7, 0.5, 1.5, "words.count")
        os._exit(0)
    os.waitpid(child, 0)

    assert board.read(0) == Begun(7, 0.5, 1.5, child, "words.count")


def test_half_of_a_write_is_not_read() -> None:
    """Who reads while the child writes gets an order with its own deadline, or none: never one that seems overdue."""
    board = Board(1)
    child = os.fork()
    if child == 0:
        for number in itertools.count(1):
            board.write(0, number, number + 0.25, number + 0.5, f"task-{number}")
    try:
        seen = {board.read(0) for _ in range(200_000)}
        deadline = time.monotonic() + 60
        while len(seen) < 102 and time.monotonic() < deadline:  # the child may get less of a busy machine
            seen.add(board.read(0))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    known = {
        number: Begun(number, number + 0.25, number + 0.5, child, f"task-{number}") for number, *_ in seen if number
    }
    assert len(known) > 100
    assert seen - {NOTHING} == set(known.values())
