"""The children of one lane: started together, replaced when they die, and recycled when they have done enough.

A child that has reached its number of tasks, or its memory, takes no more and finishes what it has. Another, which was
started before that, takes its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from leveret.consumers.child.board import Begun
from leveret.consumers.child.outcome import Outcome
from leveret.consumers.child.protocol import Lines
from leveret.consumers.log import event
from leveret.consumers.running.backlog import Backlog
from leveret.consumers.running.child import BEGIN_SECONDS, Child
from leveret.consumers.running.lanes import CrewPlan
from leveret.consumers.running.paces import Paces
from leveret.consumers.settling.delivery import Delivery
from leveret.topology.errors import LeveretError

LONG_SECONDS = 10.0
"""A task that runs for so long is told of while it runs."""
_IDLE_DEATH_PAUSE_SECONDS = 1.0
_MOST_READS = 16  # in one turn of the loop, of one child; more than a socket holds
_MOST_STILLBORN = 10  # of each child, one after the other
_LEAVING_SECONDS = 5.0
_MEMORY_LOOK_SECONDS = 1.0
_MOST_AHEAD = 200  # orders before its last, from which on a child's successor is started
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

C = TypeVar("C", bound=Child)


@dataclass(frozen=True)
class Recycling:
    """When a child is replaced: after so many tasks, or when it holds so much memory; None is never."""

    tasks: int | None = None
    memory_bytes: int | None = None

    def __bool__(self) -> bool:
        return self.tasks is not None or self.memory_bytes is not None


class Watchers(NamedTuple):
    """Who is told of what runs; a child's own word, on the board, is what it goes by."""

    on_started: Callable[[Delivery, Begun], None]
    on_running_long: Callable[[Delivery, Begun, float], None]
    wants_every_start: bool = False
    """Whether also of those that ended before anybody looked."""
    on_look: Callable[[], None] = lambda: None
    """Called after each look at what runs: again and again while anything does."""
    on_lines: Callable[[Delivery, Lines], None] = lambda _delivery, _lines: None
    """Told of what tasks write that are followed, by their child's word."""


class Owing(NamedTuple):
    """A child that has deliveries, as who asks whether it moves sees it."""

    slot: int
    process: int
    held: int
    ended: int
    """How many orders it has ended since it was started."""
    deadline: float
    """When the last that it runs must have ended, by `time.monotonic`; 0 when it runs nothing."""


class ChildrenDie(LeveretError):
    """Child processes die as soon as they are forked, and nothing can be run."""


@dataclass
class Office:
    """What the crews of a worker share."""

    backlog: Backlog
    watchers: Watchers
    on_end: Callable[[Delivery, Outcome], None]
    on_died_among: Callable[[Sequence[tuple[Delivery, Begun]], bool, str], None]
    """Told of what ran in a child that died, whether who is to blame is known and not of these, and how it died."""
    feed_alone: Callable[[], None]
    on_fail: Callable[[LeveretError], None]
    kill: Callable[[int], None]
    watch: Callable[[], None]
    """To be called when something runs, and nobody looks at it again and again yet."""
    recycling: Recycling
    is_watching: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    is_stopped: bool = False


class Crew(Generic[C]):
    """Children that take work, those that take over from them, and those that have taken their last."""

    def __init__(self, plan: CrewPlan, office: Office) -> None:
        self.plan = plan
        self.size = plan.size
        """How many of its children are to take work at this moment."""
        self.paces = Paces()
        self.children: list[C] = []  # by slot
        self.active: list[C] = []
        self.is_started = False
        self._office = office
        self._line = office.backlog.lines[plan.lane]
        self._successors: dict[C, C] = {}
        self._retiring: set[C] = set()
        self._leaving: set[C] = set()
        self._spent: set[C] = set()
        self._stillborn = 0
        self._memory_looked = 0.0

    def start(self) -> None:
        """Have the children forked."""
        self.is_started = True
        for child in self.children[: self.size]:
            self._activate(child)

    def resize(self, size: int) -> None:
        """Have so many children take work from now on. Those that are let go end what they have."""
        self.size = size
        if not self.is_started:
            return
        self._fill()
        while len(self.active) > size:
            self._let_go(min(self.active, key=lambda child: (child in self._successors, len(child.held))))

    @property
    def held(self) -> Iterable[Delivery]:
        """What its children hold, begun or not."""
        for child in self.children:
            yield from child.held

    @property
    def seen(self) -> list[tuple[Delivery, Begun]]:
        """What its children ran at the last look, each with what the child says of it. Nothing follows from asking."""
        raise NotImplementedError

    @property
    def owing(self) -> list[Owing]:
        """What each of its children owes that has deliveries."""
        deadlines: dict[int, float] = {}
        for _, begun in self.seen:
            deadlines[begun.slot] = max(begun.deadline, deadlines.get(begun.slot, 0.0))
        return [
            Owing(child.index, child.process, len(child.held), child.ended_count, deadlines.get(child.index, 0.0))
            for child in self.children
            if child.held
        ]

    @property
    def is_idle(self) -> bool:
        """Whether none of its children has anything to do."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """How many more orders could begin now."""
        raise NotImplementedError

    @property
    def is_watched(self) -> bool:
        """Whether something is going on that has to be looked at again and again."""
        return bool(self._successors or self._spent) or any(child.held for child in self.children)

    def feed(self) -> None:
        """Hand out what is ready."""
        raise NotImplementedError

    def hear(self, child: C) -> None:
        """Take in what a child reports."""
        raise NotImplementedError

    def check(self) -> None:
        """See to limits, and to what waits for a child that does not come to it."""
        raise NotImplementedError

    def take_back(self) -> list[Delivery]:
        """Take back what was handed out and has not begun."""
        return [delivery for child in self.children for delivery in child.take_back()]

    def withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take back and return what shall not run any more and has not begun."""
        withdrawn: list[Delivery] = []
        for child in self.children:
            if any(map(unwanted, child.held)):
                taken = child.take_back()
                gone = {delivery for delivery in taken if unwanted(delivery)}
                withdrawn += gone
                self._office.backlog.put_back(delivery for delivery in taken if delivery not in gone)
        return withdrawn

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> list[Delivery]:
        """Have end what is cancelled and has begun; returns that."""
        return [delivery for child in self.children for delivery in child.cancel(is_cancelled)]

    def disconnect(self) -> None:
        """Close what leads to its children."""
        for child in self.children:
            child.disconnect()

    def on_exit(self, slot: int, exit_status: int) -> None:
        """Learn that the child of this slot has ended; another takes its place."""
        child = self.children[slot - self.plan.slots.start]
        if child in self._leaving:
            self._leaving.remove(child)
            for spent in list(self.active):
                self._recycle(spent)  # there is room for its successor now
            self._fill()
            return
        is_stillborn, was_killed = child.is_newborn, child.was_killed
        self._hear_all(child)
        has_run = self._settle_death(child, exit_status)
        self._spent.discard(child)
        if child in self._retiring:
            self._retiring.remove(child)
            return
        heir = self._successors.pop(child, None)
        if child not in self.active:  # it was to take over from another
            for other in [other for other, successor in self._successors.items() if successor is child]:
                del self._successors[other]
                self._office.loop.call_later(_IDLE_DEATH_PAUSE_SECONDS, self._recycle, other)
        else:
            self.active.remove(child)
        self._stillborn = 0 if has_run or was_killed else self._stillborn + is_stillborn
        if heir:
            self._take_over(heir)
        elif has_run or was_killed:
            self._restart(child)
        elif self._stillborn > _MOST_STILLBORN * self.plan.size and all(one.is_newborn for one in self.active):
            self._office.on_fail(
                ChildrenDie(
                    f"child processes die as soon as they are forked, the last of {self._stillborn} with exit status "
                    f"{exit_status}; look above for what they wrote, and at what the --tasks modules do after a fork "
                    "(on_child_start, os.register_at_fork). What was unfinished goes back to its queue"
                )
            )
        else:  # it died of nothing it was told to run; do not spin if the next one does the same
            event(logging.WARNING, f"an idle child process died (exit status {exit_status}); starting another")
            self._office.loop.call_later(_IDLE_DEATH_PAUSE_SECONDS, self._restart, child)

    def _settle_death(self, child: C, exit_status: int) -> bool:
        """See to what a dead child held; returns whether it was running anything."""
        raise NotImplementedError

    def _restart(self, child: C) -> None:
        if not self._office.is_stopped and len(self.active) < self.size and not child.is_started:
            self._activate(child)
            self.feed()

    def _fill(self) -> None:
        """Start children until there are as many as are wanted, or all that there is room for."""
        while not self._office.is_stopped and len(self.active) < self.size and (spare := self._spare()):
            self._activate(spare)

    def _let_go(self, child: C) -> None:
        """Give a child nothing more, and let it end when it has ended what it has."""
        self._spent.discard(child)
        if heir := self._successors.pop(child, None):
            self._dismiss(heir)
        self._retire(child)
        self._recycle(child)

    def _activate(self, child: C) -> None:
        """Have a child forked that takes work."""
        child.start()
        self._take_over(child)

    def _take_over(self, child: C) -> None:
        """Let a child that was started take work."""
        self.active.append(child)

    def _end(self, child: C, delivery: Delivery, outcome: Outcome) -> None:
        if self._office.watchers.wants_every_start and not delivery.is_started:
            began = time.monotonic() - outcome.duration_seconds
            self._office.watchers.on_started(delivery, Begun(0, began, float("inf"), child.process, outcome.task))
        self._office.on_end(delivery, outcome)

    def _pass_on_lines(self, child: C) -> None:
        logged, child.logged = child.logged, []
        for delivery, lines in logged:
            self._office.watchers.on_lines(delivery, lines)

    def _hear_all(self, child: C) -> bool:
        """Take in what a child has reported; returns whether that was all. A flood of reports must not hold us here."""
        for _ in range(_MOST_READS):
            if not child.has_unread():
                return True
            self.hear(child)
        return not child.has_unread()

    def _tell_of_stuck(self) -> None:
        event(
            logging.WARNING,
            f"a child process has begun nothing of what it was given for {BEGIN_SECONDS:g} s; another takes its place "
            "(a thread that a task left behind may hold the GIL, or on_child_start takes too long)",
        )

    def _left(self, child: C) -> int | None:
        """How many orders a child may still take in its life; None for any number."""
        most = self._office.recycling.tasks
        if child in self._spent:
            return 0
        return None if most is None else max(0, most - child.ended_count - len(child.held))

    def _recycle(self, child: C) -> None:
        """Replace a child that has done enough, as soon as another is there; let one go that has ended its last."""
        if child in self._retiring:
            if not child.held:
                self._retiring.remove(child)
                self._dismiss(child)
            return
        most = self._office.recycling.tasks
        is_near_end = most is not None and child.ended_count + len(child.held) >= most - min(most // 2, _MOST_AHEAD)
        if (is_near_end or child in self._spent) and child not in self._successors and child in self.active:
            spare = self._spare()
            if spare is None:
                return
            self._successors[child] = spare
            spare.start()
        heir = self._successors.get(child)
        if heir and heir.is_there and self._left(child) == 0 and child in self.active:
            del self._successors[child]
            self._spent.discard(child)
            self._retire(child)
            self._take_over(heir)
            self._recycle(child)
            self.feed()

    def _spare(self) -> C | None:
        """Return a child that may be started, if there is one."""
        return next((one for one in self.children if not one.is_started and one not in self._leaving), None)

    def _retire(self, child: C) -> None:
        """Give a child nothing more."""
        self.active.remove(child)
        self._retiring.add(child)

    def _check_recycling(self) -> None:
        now = time.monotonic()
        limit = self._office.recycling.memory_bytes
        if limit is not None and now - self._memory_looked >= _MEMORY_LOOK_SECONDS:
            self._memory_looked = now
            for child in self.active:
                if child.ended_count and child not in self._spent and _resident_bytes(child.process) >= limit:
                    self._spent.add(child)
        for child in list(self._successors):
            self._recycle(child)
        for child in [one for one in self.active if one in self._spent]:
            self._recycle(child)

    def _dismiss(self, child: C) -> None:
        """Let a child end that holds nothing, and see that it does."""
        self._leaving.add(child)
        child.disconnect()
        self._office.loop.call_later(_LEAVING_SECONDS, self._see_off, child)

    def _see_off(self, child: C) -> None:
        if child in self._leaving and not self._office.is_stopped:
            self._office.kill(child.index)


def _resident_bytes(process: int) -> int:
    """Return how much memory a process has in RAM; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
