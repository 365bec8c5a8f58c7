"""What all child processes have in common, seen from the parent: how they start, what they hold, how they are ended."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection

from leveret.consumers.child.board import Board
from leveret.consumers.child.outcome import Outcome
from leveret.consumers.child.protocol import LONGEST_LINE_BYTES, MOST_LOGGED_BYTES, Lines
from leveret.consumers.log import event
from leveret.consumers.running.child_pipe import ChildPipe
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.settling.delivery import Delivery

BEGIN_SECONDS = 10.0
"""A child that begins nothing of what it was given for so long cannot any more: even a thrashing machine is faster."""
_NEWBORN_SECONDS = 5.0
_LONGEST_STEP_SECONDS = 0.5  # longer between two looks, and it was this process that did not run
_MOST_LINES_BYTES = MOST_LOGGED_BYTES + 4 * LONGEST_LINE_BYTES  # with the line that passes the limit, and one more

Ended = list[tuple[Delivery, Outcome]]


class Child:
    """A child process, by its slot on the board. Its orders are numbered."""

    def __init__(self, index: int, forkserver: Forkserver, board: Board, on_readable: Callable[[], None]) -> None:
        self.index = index
        self.ended_count = 0
        """How many of its orders have ended since it was started."""
        self.logged: list[tuple[Delivery, Lines]] = []
        """What followed tasks have written, until it is taken from here."""
        self._forkserver = forkserver
        self._board = board
        self._on_readable = on_readable
        self._pipe: ChildPipe | None = None
        self._numbers = itertools.count(1)
        self._held: dict[int, Delivery] = {}  # by number, so in the order of running
        self._killed_because = ""
        self._received = bytearray()
        self._logged_bytes: dict[int, int] = {}
        self._born = 0.0
        self._has_reported = False
        self._looked = self._unbegun_seconds = 0.0

    @property
    def is_started(self) -> bool:
        """Whether there is a process, or will be in a moment."""
        return self._pipe is not None

    @property
    def is_there(self) -> bool:
        """Whether its process reads orders already."""
        return self.process != 0

    @property
    def process(self) -> int:
        """Its process; 0 until it reads orders."""
        return self._board.process_of(self.index)

    @property
    def is_newborn(self) -> bool:
        """Whether it was started a moment ago and has not reported anything yet."""
        return not self._has_reported and time.monotonic() - self._born < _NEWBORN_SECONDS

    @property
    def was_killed(self) -> bool:
        """Whether it was killed from here."""
        return bool(self._killed_because)

    @property
    def held(self) -> Collection[Delivery]:
        """The deliveries whose outcome it still owes."""
        return self._held.values()

    def start(self) -> None:
        """Have the process forked."""
        self._pipe = pipe = ChildPipe(self._on_readable, self._note_progress)
        self._killed_because = ""
        self._received.clear()
        self._logged_bytes.clear()
        self._born, self._has_reported, self.ended_count = time.monotonic(), False, 0
        self._board.clear(self.index)
        self._forkserver.fork(self.index, pipe.child_socket, pipe.child_tokens)

    def has_unread(self) -> bool:
        """Whether it has written what was not received yet."""
        return self._pipe is not None and self._pipe.has_unread()

    def take_back(self) -> list[Delivery]:
        """Take back what it has not begun, by taking the tokens for it."""
        return [self._held.pop(number) for number in self._numbers_not_begun()]

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> list[Delivery]:
        """Have it end what is cancelled of all that it has begun; returns that."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close everything that leads to it, by which it ends when it holds nothing."""
        if self._pipe:
            self._pipe.close()
            self._pipe = None

    def _numbers_not_begun(self) -> list[int]:
        tokens = self._pipe.take_tokens(len(self._held)) if self._pipe else 0
        return list(self._held)[len(self._held) - tokens :]

    def _note_progress(self) -> None:
        """Note that it still reads what it is sent, or has told of an order: so it comes to the others."""
        self._unbegun_seconds = 0.0

    def _begins_nothing(self, is_waiting: bool) -> bool:
        """Whether it has made no progress and run nothing for too long, of the time in which this is asked regularly.

        `is_waiting` says that it runs nothing of what it holds.
        """
        now = time.monotonic()
        step, self._looked = min(now - self._looked, _LONGEST_STEP_SECONDS), now
        self._unbegun_seconds = self._unbegun_seconds + step if is_waiting else 0.0
        return self._unbegun_seconds > BEGIN_SECONDS and not self._killed_because

    def _take_lines(self, lines: Lines) -> None:
        """Take in what a task has written. Raises `ValueError` when that is more than one may."""
        delivery = self._held.get(lines.number)
        if delivery is None:  # it has ended, and a thread of it wrote on
            return
        written = self._logged_bytes.get(lines.number, 0) + lines.size_bytes
        if written > _MOST_LINES_BYTES:
            raise ValueError("it logs more than a task may")
        if len(self._logged_bytes) > 2 * len(self._held):
            self._logged_bytes = {number: size for number, size in self._logged_bytes.items() if number in self._held}
        self._logged_bytes[lines.number] = written
        self.logged.append((delivery, lines))

    def _kill_for_garbage(self, error: ValueError) -> None:
        assert self._pipe is not None
        self._received.clear()
        self._pipe.stop_receiving()
        self._kill(f"it wrote garbage to its parent ({error})")
        event(logging.WARNING, f"a child process is killed, and another takes its place: {self._killed_because}")

    def _kill(self, reason: str) -> None:
        self._killed_because = reason
        self._forkserver.kill(self.index)
