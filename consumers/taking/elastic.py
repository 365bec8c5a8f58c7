"""Letting the number of child processes follow what there is to do: it grows at once, and shrinks when it is calm.

Each lane has its own children, and so its own number, between the same bounds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from leveret.consumers.log import event
from leveret.consumers.running.lanes import CrewPlan, Lane, Lanes
from leveret.consumers.running.pool import Pool
from leveret.consumers.taking.consumer import Consumer
from leveret.topology.errors import LeveretError
from leveret.topology.queues import WorkQueue
from leveret.topology.sizing import WITHIN_SECONDS, processes_for

_LOOK_SECONDS = 0.5
CALM_SECONDS = 10.0
"""So long fewer have to be enough before any is let go."""
STEP_SECONDS = 2.0
_SHARE_LET_GO = 8


class Sizer:
    """Decides on the number for one lane."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._calm_since: float | None = None
        self._let_go = float("-inf")

    def next(self, now: float, wanted: int, size: int) -> int:
        """Return the number for a moment at which so many are wanted, and `size` are there.

        More are there at once; fewer a few at a time, once fewer would have been enough for a while.
        """
        wanted = min(max(wanted, self._least), self._most)
        if wanted >= size:
            self._calm_since = None
            return wanted
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since < CALM_SECONDS or now - self._let_go < STEP_SECONDS:
            return size
        self._let_go = now
        return max(wanted, size - max(1, size // _SHARE_LET_GO))


class Load(NamedTuple):
    """What there is to do in a lane."""

    tasks: int
    """That run and wait."""
    long: int
    """Of these, what has run for so long already that nothing can be said about its end."""
    seconds: float
    """How long the others take together, as their like did."""

    def processes(self, places: int) -> int:
        """Return how many processes that takes."""
        others = self.tasks - self.long
        side_by_side = self.long + min(float(others), self.seconds / WITHIN_SECONDS)
        return processes_for(self.tasks, side_by_side * WITHIN_SECONDS / max(self.tasks, 1), places)


class Elastic:
    """Looks again and again, and has children started and let go. `consumer` is the one of the moment."""

    def __init__(
        self,
        pool: Pool,
        queues: Sequence[WorkQueue],
        lanes: Lanes,
        least: int,
        is_paused: Callable[[str], bool],
    ) -> None:
        """`least` is the fewest children of each lane. What lies in a queue that is paused waits for none of them."""
        self.consumer: Consumer | None = None
        self._pool = pool
        self._is_paused = is_paused
        self._queues: dict[Lane, list[WorkQueue]] = {
            plan.lane: [queue for queue in queues if plan in lanes.of_queue(queue.name)]
            for plan in lanes.crews.values()
            if plan.lane is not Lane.ALONE
        }
        self._plans = {lane: lanes.crews[lane] for lane in self._queues}
        self._sizers: dict[Lane, Sizer] = {lane: Sizer(least, plan.size) for lane, plan in self._plans.items()}
        self._looking = asyncio.get_running_loop().create_task(self._look_again_and_again())
        self._looking.add_done_callback(_tell_of_failure)

    def stop(self) -> None:
        """Change nothing any more."""
        self._looking.cancel()

    async def _look_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for plan in self._plans.values():
                await self._look(plan)

    async def _look(self, plan: CrewPlan) -> None:
        lane = plan.lane
        waiting = [delivery.queue.name for delivery in self._pool.waiting if delivery.lane is lane]
        ready = await self._ready(lane) if waiting and self._pool.size_of(lane) < plan.size else {}
        load = self._load(lane, waiting, ready)
        size = self._pool.size_of(lane)
        wanted = self._sizers[lane].next(time.monotonic(), load.processes(plan.places), size)
        if wanted == size:
            return
        waits = len(waiting) + sum(ready.values())
        running = load.tasks - waits
        each = load.seconds / max(load.tasks - load.long, 1)
        reason = f"{waits} task(s) wait and {running} run, of about {each:.3g} s each"
        if wanted < size:
            reason = f"for {CALM_SECONDS:g} s fewer were enough, and now {reason}"
        event(logging.INFO, f"from {size} to {wanted} process(es) for {lane.name.lower()} tasks: {reason}")
        self._pool.resize(lane, wanted)

    async def _ready(self, lane: Lane) -> dict[str, int]:
        """Return what waits on the broker for this lane, as far as it says."""
        queues = [queue for queue in self._queues[lane] if not self._is_paused(queue.name)]
        try:
            if self.consumer is None:
                return {}
            counts = await self.consumer.ready_messages([name for queue in queues for name in queue.waits_in])
            return {queue.name: sum(counts[name] for name in queue.waits_in) for queue in queues}
        except LeveretError:  # the connection has ended, or a queue is gone: who consumes says so
            return {}

    def _load(self, lane: Lane, waiting: Iterable[str], ready: dict[str, int]) -> Load:
        held = [delivery for delivery in self._pool.running if delivery.lane is lane]
        latest = time.monotonic() - WITHIN_SECONDS
        long = [delivery for delivery, begun in self._pool.seen if delivery.lane is lane and begun.started < latest]
        names = [*(delivery.queue.name for delivery in set(held).difference(long)), *waiting]
        seconds = sum(self._pool.pace_of(name, lane) for name in names)
        seconds += sum(count * self._pool.pace_of(name, lane) for name, count in ready.items())
        return Load(len(names) + len(long) + sum(ready.values()), len(long), seconds)


def _tell_of_failure(looking: asyncio.Task[None]) -> None:
    if not looking.cancelled() and (error := looking.exception()):
        text = f"the number of processes follows the work no more: {type(error).__name__}: {error}"
        event(logging.ERROR, text)
