"""The pool of child processes: hands deliveries to the crew of their lane, and tells how each ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from leveret.consumers.child.board import CANCELLED, Begun, Board
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.log import event
from leveret.consumers.running.backlog import Backlog
from leveret.consumers.running.child_handle import ChildHandle
from leveret.consumers.running.crew import Crew, Office, Owing, Recycling, Watchers
from leveret.consumers.running.forkserver import Forkserver, ForkserverDied
from leveret.consumers.running.lanes import CrewPlan, Lane, Lanes
from leveret.consumers.running.serial_crew import LoneCrew, SerialCrew
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer, Gate
from leveret.topology.errors import LeveretError

if TYPE_CHECKING:
    from leveret.consumers.running.shared_crew import SharedCrew

_CHECK_SECONDS = 0.01
_CALM_CHECK_SECONDS = 0.05  # where nothing waits behind a task
_SUSPECTS_COME_SECONDS = 0.05  # what came back together comes again together, but not in one piece

_DEADLY = (Ending.PROCESS_DIED, Ending.OVERRAN_TIME_LIMIT)

OnEnd = Callable[[Delivery, Outcome], None]


class Pool:
    """Runs deliveries that pass the gates in child processes; `on_end` is told how each ended."""

    def __init__(
        self,
        forkserver: Forkserver,
        board: Board,
        lanes: Lanes,
        on_end: OnEnd,
        gates: Sequence[Gate],
        watchers: Watchers,
        recycling: Recycling,
        least: int | None = None,
    ) -> None:
        """`least` is how many children of each lane to begin with, where that is not as many as there may be."""
        self._forkserver = forkserver
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._lanes = lanes
        self._backlog = Backlog(lanes.only, lanes.of, gates, lanes.with_levels)
        self._office = Office(
            self._backlog,
            watchers,
            self._end,
            self._on_died_among,
            lambda: self._feed(Lane.ALONE),
            self._fail,
            forkserver.kill,
            self._watch,
            recycling,
        )
        self._crews: dict[Lane, SerialCrew[Any] | SharedCrew] = {
            lane: self._crew(plan, board) for lane, plan in lanes.crews.items()
        }
        self._feeding: dict[Lane, asyncio.Handle] = {}
        self._draw_soon: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.on_rerun: Callable[[], None] = lambda: None
        """Called when deliveries that had begun are to run again, which may be too late for some."""
        self.on_withdrawn: Callable[[Iterable[Delivery]], None] = lambda _deliveries: None
        """Told of the deliveries that do not run here after all."""
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(forkserver.fileno(), self._hear_forkserver)
        for lane, crew in self._crews.items():
            if least and lane is not Lane.ALONE:
                crew.resize(least)
            if lane in lanes.needed:
                crew.start()

    def _crew(self, plan: CrewPlan, board: Board) -> SerialCrew[Any] | SharedCrew:
        if plan.lane.is_shared:
            from leveret.consumers.running.shared_crew import SharedCrew  # most workers have plain tasks only

            return SharedCrew(plan, self._office, self._forkserver, board, self._lanes)
        if plan.lane is Lane.BATCH:
            from leveret.consumers.running.batch_crew import BatchCrew

            return BatchCrew(plan, self._office, self._forkserver, board)
        crew = LoneCrew if plan.lane is Lane.ALONE else SerialCrew
        return crew(plan, self._office, self._forkserver, board, ChildHandle)

    @property
    def running(self) -> list[Delivery]:
        """What children hold at this moment, begun or not."""
        return [delivery for crew in self._crews.values() for delivery in crew.held]

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What children run at this moment, each with what its child says of it."""
        return [one for crew in self._crews.values() for one in crew.begun]

    @property
    def seen(self) -> list[tuple[Delivery, Begun]]:
        """What children ran at the last look, each with what its child says of it. Nothing follows from asking."""
        return [one for crew in self._crews.values() for one in crew.seen]

    @property
    def waiting(self) -> list[Delivery]:
        """What waits here and was given to no child."""
        return list(self._backlog)

    @property
    def children(self) -> list[tuple[int, str, int]]:
        """The process of each child that is there, its kind, and how many deliveries it has."""
        return [
            (child.process, lane.name.lower(), len(child.held))
            for lane, crew in self._crews.items()
            for child in crew.children
            if child.is_started and child.is_there
        ]

    @property
    def owing(self) -> list[Owing]:
        """What each child owes that has deliveries."""
        return [one for crew in self._crews.values() for one in crew.owing]

    @property
    def forkserver_process(self) -> int:
        """The process that forks the children."""
        return self._forkserver.pid

    def resize(self, lane: Lane, size: int) -> None:
        """Have so many children of a lane take work from now on."""
        self._crews[lane].resize(size)

    def size_of(self, lane: Lane) -> int:
        """How many children of a lane are to take work at this moment."""
        return self._crews[lane].size

    def has_idle_child(self, queue: str) -> bool:
        """Whether there is room for what comes from a queue."""
        return any(self._crews[plan.lane].room for plan in self._scarcest(queue))

    def room_for(self, queue: str) -> int:
        """How many more deliveries could begin at once; one at least for a queue of which nothing is here."""
        plans = self._scarcest(queue)
        lanes = [plan.lane for plan in plans]
        here = [delivery for delivery in (*self.running, *self._backlog) if delivery.lane in lanes]
        room = sum(plan.size * plan.places for plan in plans) - len(here)
        return room if any(delivery.queue.name == queue for delivery in here) else max(room, 1)

    def pace_of(self, queue: str, lane: Lane | None = None) -> float:
        """How many seconds the tasks of a queue take of late, in this lane or the fastest; long while it is unknown."""
        lanes = [lane] if lane else [plan.lane for plan in self._lanes.of_queue(queue)]
        return min(self._crews[one].paces.of(queue) for one in lanes)

    def runs_at_once(self, queue: str) -> int:
        """How many tasks of a queue its children run side by side, all together."""
        return sum(self._crews[plan.lane].size * plan.places for plan in self._scarcest(queue))

    def places_of(self, queue: str) -> int:
        """How many tasks of a queue a child runs side by side."""
        return min(plan.places for plan in self._scarcest(queue))

    def side_by_side(self, queue: str) -> int:
        """How many deliveries of a queue run beside others, or are about to."""
        return sum(
            delivery.queue.name == queue and delivery.lane is not None and delivery.lane.is_shared
            for delivery in (*self.running, *self._backlog)
        )

    def give(self, delivery: Delivery) -> None:
        """Run a delivery as soon as a child is free."""
        self._go_on(delivery, self._backlog.add(delivery))

    def begin(self, delivery: Delivery) -> None:
        """Run a delivery that a gate has kept for later, as soon as a child is free."""
        self._go_on(delivery, self._backlog.let_go(delivery))

    def _go_on(self, delivery: Delivery, answer: Answer) -> None:
        if answer is Answer.LATER and self._draw_soon is None and self._backlog.has_suspects:
            self._draw_soon = self._loop.call_later(_SUSPECTS_COME_SECONDS, self._draw)
        if answer is not Answer.BEGIN:
            return
        lane = delivery.lane
        crew = self._crews[lane]
        if crew.is_idle:
            self._feed(lane)  # nothing to do so far: no reason to wait for more
        elif lane not in self._feeding and crew.room:
            self._feed_soon(lane)  # after all that arrived with it

    def _scarcest(self, queue: str) -> list[CrewPlan]:
        """Return the crews by which it is known whether there is room: one that runs plain tasks has the least."""
        plans = list(self._lanes.of_queue(queue))
        return [plan for plan in plans if plan.lane is Lane.PLAIN] or plans

    def withdraw_beyond(self, queue: str, most: int) -> list[Delivery]:
        """Take back the deliveries of a queue that wait for a child, all but the first so many of each level."""
        numbers: dict[int, Iterator[int]] = defaultdict(itertools.count)
        return self._withdraw(
            lambda delivery: delivery.queue.name == queue and next(numbers[delivery.settler.level]) >= most
        )

    def withdraw_older(self, moment: float) -> list[Delivery]:
        """Take back the deliveries that arrived before a moment of `time.monotonic` and wait for a child."""
        return self._withdraw(lambda delivery: delivery.arrived < moment)

    def _withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        withdrawn = self._backlog.withdraw(unwanted)
        self.on_withdrawn(withdrawn)
        return withdrawn

    def cancel(self, is_cancelled: Callable[[Delivery], bool]) -> tuple[list[Delivery], list[Delivery]]:
        """Take back what is cancelled and has not begun, and have end what has; returns both."""
        waiting = self.withdraw(is_cancelled)
        return waiting, [delivery for crew in self._crews.values() for delivery in crew.cancel(is_cancelled)]

    def withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take back what shall not run any more and has not begun, also from children that hold it."""
        taken = [delivery for crew in self._crews.values() for delivery in crew.withdraw(unwanted)]
        for delivery in taken:
            self._backlog.ended(delivery)
            if delivery.task:
                self._backlog.bring_back(delivery.task, 1)
        withdrawn = [*self._backlog.withdraw(unwanted), *taken]
        if withdrawn:
            self.on_withdrawn(withdrawn)
            self._feed_all()
        return withdrawn

    def withdraw_waiting(self) -> list[Delivery]:
        """Take back what no child has begun."""
        for crew in self._crews.values():
            self._backlog.put_back(crew.take_back())
        return self._withdraw(lambda _delivery: True)

    def stop(self) -> None:
        """Kill what runs and end every child. No outcome is told any more."""
        self._office.is_stopped = True
        self._loop.remove_reader(self._forkserver.fileno())
        for timer in (*filter(None, (self._timer, self._draw_soon)), *self._feeding.values()):
            timer.cancel()
        for crew in self._crews.values():
            for child in crew.children:
                if child.held:
                    self._forkserver.kill(child.index)
            crew.disconnect()
        self._forkserver.stop()

    def _draw(self) -> None:
        self._draw_soon = None
        self._backlog.draw()
        self._feed_all()

    def _feed_soon(self, lane: Lane) -> None:
        if lane not in self._feeding:
            self._feeding[lane] = self._loop.call_soon(self._feed, lane)

    def _feed_all(self) -> None:
        for lane in self._crews:
            if self._backlog.lines[lane]:
                self._feed(lane)

    def _feed(self, lane: Lane) -> None:
        self._feeding.pop(lane, None)
        crew = self._crews[lane]
        if not crew.is_started:
            crew.start()
        crew.feed()

    def _watch(self) -> None:
        """Look again at what runs, if anything does."""
        watched = [crew for crew in self._crews.values() if crew.is_watched]
        self._office.is_watching = bool(watched)
        if watched:
            is_calm = all(crew.plan.lane.is_shared for crew in watched)
            self._timer = self._loop.call_later(_CALM_CHECK_SECONDS if is_calm else _CHECK_SECONDS, self._check)

    def _check(self) -> None:
        for crew in self._crews.values():
            if crew.is_watched:
                crew.check()
        self._office.watchers.on_look()
        self._watch()

    def _end(self, delivery: Delivery, outcome: Outcome) -> None:
        if drawn := self._backlog.ended(delivery):
            self._feed_soon(drawn.lane)
        if delivery.lane is Lane.ALONE and outcome.ending not in _DEADLY:
            self._backlog.clear_of_suspicion(delivery)
        self._on_end(delivery, outcome)

    def _on_died_among(self, begun: Sequence[tuple[Delivery, Begun]], is_known: bool, how: str) -> None:
        """Run again what ran beside the one that a child died of: alone, unless it is known who that was.

        What was told to end as that one was, and has not either, may kill the next child in the same way: alone, too.
        """
        if is_known:
            told = f"a child process died ({how}) of one task, with {len(begun)} others begun; they run again"
        else:
            told = (
                f"a child process died ({how}) with {len(begun)} tasks begun; each runs again alone, to find the one "
                "it died of"
            )
        event(logging.WARNING, told)
        for one, _ in begun:
            one.is_started = False
        suspects = [one for one, last in begun if not is_known or last.deadline == CANCELLED]
        self._backlog.isolate(suspects)
        self._backlog.put_back(one for one, last in begun if is_known and last.deadline != CANCELLED)
        self.on_rerun()
        self._feed_all()

    def _hear_forkserver(self) -> None:
        try:
            events = self._forkserver.events()
        except ForkserverDied as error:
            self._loop.remove_reader(self._forkserver.fileno())
            self._fail(error)
            return
        for news in events:
            crew: Crew[Any] = self._crews[self._lanes.crew_of(news.slot).lane]
            crew.on_exit(news.slot, news.exit_status)

    def _fail(self, error: LeveretError) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
            self.failed.exception()  # who waits for it hears of it; nobody may
