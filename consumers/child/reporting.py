"""How a child tells its parent what has ended: short tasks together, so that each costs little.

What waits for its report stands on the board if it is a result: then a child that is killed takes none along, and who
waits for one does not wait for what runs after it. That a task succeeded, its parent can tell by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from leveret.consumers.child.board import Board
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import Report, pack_report

_LONGEST_SILENCE_SECONDS = 0.002
_SHORT_SECONDS = 0.001


class Reporter:
    """Reports of batches of orders, one after the other, by `send`; and on the board, in this slot, what has begun."""

    def __init__(self, send: Callable[[bytes], object], board: Board, index: int) -> None:
        self._send = send
        self._board = board
        self._index = index
        self._outcomes: list[Outcome] = []
        self._first = 0  # the number of the first of them
        self._reported = 0.0
        self._short: set[str] = set()  # tasks that took no time when they ran last

    def start(self, first: int) -> None:
        """Note that a batch of orders from this number on has come."""
        self._first, self._reported = first, time.monotonic()

    def begin(self, number: int, started: float, deadline: float, task: str) -> None:
        """Say that an order begins, and must end by `deadline`; tell what has ended, if this may take its time."""
        if self._outcomes and task not in self._short:
            self._tell_noted(is_last=False)
        self._board.write(self._index, number, started, deadline, task)

    def note(self, number: int, outcome: Outcome, is_last: bool) -> None:
        """Note how an order ended. The last of a batch is told by `finish`."""
        self._outcomes.append(outcome)
        if (
            outcome.ending is Ending.RETURNED and outcome.duration_seconds < _SHORT_SECONDS
        ):  # the others may be no task's
            self._short.add(outcome.task)
        else:
            self._short.discard(outcome.task)
        if not is_last and not self._may_wait(number, outcome):
            self._tell_noted(is_last=False)

    def finish(self) -> None:
        """Tell what is left of a batch, and that no more of it is run."""
        self._tell_noted(is_last=True)

    def tell(self, outcomes: list[Outcome], is_last: bool = False) -> None:
        """Tell the next outcomes of a batch, which were not noted; `is_last` says that no more of it is run."""
        self._send(pack_report(Report(self._first, outcomes, is_last)))
        self._first += len(outcomes)

    def _may_wait(self, number: int, outcome: Outcome) -> bool:
        if outcome.ending is not Ending.RETURNED or time.monotonic() - self._reported > _LONGEST_SILENCE_SECONDS:
            return False
        if outcome.result is None:
            return True
        return self._board.keep(self._index, number, outcome.result)

    def _tell_noted(self, is_last: bool) -> None:
        self.tell(self._outcomes, is_last)
        self._board.forget_kept(self._index)  # not before: the parent looks for results here first, and then in reports
        self._outcomes, self._reported = [], time.monotonic()
