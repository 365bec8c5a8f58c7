"""The parent's side of one child process that runs one order after the other: what it holds, and how far it came.

Orders are numbered. Reports name the first number they tell of; the child's slot names the last it began; the
tokens left in its pipe are for those it has not. From these three it is known for each order how far it came.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.child.protocol import Lines, OrderFields, pack_orders, unpack_reports
from leveret.consumers.running.child import Child, Ended
from leveret.consumers.running.deaths import CANCELLED_TASK, GRACE_SECONDS, TIME_LIMIT, end_of, success_of
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.settling.delivery import Delivery

_TELL_AGAIN_SECONDS = 0.1


class ChildHandle(Child):
    """One child of the pool. `start` it before anything else, and again after `reap`."""

    def __init__(self, index: int, forkserver: Forkserver, board: Board, on_readable: Callable[[Any], None]) -> None:
        super().__init__(index, forkserver, board, lambda: on_readable(self))
        self._foretold: set[int] = set()  # ended by `finished_before`, and still to be reported
        self._kept: dict[int, str] = {}  # results that it had not reported when it was looked at last
        self._is_busy = False
        self._cancelled = 0  # what it was told to end, by number
        self._cancelled_at = self._cancel_told = 0.0
        self._seen_begun = self._told_running = 0

    def start(self) -> None:
        """Have the process forked."""
        self._foretold.clear()
        self._cancelled = 0
        self._is_busy = False
        super().start()

    def send(self, batch: list[Delivery]) -> None:
        """Hand it a batch; it must be free."""
        orders: list[OrderFields] = []
        for delivery in batch:
            number = next(self._numbers)
            self._held[number] = delivery
            orders.append(delivery.order(number))
        self._looked, self._unbegun_seconds = time.monotonic(), 0.0
        self._is_busy = True
        assert self._pipe is not None
        self._pipe.put_tokens(len(orders))
        self._pipe.send(pack_orders(orders))

    def receive(self) -> tuple[Ended, bool]:
        """Take in what it has written; returns what ended, and whether it is free again."""
        assert self._pipe is not None
        self._received += self._pipe.receive()
        ended: Ended = []
        is_free = False
        try:
            for report in unpack_reports(self._received):
                self._has_reported = True
                self._note_progress()
                if not self._is_busy:
                    raise ValueError("it had nothing to do")
                if isinstance(report, Lines):
                    self._take_lines(report)
                    continue
                for number, outcome in enumerate(report.outcomes, start=report.first):
                    if number in self._held:
                        ended.append((self._held.pop(number), outcome))
                        self.ended_count += 1
                    elif number in self._foretold:
                        self._foretold.remove(number)
                    else:
                        raise ValueError("it was not given what it reports")
                if report.is_last:
                    if self._held:
                        raise ValueError("it left out what it was given")
                    self._is_busy, is_free = False, not self._killed_because
                elif not report.outcomes:
                    raise ValueError("a report of nothing")
        except ValueError as error:  # a task, or what it left behind, may write there, and without an end
            is_free = False
            self._kill_for_garbage(error)
        return ended, is_free

    def begun(self) -> Begun:
        """Return what it began last. Read its reports after that, and `finished_before` tells the rest."""
        begun = self._board.read(self.index)
        self._kept = self._board.kept(self.index)
        return begun

    def finished_before(self, begun: Begun) -> Ended:
        """Return what it finished before that and has in its next report; failures are reported at once."""
        numbers = [number for number in self._held if number < begun.number]
        self._foretold.update(numbers)
        self.ended_count += len(numbers)
        return [
            (delivery := self._held.pop(number), success_of(delivery, self._kept.get(number))) for number in numbers
        ]

    def is_stalled(self, begun: Begun) -> bool:
        """Whether it is still at the same order as when this was asked last, with others behind it."""
        still, self._seen_begun = begun.number == self._seen_begun, begun.number
        return still and begun.number in self._held and len(self._held) > 1

    def runs(self, begun: Begun) -> Delivery | None:
        """Return the delivery it runs, if any."""
        return self._held.get(begun.number)

    def has_begun(self, begun: Begun) -> Delivery | None:
        """Return what it runs, the first time that this is seen of it."""
        delivery = self._held.get(begun.number)
        if delivery is None or delivery.is_started:
            return None
        delivery.is_started = True
        return delivery

    def runs_long(self, begun: Begun, seconds: float) -> Delivery | None:
        """Return what it has been running for so long, once of each."""
        is_long = begun.number in self._held and time.monotonic() - begun.started >= seconds
        if not is_long or begun.number == self._told_running:
            return None
        self._told_running = begun.number
        return self._held[begun.number]

    def kill_if_overdue(self, begun: Begun) -> None:
        """Kill it when the attempt it runs is past its time limit, or was cancelled and has not ended."""
        if self._cancelled:
            self._see_cancelled_off(begun)
        if begun.number in self._held and begun.deadline <= time.monotonic() and not self._killed_because:
            self._kill(TIME_LIMIT)

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> list[Delivery]:
        """Have it end what is cancelled of all that it has begun; returns that. It begins one after the other."""
        cancelled = [number for number, delivery in self._held.items() if is_cancelled(delivery)]
        if cancelled and cancelled[-1] != self._cancelled:
            self._cancelled, self._cancelled_at = cancelled[-1], time.monotonic()
            self._board.cancel(self.index, self._cancelled)
            self._tell_of_cancel()
        return [self._held[number] for number in cancelled]

    def _tell_of_cancel(self) -> None:
        self._cancel_told = time.monotonic()
        self._forkserver.cancel(self.index)

    def _see_cancelled_off(self, begun: Begun) -> None:
        """Kill it where it still runs what it was told to end; tell it again, for it may not have been in its code."""
        if self._cancelled not in self._held:
            self._cancelled = 0
        elif begun.number == self._cancelled and not self._killed_because:
            now = time.monotonic()
            if now - max(self._cancelled_at, begun.started) >= GRACE_SECONDS:
                self._kill(CANCELLED_TASK)
            elif now - self._cancel_told >= _TELL_AGAIN_SECONDS:
                self._tell_of_cancel()

    def is_stuck(self, begun: Begun) -> bool:
        """Whether it has begun nothing of what it holds for too long, of the time in which this is asked regularly."""
        return self._begins_nothing(begun.number not in self._held)

    def kill_stuck(self) -> list[Delivery]:
        """Take back what it has not begun; kill it, unless it has just taken the token for the rest after all."""
        self._unbegun_seconds = 0.0
        taken_back = self.take_back()
        if not (self._held and taken_back):
            self._kill("it began nothing of what it was given")
        return taken_back

    def reap(self, exit_status: int) -> tuple[Ended, list[Delivery]]:
        """Tell, of what a dead child held, what ended and what it never began.

        It took one token after the other, so all but the last it took one for had succeeded, and that one killed it.
        """
        not_begun = self.take_back()
        begun = self.begun()
        ended: Ended = [
            (delivery, success_of(delivery, self._kept.get(number))) for number, delivery in self._held.items()
        ]
        if ended:
            number, culprit = self._held.popitem()
            known = begun if number == begun.number else Begun(number, time.monotonic(), math.inf, 0, "")
            ended[-1] = (culprit, end_of(culprit, known, self._killed_because, exit_status))
        self._held.clear()
        self.disconnect()
        return ended, not_begun
