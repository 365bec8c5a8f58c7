"""Progress: what a task tells of itself reaches the board, whatever it runs in, and nothing of it can fail the task."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

import pytest

from leveret import WorkQueue, current_attempt, progress, task, track
from leveret.consumers.child.board import Board, Progress
from leveret.consumers.child.execute import serve
from leveret.consumers.child.protocol import OrderFields, pack_orders, pack_shared_orders
from leveret.consumers.child.side_by_side import serve_side_by_side
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks import progress as telling
from leveret.consumers.tasks.kind import Kind
from leveret.topology import queues, registry

LIMIT_BYTES = 10_000
Told = list[tuple[float, float | None, str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is told, in an attempt."""
    seen: Told = []
    monkeypatch.setattr(telling, "_teller", lambda _attempt, *what: seen.append(what))
    monkeypatch.setattr(attempt, "_current", ContextVar("attempt"))
    attempt.begin(attempt.Attempt("id", 1, "mail", "mail.send"))
    return seen


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail")


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [
        (3, 10, (3.0, 10.0)),
        (3, None, (3.0, None)),
        (Decimal("0.5"), True, (0.5, 1.0)),
        (11, 10, (11.0, None)),
        (-1, 10, (0.0, 10.0)),
        (math.nan, math.nan, (0.0, None)),
        (math.inf, math.inf, (0.0, None)),
        (10**400, 10**400, (0.0, None)),
        (0, 0, (0.0, None)),
        (Decimal("sNaN"), -5, (0.0, None)),
    ],
)
def test_numbers_are_told_as_possible_ones(told: Told, done: Any, total: Any, expected: object) -> None:
    """A task does not fail for a total that was an estimate, nor for a number that is none."""
    progress(done, total)

    assert told == [(*expected, "")]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("page 3", "page 3"),
        ("a\x1b[2J\r\nb", "a\\x1b[2J\\r\\nb"),
        ("\ud800", "\\ud800"),
        ("é" * 60, "é" * 60),
        ("é" * 61, "é" * 58 + "…"),
        ("x" * 1_000_000, "x" * 117 + "…"),
    ],
)
def test_a_note_is_printable_and_short(told: Told, note: str, expected: str) -> None:
    """Nothing raw of it can reach a terminal, and it fits."""
    progress(1, None, note)

    assert told == [(1.0, None, expected)]
    assert len(expected.encode()) <= telling.LONGEST_NOTE_BYTES


@pytest.mark.parametrize("wrong", [("5",), (None,), (1j,), (1, "10"), (1, [2]), (1, 2, b"note"), (1, 2, 3)])
def test_what_is_no_number_is_refused_also_where_nothing_is_told(wrong: tuple[Any, ...]) -> None:
    """So that a test of the function finds it, before a worker does."""
    with pytest.raises(TypeError, match="progress"):
        progress(*wrong)


def test_outside_of_a_task_nothing_is_told(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a plain call in a worker's process nor elsewhere; the items come all the same."""
    items = [1, 2]
    monkeypatch.setattr(attempt, "_current", ContextVar("attempt"))
    progress(1, 2)

    assert list(track(items)) == items
    assert told == []


def test_track_tells_the_beginning_and_the_end(told: Told) -> None:
    """However short the time between them."""

    assert list(track("abc", note="letters")) == ["a", "b", "c"]
    assert told == [(0.0, 3.0, "letters"), (3.0, 3.0, "letters")]


def test_track_tells_of_what_is_done_now_and_then(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that is being worked on is not done; more than ten times a second nothing is told."""
    moments = iter([10.0, 10.05, 10.11, 10.12, 10.3])
    monkeypatch.setattr(telling, "monotonic", lambda: next(moments))

    assert list(track(iter(range(4)), total=8)) == [0, 1, 2, 3]
    assert told == [(0.0, 8.0, ""), (2.0, 8.0, ""), (4.0, 8.0, ""), (4.0, 8.0, "")]


def test_track_that_is_left_tells_no_end(told: Told) -> None:
    """A loop that breaks has not come to the end."""
    for _ in track(range(5)):
        break

    assert told == [(0.0, 5.0, "")]


def test_track_refuses_what_cannot_be_iterated_where_it_stands() -> None:
    """Not at the first item."""
    with pytest.raises(TypeError, match="not iterable"):
        track(5)  # type: ignore[arg-type]


@contextlib.contextmanager
def child(board: Board, kind: Kind, *names: str) -> Iterator[None]:
    """A child process that is given these tasks, and is killed in the end."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    board.clear(0)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            if kind is Kind.PLAIN:
                serve(theirs, reading, board, 0, LIMIT_BYTES)
            else:
                serve_side_by_side(theirs, reading, board, 0, LIMIT_BYTES, kind, 4, asyncio.new_event_loop)
        finally:
            os._exit(1)
    theirs.close()
    try:
        os.write(writing, b"." * len(names))
        bodies = (b'{"task": "%s"}' % name.encode() for name in names)
        orders: list[OrderFields] = [
            (number, "mail", 1, f"id-{number}", None, None, body, False, None)
            for number, body in enumerate(bodies, start=1)
        ]
        ours.sendall(pack_orders(orders) if kind is Kind.PLAIN else pack_shared_orders(list(enumerate(orders))))
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
        os.close(reading)
        os.close(writing)


def await_progress(board: Board, place: int, of: Callable[[Progress], bool]) -> Progress:
    """Wait until such a progress stands on the board."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (seen := board.read_progress(board.read(0, place))) and of(seen):
            return seen
        time.sleep(0.01)
    raise AssertionError("no such progress came")


def test_a_plain_task_tells_and_so_does_what_runs_in_its_context(mail: WorkQueue) -> None:
    """The next one in the same process begins without progress; a thread that was left behind tells nothing of it."""
    board = Board(1)
    step = threading.Event()

    @task("mail.first", queue=mail)
    def first() -> None:
        progress(1, 2, "first")
        asyncio.run(asyncio.to_thread(progress, 2, 2, "in a thread"))
        assert board.read_progress(board.read(0)) == Progress(2.0, 2.0, "in a thread")
        asyncio.run(leave_behind())

    async def leave_behind() -> None:
        asyncio.get_running_loop().run_in_executor(None, lambda: None)  # a thread that ends with the loop
        import contextvars

        def late() -> None:
            step.wait()
            progress(9, 9, "too late")
            step.clear()

        threading.Thread(target=contextvars.copy_context().run, args=(late,), daemon=True).start()

    @task("mail.second", queue=mail)
    def second() -> None:
        was = board.read_progress(board.read(0))
        step.set()
        while step.is_set():
            time.sleep(0.001)
        progress(3, 4, f"before it: {was}, after the other: {board.read_progress(board.read(0))}")
        signal.pause()

    with child(board, Kind.PLAIN, "mail.first", "mail.second"):
        assert await_progress(board, 0, lambda seen: seen.total == 4.0) == Progress(
            3.0, 4.0, "before it: None, after the other: None"
        )


def test_a_process_that_a_task_forks_tells_nothing(mail: WorkQueue) -> None:
    """Two writers would garble what the parent reads."""
    board = Board(1)

    @task("mail.fork", queue=mail)
    def fork() -> None:
        if os.fork() == 0:
            progress(1, 2, "the copy")
            os._exit(0)
        os.wait()
        progress(2, 2, str(board.read_progress(board.read(0))))
        signal.pause()

    with child(board, Kind.PLAIN, "mail.fork"):
        assert await_progress(board, 0, lambda _: True).note == "None"


@pytest.mark.parametrize("kind", [Kind.ASYNC, Kind.THREADS])
def test_each_of_many_tells_of_itself(mail: WorkQueue, kind: Kind) -> None:
    """In one loop, with what it has in a thread, and in threads."""
    board = Board(1, 4)

    def tell() -> None:
        progress(current_attempt().id[-1:] == "1", 7, current_attempt().id)

    @task("mail.async", queue=mail)
    async def in_loop() -> None:
        await asyncio.to_thread(tell)
        await asyncio.Event().wait()

    @task("mail.threads", queue=mail, threads=True)
    def in_thread() -> None:
        tell()
        threading.Event().wait()

    with child(board, kind, *[f"mail.{kind.name.lower()}"] * 3):
        seen = [await_progress(board, place, lambda _: True) for place in range(3)]

    assert seen == [Progress(float(number == 1), 7.0, f"id-{number}") for number in (1, 2, 3)]
