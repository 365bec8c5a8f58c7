"""Lanes: which of a worker's child processes run which deliveries.

Plain tasks run one at a time in their process, so they have children of their own, and so have those that run side by
side in an event loop or in threads, and those that take many calls at once. A last lane is for deliveries that have to
run alone.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import registry
from leveret.topology.errors import MessageError
from leveret.topology.message import decode
from leveret.topology.queues import WorkQueue

MOST_ALONE = 16
"""How many deliveries are run alone at once, each in a child of its own."""

_GENERATIONS = 4
"""How many children may follow each other in one's place while the first still finishes what it has."""


class Lane(enum.Enum):
    """A kind of children."""

    PLAIN = enum.auto()
    """Run one order after the other."""
    ASYNC = enum.auto()
    """Run coroutines side by side."""
    THREADS = enum.auto()
    """Run plain functions side by side in threads."""
    BATCH = enum.auto()
    """Run many orders at once, by one call."""
    ALONE = enum.auto()
    """Are given one order, and another when that has ended: who dies there is to blame for it."""

    @property
    def is_shared(self) -> bool:
        """Whether its children run orders side by side."""
        return self is Lane.ASYNC or self is Lane.THREADS  # asked for each delivery

    @property
    def leaves_doubt(self) -> bool:
        """Whether it may not be known which of several orders a child of it died of."""
        return self.is_shared or self is Lane.BATCH


KINDS = {Lane.ASYNC: Kind.ASYNC, Lane.THREADS: Kind.THREADS}
"""What kind of tasks the children of a lane run side by side."""
_LANES = {kind: lane for lane, kind in KINDS.items()}


class CrewPlan(NamedTuple):
    """The children of a lane."""

    lane: Lane
    slots: range
    """Their places on the board: one for each, and some for those that take over from it."""
    size: int
    """How many work at a time."""
    places: int
    """How many orders each may run at once, side by side or as a batch."""


class Lanes:
    """The lanes of a worker, and which of them a delivery belongs to."""

    def __init__(
        self, queues: Sequence[WorkQueue], processes: int, concurrency: int, threads: int, has_spares: bool
    ) -> None:
        """`has_spares` says that each child has room on the board for others that take over from it."""
        self._places = {Lane.PLAIN: 1, Lane.ASYNC: concurrency, Lane.THREADS: threads, Lane.ALONE: 1}
        self._places[Lane.BATCH] = max((size for queue in queues for size in sizes_of_batches(queue)), default=1)
        self.only: dict[str, Lane] = {}
        """The lane of each queue whose deliveries all run in the same."""
        self.needed: set[Lane] = set()
        """Those whose children are there from the start. Beside plain tasks, others have to come for that."""
        self.with_levels = frozenset(queue.name for queue in queues if queue.priorities)
        """The queues that have priorities."""
        lanes: set[Lane] = set()
        for queue in queues:
            tasks = registry.of_queue(queue)
            of_tasks = {self._lane_of_task(task) for task in tasks} or {Lane.PLAIN}
            has_limits = any(self.limit_of(task.name) for task in tasks)
            if len(of_tasks) == 1 and not has_limits and Lane.BATCH not in of_tasks:
                self.only[queue.name] = next(iter(of_tasks))
            lanes |= of_tasks
            self.needed |= {Lane.PLAIN} if Lane.PLAIN in of_tasks else of_tasks
        if any(lane.leaves_doubt for lane in lanes):
            lanes.add(Lane.ALONE)
        self.crews: dict[Lane, CrewPlan] = {}
        first = 0
        for lane in Lane:
            if lane in lanes:
                size = MOST_ALONE if lane is Lane.ALONE else processes
                slots = range(first, first + size * (_GENERATIONS if has_spares and lane is not Lane.ALONE else 1))
                self.crews[lane] = CrewPlan(lane, slots, size, self._places[lane])
                first = slots.stop
        self.slots = first
        self.most_places = max(crew.places if crew.lane.is_shared else 1 for crew in self.crews.values())
        """How many orders a child may have begun that began apart from each other."""

    def crew_of(self, slot: int) -> CrewPlan:
        """Return the crew whose child has this slot."""
        return next(crew for crew in self.crews.values() if slot in crew.slots)

    def of(self, delivery: Delivery) -> Lane:
        """Return where a delivery runs whose queue has not only one lane: its message has to be read for that."""
        task: AnyTask | None = None
        properties, body = delivery.properties, delivery.body
        with contextlib.suppress(MessageError):  # a child says what is wrong with it
            delivery.task = decode(body, properties.content_type, properties.content_encoding, len(body)).task
            task = registry.get(delivery.task)
        lane = self._lane_of_task(task) if task else Lane.PLAIN
        return lane if lane in self.crews else Lane.ALONE

    def of_queue(self, queue: str) -> Iterable[CrewPlan]:
        """Return the crews that run deliveries of a queue."""
        if lane := self.only.get(queue):
            return (self.crews[lane],)
        return tuple(crew for crew in self.crews.values() if crew.lane is not Lane.ALONE)

    def limit_of(self, task: str) -> int | None:
        """Return how many of a task may run side by side in one child, if that is fewer than others may."""
        found = registry.get(task)
        if found is None or not found.concurrency or found.concurrency >= self._places[self._lane_of_task(found)]:
            return None
        limit: int = found.concurrency
        return limit

    def _lane_of_task(self, task: AnyTask) -> Lane:
        if task.batch is not None:
            return Lane.BATCH
        lane = _LANES.get(task.kind, Lane.PLAIN)
        return lane if self._places[lane] > 1 else Lane.PLAIN


def sizes_of_batches(queue: WorkQueue) -> list[int]:
    """Return how many calls each task of a queue takes at once that takes several."""
    return [task.batch.size for task in registry.of_queue(queue) if task.batch is not None]
