"""The children that run one order after the other: each gets a batch when it is free.

When a task of a batch takes longer than its like, what the child has not begun is taken back for another.
"""

from __future__ import annotations

from typing import TypeVar

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.child.outcome import Ending
from leveret.consumers.running.backlog import take_batch
from leveret.consumers.running.child_handle import ChildHandle
from leveret.consumers.running.crew import LONG_SECONDS, Crew, Office
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.running.lanes import CrewPlan
from leveret.consumers.settling.delivery import Delivery

_LARGEST_BATCH = 64

H = TypeVar("H", bound=ChildHandle)


class SerialCrew(Crew[H]):
    """Runs one order after the other in each child."""

    largest_batch = _LARGEST_BATCH

    def __init__(self, plan: CrewPlan, office: Office, forkserver: Forkserver, board: Board, kind: type[H]) -> None:
        super().__init__(plan, office)
        self.children = [kind(slot, forkserver, board, self.hear) for slot in plan.slots]
        self.free: list[H] = []

    @property
    def is_idle(self) -> bool:
        """Whether none of its children has anything to do."""
        return len(self.free) == len(self.active)

    @property
    def room(self) -> int:
        """How many of its children have nothing to do."""
        return len(self.free) if self.is_started else self.plan.size

    def feed(self) -> None:
        """Hand batches to free children."""
        line, free = self._line, self.free
        while line and free:
            child = free.pop()
            most = self.largest_batch
            if self._office.recycling and (left := self._left(child)) is not None:
                if not left:
                    self._recycle(child)  # it comes back when another cannot take its place yet
                    continue
                most = min(most, left)
            child.send(take_batch(line, self.paces, len(free) + 1, most))
            if self._office.recycling:
                self._recycle(child)
        if not self._office.is_watching:
            self._office.watch()

    def hear(self, child: H) -> None:
        """Take in what a child reports."""
        finished, is_free = child.receive()
        if child.logged:
            self._pass_on_lines(child)
        if finished:
            self._stillborn = 0
        for delivery, outcome in finished:
            self.paces.note(delivery.queue.name, outcome.duration_seconds)
            self._end(child, delivery, outcome)
        if is_free:
            self._on_free(child)

    def check(self) -> None:
        """Kill what overran its time limit, and give what waits behind a slow task to another child."""
        taken_back: list[Delivery] = []
        for child in self.children:
            if child.held:
                begun = child.begun()
                self._tell_of(child, begun)
                has_told_all = self._hear_all(child)
                child.kill_if_overdue(begun)
                if child.is_stalled(begun) and has_told_all:
                    for delivery, outcome in child.finished_before(begun):
                        self._end(child, delivery, outcome)
                    taken_back += child.take_back()
                if child.is_stuck(begun):
                    self._tell_of_stuck()
                    taken_back += child.kill_stuck()
        self._office.backlog.put_back(taken_back)
        if self._office.recycling:
            self._check_recycling()
        self.feed()

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What children run at this moment, each with what its child says of it."""
        looks = [(child, child.begun()) for child in self.children]
        return [(delivery, begun) for child, begun in looks if (delivery := child.runs(begun))]

    @property
    def seen(self) -> list[tuple[Delivery, Begun]]:
        """What children run, without a look that is remembered."""
        return self.begun

    def _tell_of(self, child: H, begun: Begun) -> None:
        watchers = self._office.watchers
        if delivery := child.has_begun(begun):
            watchers.on_started(delivery, begun)
        if delivery := child.runs_long(begun, LONG_SECONDS):
            watchers.on_running_long(delivery, begun, LONG_SECONDS)

    def _on_free(self, child: H) -> None:
        if child in self.active:
            self.free.append(child)
            if self._office.recycling:
                self._recycle(child)
            self.feed()
        else:
            self._recycle(child)

    def _take_over(self, child: H) -> None:
        super()._take_over(child)
        self.free.append(child)
        self.feed()

    def _retire(self, child: H) -> None:
        super()._retire(child)
        if child in self.free:
            self.free.remove(child)

    def _settle_death(self, child: H, exit_status: int) -> bool:
        """What the child was running has failed; the rest goes to another."""
        ended, not_begun = child.reap(exit_status)
        if child in self.free:
            self.free.remove(child)
        self._office.backlog.put_back(not_begun)
        for delivery, outcome in ended:
            self._end(child, delivery, outcome)
        return any(outcome.ending is not Ending.RETURNED for _, outcome in ended)


class LoneCrew(SerialCrew[ChildHandle]):
    """Runs orders alone: one at a time in a child of its own. Its children are there only while they are needed."""

    largest_batch = 1

    def start(self) -> None:
        """Have no child forked yet."""
        self.is_started = True

    @property
    def is_idle(self) -> bool:
        """Whether another child can be started at once."""
        return len(self.active) < self.plan.size

    def feed(self) -> None:
        """Hand one order to each child, and start as many as it takes."""
        while len(self._line) > len(self.free) and len(self.active) < self.plan.size and not self._office.is_stopped:
            child = self._spare()
            if child is None:
                break
            child.start()
            self.active.append(child)
            self.free.append(child)
        super().feed()
        if not self._line:
            while self.free:
                child = self.free.pop()
                self.active.remove(child)
                self._dismiss(child)

    def _restart(self, child: ChildHandle) -> None:
        self.feed()
