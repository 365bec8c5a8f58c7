"""What a followed task logs and prints, from where it is written to the frames that its child sends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leveret.consumers import log, output
from leveret.consumers.child import copies
from leveret.consumers.child.logged import Logged
from leveret.consumers.child.protocol import LONGEST_LINE_BYTES, MOST_LOGGED_BYTES
from leveret.consumers.output import Output


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Leads standard streams to files, as a worker has them; called in the test, for pytest has its own until then."""

    def lead() -> None:
        for name in ("stdout", "stderr"):
            descriptor = os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT)
            monkeypatch.setattr(sys, name, Output(descriptor, f"<{name}>", "utf-8"))
        monkeypatch.setattr(copies.copies, "is_copy", False)
        monkeypatch.setattr(log._journal, "stream", Output(os.open(os.devnull, os.O_WRONLY), "the log", "utf-8"))
        log.configure(False)

    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield lead
    root.handlers[:] = before[0]
    root.setLevel(before[1])


class Sent:
    """What was sent: lines, each without its time, and how many were left out."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.dropped = 0
        self.heard = Logged(self._send)

    def _send(self, lines: list[str], dropped: int) -> None:
        self.batches.append([line.split(" ", 1)[1] for line in lines])
        self.dropped += dropped

    @property
    def lines(self) -> list[str]:
        return [line for batch in self.batches for line in batch]


def listening(sent: Sent) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(output.listen, sent.heard)
    return context


def test_what_is_logged_and_printed_in_the_context_is_heard_and_written_as_ever(
    streams: Callable[[], None], tmp_path: Path
) -> None:
    """Each line with its level or stream; what others write beside it is not."""
    streams()
    sent = Sent()

    def write() -> None:
        logging.getLogger("jobs").warning("two\nlines")
        print("printed", 5)
        print("left open", end="")
        print("to stderr", file=sys.stderr)

    listening(sent).run(write)
    print(" by nobody")
    sent.heard.close()

    assert sent.lines == [
        "warning two",
        "warning lines",
        "stdout printed 5",
        "stderr to stderr",
        "stdout left open",
    ]
    assert (tmp_path / "stdout").read_text() == "printed 5\nleft open by nobody\n"


def test_it_is_heard_in_tasks_of_a_loop_and_in_threads_that_take_the_context_along(streams: Callable[[], None]) -> None:
    """By the context, however many write side by side."""
    streams()
    one, other = Sent(), Sent()

    async def write(name: str) -> None:
        print(name, "awaits")
        await asyncio.sleep(0)
        await asyncio.to_thread(print, name, "in a thread")

    async def both() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            loop.create_task(write("one"), context=listening(one)),
            loop.create_task(write("other"), context=listening(other)),
        )

    asyncio.run(both())
    for sent in (one, other):
        sent.heard.close()

    assert one.lines == ["stdout one awaits", "stdout one in a thread"]
    assert other.lines == ["stdout other awaits", "stdout other in a thread"]


def test_the_first_line_goes_at_once_and_the_others_together(streams: Callable[[], None]) -> None:
    """So that who looks on sees that it runs, and a task that writes much sends little."""
    streams()
    sent = Sent()
    listening(sent).run(lambda: [print(number) for number in range(1000)])
    sent.heard.close()

    assert sent.batches[0] == ["stdout 0"]
    assert sent.lines == [f"stdout {number}" for number in range(1000)]
    assert len(sent.batches) < 100


def test_more_than_an_attempt_may_log_is_counted(streams: Callable[[], None]) -> None:
    """And said so once, in its place; a line that is too long is cut."""
    streams()
    sent = Sent()
    listening(sent).run(lambda: [print("ä" * 10_000) for _ in range(100)])
    sent.heard.close()

    *told, last = sent.lines
    assert last.startswith("warning this attempt has logged 256 KiB")
    assert {len(line.encode()) <= LONGEST_LINE_BYTES + 3 for line in told} == {True}
    assert sum(len(line.encode()) + 26 for line in told) > MOST_LOGGED_BYTES - LONGEST_LINE_BYTES
    assert sum(len(line.encode()) + 26 for line in told) < MOST_LOGGED_BYTES + 2 * LONGEST_LINE_BYTES
    assert len(told) + sent.dropped == 100


def test_a_line_that_never_ends_is_kept_no_longer_than_a_line_may_be(streams: Callable[[], None]) -> None:
    """And a bar that is written over is what a terminal shows in the end."""
    streams()
    sent = Sent()

    def write() -> None:
        for number in range(101):
            print(f"\r{number} %", end="", file=sys.stderr)
        for _ in range(1000):
            print("x" * 100, end="")

    listening(sent).run(write)
    sent.heard.close()

    bar, long = sorted(sent.lines)
    assert bar == "stderr 100 %"
    assert long.endswith("x…")
    assert len(long.encode()) <= LONGEST_LINE_BYTES + 3


def test_text_that_utf_8_cannot_carry_is_escaped(streams: Callable[[], None]) -> None:
    """As in what is told of failures."""
    streams()
    sent = Sent()
    listening(sent).run(print, "\udc80")
    sent.heard.close()

    assert sent.lines == ["stdout \\udc80"]


def test_a_program_may_call_its_levels_anything(streams: Callable[[], None]) -> None:
    """The text still begins behind the second space."""
    streams()
    sent = Sent()
    listening(sent).run(logging.getLogger().log, 35, "a level of its own")
    sent.heard.close()

    assert sent.lines == ["level35 a level of its own"]


def test_nothing_is_heard_of_what_an_attempt_has_left_behind(streams: Callable[[], None]) -> None:
    """A thread of it may write on when another attempt runs."""
    streams()
    sent = Sent()
    context = listening(sent)
    sent.heard.close()
    thread = threading.Thread(target=context.run, args=(print, "too late"))
    thread.start()
    thread.join()

    assert sent.batches == []


def test_a_copy_of_the_process_sends_nothing(streams: Callable[[], None]) -> None:
    """The socket is its original's, and what it writes there would come amid another frame."""
    streams()
    sent = Sent()

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            print("in the copy")
            sent.heard.close()
            os._exit(len(sent.batches))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert listening(sent).run(fork) == 0
