"""Board: what a child says it has begun is what the parent reads."""

from __future__ import annotations

import itertools
import os
import signal
import struct
import threading
import time

import pytest

from leveret.consumers.child.board import Begun, Board, Progress

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
        Begun(2, 1.0, 11.5, os.getpid(), "a", 0),
        NOTHING,
        Begun(2**64 - 1, 0.125, 0.25, os.getpid(), "treasure.search", 2),
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

    assert board.read(0) == Begun(1, 0.5, 2.5, os.getpid(), expected, 0)
    assert board.read(1) == Begun(5, 0.5, 1.5, os.getpid(), "neighbour", 1)


def test_the_parent_reads_what_its_child_wrote() -> None:
    """The memory is shared over a fork."""
    board = Board(1)
    child = os.fork()
    if child == 0:
        board.write(0, 7, 0.5, 1.5, "words.count")
        os._exit(0)
    os.waitpid(child, 0)

    assert board.read(0) == Begun(7, 0.5, 1.5, child, "words.count", 0)


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
        number: Begun(number, number + 0.25, number + 0.5, child, f"task-{number}", 0) for number, *_ in seen if number
    }
    assert len(known) > 100
    assert seen - {NOTHING} == set(known.values())


def test_progress_is_that_of_the_order_in_its_place() -> None:
    """Each place has its own, with whatever note fits, and a later order there has none yet."""
    board = Board(2, 2)
    for place, number in ((0, 7), (1, 8)):
        board.write(1, number, 0.5, 1.5, "mail.send", place)
    board.write_progress(1, 8, Progress(3, 4.5, "half"), 1)
    board.write_progress(1, 7, Progress(1, None, "é" * 100), 0)
    first, second = board.read(1, 0), board.read(1, 1)

    assert board.read_progress(first) == Progress(1.0, None, "é" * 60)
    assert board.read_progress(second) == Progress(3.0, 4.5, "half")
    assert board.number_in(1, 1) == 8

    board.write(1, 9, 2.5, 3.5, "mail.send", 1)

    assert board.read_progress(board.read(1, 1)) is None
    assert board.read_progress(Begun(8, 0.5, 1.5, 0, "mail.send", 0, 1)) is None


def test_half_of_a_progress_is_not_read() -> None:
    """Numbers and note of what is read belong together, however many threads of the child write."""
    board = Board(1)
    board.write(0, 1, 0.5, 1.5, "mail.send")
    begun = board.read(0)
    child = os.fork()
    if child == 0:

        def write() -> None:
            for count in itertools.count(1):
                board.write_progress(0, 1, Progress(count, count + 0.5, f"{count}" * 8))

        for _ in range(2):
            threading.Thread(target=write).start()
    try:
        seen = {board.read_progress(begun) for _ in range(200_000)}
        deadline = time.monotonic() + 60
        while len(seen) < 102 and time.monotonic() < deadline:
            seen.add(board.read_progress(begun))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    read = {progress for progress in seen if progress}
    assert len(read) > 100
    assert {Progress(done, done + 0.5, f"{done:.0f}" * 8) for done, *_ in read} == read


def test_what_is_zeroed_to_be_written_is_not_read() -> None:
    """As it is between two writes of which the reader sees nothing but that: counts of 0 are equal, too."""
    board = Board(1)
    board.write(0, 1, 0.5, 1.5, "mail.send")
    struct.pack_into("@QQ", board._memory, board._progress_at, 0, 1)

    assert board.read_progress(board.read(0)) is None


def test_a_cancel_is_for_the_order_that_runs() -> None:
    """Of the same child, and of no child that is forked into its slot later."""
    board = Board(2, 3)
    board.write(0, 7, 1.0, 2.0, "mail.send")
    board.write(1, 7, 1.0, 2.0, "mail.send")
    board.write_progress(1, 7, Progress(1.0, 2.0, "a note"), 2)
    board.cancel(0, 7)

    assert [board.cancelled(index) for index in (0, 1)] == [7, 0]
    board.write(0, 8, 1.0, 2.0, "mail.send")
    assert board.cancelled(0) == 0
    board.cancel(1, 7)
    board.clear(1)
    board.write(1, 7, 1.0, 2.0, "mail.send")
    assert board.cancelled(1) == 0


def test_results_are_kept_until_they_are_forgotten() -> None:
    """Those of a slot, by number; one for which there is no room is not kept, and the others stay."""
    board = Board(2)
    assert board.kept(1) == {}
    assert board.keep(1, 7, '"ä"')
    assert board.keep(1, 9, "1")
    assert not board.keep(1, 10, "x" * 40_000)
    assert board.keep(0, 1, "x" * 30_000)
    assert not board.keep(0, 2, "x" * 3_000)

    assert board.kept(1) == {7: '"ä"', 9: "1"}
    assert list(board.kept(0)) == [1]
    board.forget_kept(1)
    assert board.kept(1) == {}
    assert board.keep(1, 11, "2")
    assert board.kept(1) == {11: "2"}
    board.clear(1)
    assert board.kept(1) == {}


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\xff" * 8 + b"\0" * 1000, b"\x20" + b"\0" * 7 + b"\xff" * 64])
def test_a_child_gone_wild_keeps_garbage(garbage: bytes) -> None:
    """It is read as whatever it is, and nothing beyond the slot."""
    board = Board(2)
    board.keep(1, 1, "neighbour")
    memory = board._memory
    start = board._kept_at
    memory[start : start + len(garbage)] = garbage

    assert all(len(text) <= 32 * 1024 for text in board.kept(0).values())
    assert "neighbour" not in board.kept(0).values()
    assert board.kept(1) == {1: "neighbour"}
