"""The parent's side of one child process that runs orders side by side: what it holds, and what each has come to.

Reports name each order they tell of. Each order has a place on the board, where the child says when it began and must
end. So when the child dies it is known what had begun, though not which of it the child died of.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from leveret.consumers.child.board import CANCELLED, Begun, Board
from leveret.consumers.child.protocol import (
    Lines,
    OrderFields,
    pack_cancels,
    pack_shared_orders,
    unpack_shared_reports,
)
from leveret.consumers.running.child import Child, Ended
from leveret.consumers.running.deaths import CANCELLED_TASK, GRACE_SECONDS, TIME_LIMIT
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.settling.delivery import Delivery

_STALLED_SECONDS = 0.05  # what a child has not begun by then another may begin sooner


class SharedChild(Child):
    """One child with so many places. `start` it before anything else, and again after `bury`."""

    def __init__(
        self,
        index: int,
        forkserver: Forkserver,
        board: Board,
        on_readable: Callable[[SharedChild], None],
        places: int,
    ) -> None:
        super().__init__(index, forkserver, board, lambda: on_readable(self))
        self._places = places
        self._reset()

    def _reset(self) -> None:
        self._free_places = list(range(self._places))
        self._place_of: dict[int, int] = {}
        self._unseen: deque[int] = deque()  # numbers that were not on the board at the last look
        self._last_at_look = 0
        self._begun: dict[int, Begun] = {}
        self._unwanted: dict[int, float] = {}  # what it was told to end, for it is cancelled, and when
        self._deadlines: list[tuple[float, int]] = []
        self._untold: deque[int] = deque()  # begun, and not told of as running for long
        self._taken_back: dict[int, Delivery] = {}  # and to be reported as skipped, before it is given more
        self._sent = 0.0
        self.running_of: Counter[str] = Counter()
        """How many it holds of each task that was looked up."""

    @property
    def room(self) -> int:
        """How many more orders it may be given now."""
        if self._taken_back or not self.is_started or self.was_killed:
            return 0
        return self._places - len(self._held)

    def start(self) -> None:
        """Have the process forked."""
        self._reset()
        super().start()

    def send(self, batch: list[Delivery]) -> None:
        """Hand it a batch; there must be room."""
        orders: list[tuple[int, OrderFields]] = []
        if not self._held:
            self._looked, self._unbegun_seconds = time.monotonic(), 0.0
        self._sent = time.monotonic()
        for delivery in batch:
            number = next(self._numbers)
            self._held[number] = delivery
            place = self._place_of[number] = self._free_places.pop()
            self._unseen.append(number)
            if delivery.task:
                self.running_of[delivery.task] += 1
            orders.append((place, delivery.order(number)))
        assert self._pipe is not None
        self._pipe.put_tokens(len(orders))
        self._pipe.send(pack_shared_orders(orders))

    def receive(self) -> tuple[Ended, list[Delivery]]:
        """Take in what it has written; returns what ended, and what it does not run, for it is of another kind."""
        assert self._pipe is not None
        self._received += self._pipe.receive()
        ended: Ended = []
        misplaced: list[Delivery] = []
        try:
            for report in unpack_shared_reports(self._received):
                self._has_reported = True
                self._note_progress()
                if isinstance(report, Lines):
                    self._take_lines(report)
                    continue
                if not (report.outcomes or report.skipped or report.misplaced):
                    raise ValueError("a report of nothing")
                for number, outcome in report.outcomes:
                    ended.append((self._release(number), outcome))
                    self.ended_count += 1
                for number in report.skipped:
                    del self._taken_back[number]
                misplaced += [self._release(number) for number in report.misplaced]
        except KeyError:  # a task, or what it left behind, may write there, and without an end
            self._kill_for_garbage(ValueError("it was not given what it reports"))
        except ValueError as error:
            self._kill_for_garbage(error)
        return ended, misplaced

    def take_back(self) -> list[Delivery]:
        """Take back what it has not begun, by taking the tokens for it; it gets nothing more until it has noticed."""
        numbers = self._numbers_not_begun()
        for number in numbers:
            self._taken_back[number] = self._held[number]
        return [self._release(number) for number in numbers]

    def look(self) -> list[tuple[Delivery, Begun]]:
        """Read on the board what it has begun, and return that, each once: those it had at the last look already.

        So most of what is tiny has ended before it costs anything.
        """
        seen, unbegun = [], []
        waiting = self._unseen
        for _ in range(len(waiting)):
            if waiting[0] > self._last_at_look:
                break
            number = waiting.popleft()
            if number not in self._held:
                continue
            begun = self._board.read(self.index, self._place_of[number])
            if begun.number != number:
                unbegun.append(number)
                continue
            if begun.deadline == CANCELLED:  # its own had passed before anybody looked; its grace begins now
                begun = begun._replace(deadline=time.monotonic())
            self._begun[number] = begun
            if number in self._unwanted:
                begun = begun._replace(deadline=max(self._unwanted[number], begun.started))
            heappush(self._deadlines, (begun.deadline, number))
            self._untold.append(number)
            seen.append((self._held[number], begun))
        waiting.extendleft(reversed(unbegun))
        self._last_at_look = waiting[-1] if waiting else 0
        if len(self._deadlines) > 2 * len(self._begun) + self._places:  # most of them have ended long before
            self._deadlines = [(begun.deadline, number) for number, begun in self._begun.items()]
            heapify(self._deadlines)
        return seen

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What it ran at the last look, each with when it began."""
        return [(self._held[number], begun) for number, begun in self._begun.items()]

    def running_long(self, seconds: float) -> list[tuple[Delivery, Begun]]:
        """Return what it has been running for so long, once of each."""
        found: list[tuple[Delivery, Begun]] = []
        latest = time.monotonic() - seconds
        while self._untold:
            begun = self._begun.get(self._untold[0])
            if begun and begun.started > latest:
                break
            number = self._untold.popleft()
            if begun:
                found.append((self._held[number], begun))
        return found

    def is_stalled(self) -> bool:
        """Whether it has not begun what it was given a while ago, so that another child may be sooner."""
        return bool(self._unseen) and not self._taken_back and time.monotonic() - self._sent > _STALLED_SECONDS

    def kill_if_overdue(self) -> bool:
        """Kill it when an attempt is past its time limit and its grace; returns whether that is so."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][1] not in self._begun:
            heappop(self._deadlines)
        if not self._deadlines or self.was_killed or self._deadlines[0][0] + GRACE_SECONDS > now:
            return False
        self._kill(CANCELLED_TASK if self._deadlines[0][1] in self._unwanted else TIME_LIMIT)
        return True

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> list[Delivery]:
        """Have it end what is cancelled of all that it has begun; returns that."""
        cancelled = [number for number, delivery in self._held.items() if is_cancelled(delivery)]
        if told := [number for number in cancelled if number not in self._unwanted]:
            assert self._pipe is not None
            self._pipe.send(pack_cancels(told))
            for number in told:
                self._unwanted[number] = now = time.monotonic()
                if number in self._begun:
                    heappush(self._deadlines, (now, number))
        return [self._held[number] for number in cancelled]

    def kill_if_stuck(self) -> bool:
        """Kill it when it runs nothing and begins nothing of what it is given; returns whether that is so."""
        if not self._begins_nothing((bool(self._unseen) or bool(self._taken_back)) and not self._begun):
            return False
        self._kill("it began nothing of what it was given")
        return True

    def bury(self) -> tuple[list[tuple[Delivery, Begun]], list[Delivery], bool]:
        """Tell, of what a dead child held, what had begun and what had not, and whether one is known to be the culprit.

        It is when it was cancelled at its time limit, ended not, and was killed for that: then it stands first. For the
        others the last to begin stands first.
        """
        not_begun = self.take_back()
        is_overdue = self._killed_because in (TIME_LIMIT, CANCELLED_TASK)
        overdue = self._deadlines[0][1] if is_overdue and self._deadlines else 0
        begun: list[tuple[Delivery, Begun]] = []
        is_known = False
        now = time.monotonic()
        for number, delivery in reversed(self._held.items()):
            last = self._board.read(self.index, self._place_of[number])
            known = last if last.number == number else Begun(number, now, math.inf, 0, "")
            if number == overdue and last.deadline == CANCELLED:
                is_known = True
                begun.insert(0, (delivery, known))
            else:
                begun.append((delivery, known))
        self._held.clear()
        self.disconnect()
        return begun, not_begun, is_known

    @property
    def killed_because(self) -> str:
        """Why it was killed from here, if it was."""
        return self._killed_because

    def _release(self, number: int) -> Delivery:
        delivery = self._held.pop(number)
        self._free_places.append(self._place_of.pop(number))
        self._begun.pop(number, None)
        self._unwanted.pop(number, None)
        if delivery.task:
            self.running_of[delivery.task] -= 1
        return delivery
