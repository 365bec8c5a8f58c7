"""The children that run orders side by side: each has so many places, and the one with the most free gets the next.

When one dies, nobody can say which of its orders it died of. So each is run again alone.
"""

from __future__ import annotations

from leveret.consumers.child.board import Begun, Board
from leveret.consumers.running.backlog import BATCH_BYTES
from leveret.consumers.running.crew import LONG_SECONDS, Crew, Office
from leveret.consumers.running.deaths import end_of
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.running.lanes import CrewPlan, Lane, Lanes
from leveret.consumers.running.shared_child import SharedChild
from leveret.consumers.settling.delivery import Delivery, cancel_of

_LARGEST_BATCH = 128


class SharedCrew(Crew[SharedChild]):
    """Runs orders side by side in each child."""

    def __init__(self, plan: CrewPlan, office: Office, forkserver: Forkserver, board: Board, lanes: Lanes) -> None:
        super().__init__(plan, office)
        self.children = [SharedChild(slot, forkserver, board, self.hear, plan.places) for slot in plan.slots]
        self._lanes = lanes

    @property
    def begun(self) -> list[tuple[Delivery, Begun]]:
        """What children run at this moment, each with what its child says of it."""
        for child in self.children:
            child.look()
            child.look()  # also at what came since the last time
        return [one for child in self.children for one in child.begun]

    @property
    def seen(self) -> list[tuple[Delivery, Begun]]:
        """What children ran at the last look."""
        return [one for child in self.children for one in child.begun]

    @property
    def is_idle(self) -> bool:
        """Whether none of its children has anything to do."""
        return not any(child.held for child in self.active)

    @property
    def room(self) -> int:
        """How many more orders could begin now."""
        room = sum(child.room for child in self.active) if self.is_started else self.plan.size * self.plan.places
        return max(0, room - len(self._line))

    def feed(self) -> None:
        """Hand out what is ready, evenly."""
        line = self._line
        while line:
            rooms = [(room, child) for child in self.active if (room := self._room_of(child)) > 0]
            if not rooms:
                break
            limit = self._limit_of(line[0])
            if limit is not None:
                self._send_limited(line.popleft(), limit, rooms)
                continue
            room, child = max(rooms, key=_room)
            child.send(self._take_batch(min(room, _LARGEST_BATCH, -(-len(line) // len(rooms)))))
        if not self._office.is_watching:
            self._office.watch()

    def hear(self, child: SharedChild) -> None:
        """Take in what a child reports."""
        finished, misplaced = child.receive()
        if child.logged:
            self._pass_on_lines(child)
        if finished:
            self._stillborn = 0
        backlog = self._office.backlog
        for delivery, outcome in finished:
            self.paces.note(delivery.queue.name, outcome.duration_seconds)
            if delivery.task:
                backlog.bring_back(delivery.task, 1)
            self._end(child, delivery, outcome)
        if misplaced:
            for delivery in misplaced:
                delivery.lane = Lane.ALONE
            backlog.put_back(misplaced)
            self._office.feed_alone()
        if self._office.recycling or self._retiring:
            self._recycle(child)
        self.feed()

    def check(self) -> None:
        """Kill what overran its time limit, and give what a busy child has not begun to another."""
        taken_back: list[Delivery] = []
        for child in self.children:
            if not child.held:
                continue
            watchers = self._office.watchers
            for delivery, begun in child.look():
                if not delivery.is_started:
                    delivery.is_started = True
                    watchers.on_started(delivery, begun)
            for delivery, begun in child.running_long(LONG_SECONDS):
                watchers.on_running_long(delivery, begun, LONG_SECONDS)
            if not self._hear_all(child):
                continue
            child.kill_if_overdue()
            if child.is_stalled():
                taken_back += child.take_back()
            if child.kill_if_stuck():
                self._tell_of_stuck()
        self._office.backlog.put_back(taken_back)
        if self._office.recycling:
            self._check_recycling()
        self.feed()

    def _take_over(self, child: SharedChild) -> None:
        super()._take_over(child)
        self._office.backlog.bring_all_back()
        self.feed()

    def _room_of(self, child: SharedChild) -> int:
        left = self._left(child) if self._office.recycling else None
        return child.room if left is None else min(child.room, left)

    def _limit_of(self, delivery: Delivery) -> int | None:
        return self._lanes.limit_of(delivery.task) if delivery.task else None

    def _send_limited(self, delivery: Delivery, limit: int, rooms: list[tuple[int, SharedChild]]) -> None:
        """Send one of a task that may not run as often as there is room."""
        rooms = [(room, child) for room, child in rooms if child.running_of[delivery.task] < limit]
        if rooms:
            max(rooms, key=_room)[1].send([delivery])
        else:
            self._office.backlog.set_aside(delivery)

    def _take_batch(self, most: int) -> list[Delivery]:
        line = self._line
        batch = [line.popleft()]
        size = len(batch[0].body)
        while len(batch) < most and self._limit_of(line[0]) is None and size + len(line[0].body) <= BATCH_BYTES:
            batch.append(line.popleft())
            size += len(batch[-1].body)
        return batch

    def _settle_death(self, child: SharedChild, exit_status: int) -> bool:
        """Blame who ran alone, or was known to overrun; of several that ran, each is run again alone."""
        begun, not_begun, is_known = child.bury()
        has_run = bool(begun)
        self._office.backlog.put_back(not_begun)
        self._office.backlog.bring_all_back()
        if is_known or len(begun) == 1:
            culprit, last = begun.pop(0)
            self._office.backlog.remember(culprit)
            self._end(child, culprit, end_of(culprit, last, child.killed_because, exit_status))
        for cancelled, last in [one for one in begun if cancel_of(one[0])]:
            self._end(child, cancelled, end_of(cancelled, last, "", exit_status))
        begun = [one for one in begun if not cancel_of(one[0])]
        if begun:
            how = f"exit status {exit_status}" + (f", {child.killed_because}" if child.killed_because else "")
            self._office.on_died_among(begun, is_known, how)
        return has_run


def _room(one: tuple[int, SharedChild]) -> int:
    return one[0]
