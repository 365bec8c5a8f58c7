"""The children that run batches: many orders of one task at once, gathered until they are as many as the task takes.

While orders wait for others of their task no child is kept for them. When a child dies amid a batch, nobody can say
which order it died of. So each is run again alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.running.child import Ended
from leveret.consumers.running.child_handle import ChildHandle
from leveret.consumers.running.crew import LONG_SECONDS, Office
from leveret.consumers.running.deaths import CANCELLED_TASK, TIME_LIMIT, end_of
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.running.lanes import CrewPlan
from leveret.consumers.running.serial_crew import SerialCrew
from leveret.consumers.settling.delivery import Delivery, cancel_of
from leveret.consumers.tasks.batch import Batch
from leveret.topology import registry


class BatchHandle(ChildHandle):
    """One child: all that it holds is one batch, which it begins and ends as one."""

    def has_begun_any(self, begun: Begun) -> bool:
        """Whether it runs what it holds, as its child says."""
        return begun.number in self._held

    def is_stalled(self, _begun: Begun) -> bool:
        """Never: nothing waits behind a batch that is part of it."""
        return False

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> list[Delivery]:
        """Have it end its batch if all of it is cancelled: one call of several cannot be ended without the others."""
        for delivery in self._held.values():
            is_cancelled(delivery)  # which notes by what; it is asked about those that were cancelled now
        return super().cancel(lambda one: cancel_of(one) is not None) if all(map(cancel_of, self.held)) else []

    def bury(self) -> tuple[list[tuple[Delivery, Begun]], list[Delivery], str]:
        """Tell what a dead child had begun, what it had not, and why it was killed from here, if it was."""
        not_begun = self.take_back()
        begun = self.begun()
        known = begun if begun.number in self._held else Begun(0, time.monotonic(), math.inf, 0, "")
        held = [(delivery, known) for delivery in self._held.values()]
        self._held.clear()
        self.disconnect()
        return held, not_begun, self._killed_because


class BatchCrew(SerialCrew[BatchHandle]):
    """Runs one batch after the other in each child."""

    def __init__(self, plan: CrewPlan, office: Office, forkserver: Forkserver, board: Board) -> None:
        super().__init__(plan, office, forkserver, board, BatchHandle)
        self._due: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Never, so that what arrives together is looked at once."""
        return False

    def feed(self) -> None:
        """Hand batches that are full, or have waited long enough, to free children."""
        due = math.inf
        while self._line and self._has_free() and not self._office.is_stopped:
            batch, due = self._take_batch()
            if not batch:
                break
            child = self.free.pop()
            child.send(batch)  # also where it has fewer orders left: a batch is not cut for that
            if self._office.recycling:
                self._recycle(child)
        self._feed_at(due)
        if not self._office.is_watching:
            self._office.watch()

    def hear(self, child: BatchHandle) -> None:
        """Take in what a child reports."""
        finished, is_free = child.receive()
        if finished:
            self._stillborn = 0
        for delivery, outcome in finished:
            self.paces.note(delivery.queue.name, outcome.duration_seconds / len(finished))
            self._end(child, delivery, outcome)
        if is_free:
            self._on_free(child)

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What children run at this moment, each with what its child says of its batch."""
        looks = [(child, child.begun()) for child in self.children]
        return [(delivery, begun) for child, begun in looks if child.has_begun_any(begun) for delivery in child.held]

    def disconnect(self) -> None:
        """Close what leads to its children."""
        self._feed_at(math.inf)
        super().disconnect()

    def _has_free(self) -> bool:
        """Whether a child is free that has not run all it may."""
        while self._office.recycling and self.free and self._left(self.free[-1]) == 0:
            self._recycle(self.free.pop())
        return bool(self.free)

    def _take_batch(self) -> tuple[list[Delivery], float]:
        """Take the first batch that is due off the line; if none is, tell when the next one will be."""
        now, soonest = time.monotonic(), math.inf
        of_tasks: dict[str, list[Delivery]] = {}
        for delivery in self._line:
            gathered = of_tasks.setdefault(delivery.task, [])
            gathered.append(delivery)
            batch = _batch_of(delivery.task)
            if len(gathered) >= batch.size:
                return self._taken(delivery.task), soonest
        for task, gathered in of_tasks.items():
            due = min(delivery.arrived for delivery in gathered) + _batch_of(task).within_seconds
            if due <= now:
                return self._taken(task), soonest
            soonest = min(soonest, due)
        return [], soonest

    def _taken(self, task: str) -> list[Delivery]:
        """Take a batch of a task, in the order of the line, which may be that of priorities."""
        size = _batch_of(task).size
        batch: list[Delivery] = []
        others: list[Delivery] = []
        while self._line and len(batch) < size:
            delivery = self._line.popleft()
            (batch if delivery.task == task else others).append(delivery)
        self._office.backlog.put_back(others)
        return batch

    def _feed_at(self, moment: float) -> None:
        """Look again at a moment of `time.monotonic`, and not before unless something happens."""
        if self._due:
            self._due.cancel()
            self._due = None
        if moment < math.inf:
            self._due = self._office.loop.call_later(max(0.0, moment - time.monotonic()), self.feed)

    def _tell_of(self, child: BatchHandle, begun: Begun) -> None:
        if child.has_begun(begun):
            for delivery in child.held:
                delivery.is_started = True
                self._office.watchers.on_started(delivery, begun)
        if long := child.runs_long(begun, LONG_SECONDS):
            self._office.watchers.on_running_long(long, begun, LONG_SECONDS)

    def _settle_death(self, child: BatchHandle, exit_status: int) -> bool:
        """Blame who was alone, and all where that is their own doing; of several others each is run again alone."""
        begun, not_begun, reason = child.bury()
        if child in self.free:
            self.free.remove(child)
        self._office.backlog.put_back(not_begun)
        are_to_blame = len(begun) == 1 or reason in (TIME_LIMIT, CANCELLED_TASK)
        ended: Ended = [
            (delivery, end_of(delivery, last, reason, exit_status))
            for delivery, last in begun
            if are_to_blame or cancel_of(delivery)
        ]
        if len(begun) == 1:
            self._office.backlog.remember(begun[0][0])
        for delivery, outcome in ended:
            self._end(child, delivery, outcome)
        others = [one for one in begun if not (are_to_blame or cancel_of(one[0]))]
        if others:
            self._office.on_died_among(others, False, f"exit status {exit_status}")
        return bool(begun)


def _batch_of(task: str) -> Batch:
    """Return how a task is run in batches; it is known, or its deliveries were in another lane."""
    batch: Batch = registry.get(task).batch
    return batch
