"""The pool of child processes: hands batches to free children, times them, replaces children that die.

When a task of a batch takes longer than its like, what the child has not begun is taken back for another.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.log import event
from leveret.consumers.running.backlog import Backlog
from leveret.consumers.running.child_handle import BEGIN_SECONDS, ChildHandle
from leveret.consumers.running.forkserver import Forkserver, ForkserverDied
from leveret.consumers.running.paces import Paces
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer, Gate
from leveret.topology.errors import LeveretError

LONG_SECONDS = 10.0
"""A task that runs for so long is told of while it runs."""
_CHECK_SECONDS = 0.01
_SUSPECTS_COME_SECONDS = 0.05  # what came back together comes again together, but not in one piece
_IDLE_DEATH_PAUSE_SECONDS = 1.0
_MOST_READS = 16  # in one turn of the loop, of one child; more than a socket holds
_MOST_STILLBORN = 10  # of each child, one after the other

OnEnd = Callable[[Delivery, Outcome], None]


class Watchers(NamedTuple):
    """Who is told of what runs; a child's own word, on the board, is what it goes by."""

    on_started: Callable[[Delivery, Begun], None]
    on_running_long: Callable[[Delivery, Begun, float], None]
    wants_every_start: bool = False
    """Whether also of those that ended before anybody looked."""


class ChildrenDie(LeveretError):
    """Child processes die as soon as they are forked, and nothing can be run."""


class Pool:
    """Runs deliveries that pass the gates in child processes; `on_end` is told how each ended."""

    def __init__(
        self,
        forkserver: Forkserver,
        board: Board,
        size: int,
        on_end: OnEnd,
        gates: Sequence[Gate],
        watchers: Watchers,
    ) -> None:
        self._forkserver = forkserver
        self._on_end = on_end
        self._watchers = watchers
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog(gates)
        self._children = [ChildHandle(index, forkserver, board, self._hear) for index in range(size)]
        self._free: list[ChildHandle] = []
        self._paces = Paces()
        self._feed_soon: asyncio.Handle | None = None
        self._draw_soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._stillborn = 0
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(forkserver.fileno(), self._hear_forkserver)
        for child in self._children:
            self._start(child)

    @property
    def running(self) -> list[Delivery]:
        """What children hold at this moment, begun or not."""
        return [delivery for child in self._children for delivery in child.held]

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What children run at this moment, each with what its child says of it."""
        looks = [(child, child.begun()) for child in self._children]
        return [(delivery, begun) for child, begun in looks if (delivery := child.runs(begun))]

    @property
    def has_idle_child(self) -> bool:
        """Whether a child has nothing to do."""
        return bool(self._free)

    def room_for(self, queue: str) -> int:
        """How many more deliveries could begin at once; one at least for a queue of which nothing is here."""
        here = [*self.running, *self._backlog]
        room = len(self._children) - len(here)
        return room if any(delivery.queue.name == queue for delivery in here) else max(room, 1)

    def pace_of(self, queue: str) -> float:
        """How many seconds the tasks of a queue take of late; a long time while nothing is known."""
        return self._paces.of(queue)

    def give(self, delivery: Delivery) -> None:
        """Run a delivery as soon as a child is free."""
        answer = self._backlog.add(delivery)
        if answer is Answer.LATER and self._draw_soon is None:
            self._draw_soon = self._loop.call_later(_SUSPECTS_COME_SECONDS, self._draw)
        if answer is not Answer.BEGIN:
            return
        if len(self._free) == len(self._children):
            self._feed()  # nothing to do so far: no reason to wait for more
        elif self._feed_soon is None and self._free:
            self._feed_soon = self._loop.call_soon(self._feed)  # after all that arrived with it

    def withdraw_beyond(self, queue: str, most: int) -> list[Delivery]:
        """Take back the deliveries of a queue that wait for a child, all but the first so many."""
        numbers = itertools.count()
        return self._backlog.withdraw(lambda delivery: delivery.queue.name == queue and next(numbers) >= most)

    def withdraw_older(self, moment: float) -> list[Delivery]:
        """Take back the deliveries that arrived before a moment of `time.monotonic` and wait for a child."""
        return self._backlog.withdraw(lambda delivery: delivery.arrived < moment)

    def withdraw_waiting(self) -> list[Delivery]:
        """Take back what no child has begun."""
        for child in self._children:
            self._backlog.put_back(child.take_back())
        return self._backlog.withdraw(lambda _delivery: True)

    def stop(self) -> None:
        """Kill what runs and end every child. No outcome is told any more."""
        self._stopped = True
        self._loop.remove_reader(self._forkserver.fileno())
        for timer in filter(None, (self._timer, self._draw_soon)):
            timer.cancel()
        for child in self._children:
            child.disconnect()
        self._forkserver.stop()

    def _start(self, child: ChildHandle) -> None:
        if not self._stopped:
            child.start()
            self._free.append(child)
            self._feed()

    def _draw(self) -> None:
        self._draw_soon = None
        self._backlog.draw()
        self._feed()

    def _feed(self) -> None:
        self._feed_soon = None
        while self._backlog.ready and self._free:
            child = self._free.pop()
            child.send(self._backlog.take_batch(self._paces, share_with=len(self._free) + 1))
        if self._timer is None and any(child.held for child in self._children):
            self._timer = self._loop.call_later(_CHECK_SECONDS, self._check)

    def _hear(self, child: ChildHandle) -> None:
        """Take in what a child reports."""
        finished, is_free = child.receive()
        if finished:
            self._stillborn = 0
        for delivery, outcome in finished:
            self._paces.note(delivery.queue.name, outcome.duration_seconds)
            self._end(child, delivery, outcome)
        if is_free:
            self._free.append(child)
            self._feed()

    def _hear_all(self, child: ChildHandle) -> bool:
        """Take in what a child has reported; returns whether that was all. A flood of reports must not hold us here."""
        for _ in range(_MOST_READS):
            if not child.has_unread():
                return True
            self._hear(child)
        return not child.has_unread()

    def _end(self, child: ChildHandle, delivery: Delivery, outcome: Outcome) -> None:
        if self._watchers.wants_every_start and not delivery.is_started:
            began = time.monotonic() - outcome.duration_seconds
            self._watchers.on_started(delivery, Begun(0, began, math.inf, child.begun().pid, outcome.task))
        self._backlog.ended(delivery)
        self._on_end(delivery, outcome)

    def _check(self) -> None:
        """Kill what overran its time limit, and give what waits behind a slow task to another child."""
        self._timer = None
        taken_back: list[Delivery] = []
        for child in self._children:
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
                    event(
                        logging.WARNING,
                        f"a child process has begun nothing of what it was given for {BEGIN_SECONDS:g} s; another "
                        "takes its place (a thread that a task left behind may hold the GIL, or on_child_start takes "
                        "too long)",
                    )
                    taken_back += child.kill_stuck()
        self._backlog.put_back(taken_back)
        self._feed()

    def _tell_of(self, child: ChildHandle, begun: Begun) -> None:
        if delivery := child.has_begun(begun):
            self._watchers.on_started(delivery, begun)
        if delivery := child.runs_long(begun, LONG_SECONDS):
            self._watchers.on_running_long(delivery, begun, LONG_SECONDS)

    def _hear_forkserver(self) -> None:
        try:
            events = self._forkserver.events()
        except ForkserverDied as error:
            self._loop.remove_reader(self._forkserver.fileno())
            self._fail(error)
            return
        for news in events:
            self._replace(self._children[news.slot], news.exit_status)

    def _replace(self, child: ChildHandle, exit_status: int) -> None:
        """What the child reported before it died counts; what it was running has failed; another takes its place."""
        self._hear_all(child)
        is_stillborn, was_killed = child.is_newborn, child.was_killed
        ended, not_begun = child.reap(exit_status)
        if child in self._free:
            self._free.remove(child)
        self._backlog.put_back(not_begun)
        for delivery, outcome in ended:
            self._end(child, delivery, outcome)
        died_running = any(outcome.ending is not Ending.RETURNED for _, outcome in ended)
        self._stillborn = 0 if died_running or was_killed else self._stillborn + is_stillborn
        if died_running or was_killed:
            self._start(child)
        elif self._stillborn > _MOST_STILLBORN * len(self._children) and all(one.is_newborn for one in self._children):
            self._fail(
                ChildrenDie(
                    f"child processes die as soon as they are forked, the last of {self._stillborn} with exit status "
                    f"{exit_status}; look above for what they wrote, and at what the --tasks modules do after a fork "
                    "(on_child_start, os.register_at_fork). What was unfinished goes back to its queue"
                )
            )
        else:  # it died of nothing it was told to run; do not spin if the next one does the same
            event(logging.WARNING, f"an idle child process died (exit status {exit_status}); starting another")
            self._loop.call_later(_IDLE_DEATH_PAUSE_SECONDS, self._start, child)

    def _fail(self, error: LeveretError) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # who waits for it hears of it; nobody may
