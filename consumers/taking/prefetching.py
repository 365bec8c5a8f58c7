"""How many messages a worker holds: as many as suit its tasks, and none for longer than the broker waits.

RabbitMQ's consumer timeout runs from the delivery of a message, not from the moment its task begins. So what is held
but cannot begin soon enough to end in time is handed back, for another worker or a later moment. It is not taken again
before a process is free, for RabbitMQ before 4.3 counts a message that is handed back like one whose worker died.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from leveret.consumers.log import event
from leveret.consumers.running.lanes import Lane, Lanes, sizes_of_batches
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.consumers.taking.consumer import Consumer
from leveret.consumers.taking.prefetch_levels import (
    MOST_PREFETCH,
    first_prefetch,
    gathered_prefetch,
    longest_wait_seconds,
    next_prefetch,
    next_shared_prefetch,
)
from leveret.topology import registry
from leveret.topology.queues import WorkQueue

_OUTCOMES_BETWEEN_TUNING = 16
_BODY_MEMORY = 0.2
_LATE_CHECKS = 8
_OUTCOMES_COME_SECONDS = 0.05  # processes that become free at about the same time are filled together
_ROOM_COMES_SECONDS = 1.0
_WIDEN_SECONDS = 0.2
_MOST_REMEMBERED = 10_000
_MOST_BESIDE, _MOST_BYTES_BESIDE = 1_000, 32 * 1024 * 1024
"""Of a queue: what has ended and waits for a confirm, and others are held beside it all the same."""


class Prefetching:
    """Changes the prefetch of each queue as tasks turn out to be fast or slow. `consumer` is the one of the moment."""

    def __init__(
        self,
        pool: Pool,
        queues: Sequence[WorkQueue],
        lanes: Lanes,
        prefetch: int | None,
        consumer_timeout_seconds: float,
        is_paused: Callable[[str], bool] = lambda _queue: False,
    ) -> None:
        self._is_paused = is_paused
        self.consumer: Consumer | None = None
        self._pool = pool
        self._queues = queues
        self._shares = {queue: _Share(queue, lanes) for queue in queues}
        self._fixed = prefetch
        self._outcomes = 0
        self._body_bytes: dict[str, float] = {}  # queue → how large its messages are of late
        self._longest_wait = _plan_longest_wait(queues, consumer_timeout_seconds)
        self._late_check: asyncio.TimerHandle | None = None
        # of these no more is taken than can begin at once, until so much may be held again
        self._narrow: dict[WorkQueue, int] = {}
        self._fill_soon: asyncio.TimerHandle | None = None
        self._room_soon: asyncio.TimerHandle | None = None
        self._handed_back: dict[str, int] = {}  # id → how often
        self._beside: dict[WorkQueue, _Beside] = {}
        pool.on_rerun = self._look_for_late
        self._widen_soon: asyncio.TimerHandle | None = None
        if prefetch is None and any(share.is_mixed for share in self._shares.values()):
            self._widen()
        self._hand_back_late()

    @property
    def first_prefetch(self) -> dict[str, int]:
        """What to begin with, for each queue."""
        return {queue.name: self._fixed or share.first for queue, share in self._shares.items()}

    def held_at_most(self, queue: WorkQueue) -> int:
        """Return how many messages of a queue are held at most at this moment."""
        return self.consumer.prefetch_of(queue) if self.consumer else 0

    def stop(self) -> None:
        """Change nothing any more."""
        self.consumer = None
        for timer in filter(None, (self._late_check, self._fill_soon, self._room_soon, self._widen_soon)):
            timer.cancel()

    def heed_pause(self, queue: WorkQueue) -> None:
        """Take nothing of a queue that is paused, and hand back what has not begun; take again when it is not."""
        consumer = self.consumer
        if consumer is None:
            return
        if not self._is_paused(queue.name):
            if not consumer.prefetch_of(queue):
                self._narrow.setdefault(queue, self.first_prefetch[queue.name])
                self._fill_later()
            return

        def hand_back_rest() -> None:
            self.hand_back(self._pool.withdraw(lambda delivery: delivery.queue is queue))

        if not consumer.take_only(queue, lambda: 0, hand_back_rest):
            asyncio.get_running_loop().call_later(_OUTCOMES_COME_SECONDS, self.heed_pause, queue)

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries back into their queues."""
        for delivery in deliveries:
            if delivery.settler.nack(delivery.tag, requeue=True):
                self._handed_back[delivery.id] = self._handed_back.pop(delivery.id, 0) + 1
        while len(self._handed_back) > _MOST_REMEMBERED:
            del self._handed_back[next(iter(self._handed_back))]

    def hand_back_for_room(self, delivery: Delivery) -> None:
        """Put back a delivery for whose body there was no room, and take no more than can begin from now on.

        Until what is held has become less, nothing is taken, for it would be the same message again.
        """
        self.hand_back([delivery])
        if self._room_soon or self.consumer is None:
            return
        if not self._narrow:
            event(logging.WARNING, "handing back messages: those that are held are too large to take more of them")
        self._narrow.update({queue: share.few for queue, share in self._shares.items()})
        self._take_nothing()

    def _take_nothing(self) -> None:
        """Stop taking, and look again in a moment."""
        changing = [
            queue
            for queue in self._queues
            if self.consumer and not self.consumer.take_only(queue, lambda: 0, lambda: None)
        ]
        loop = asyncio.get_running_loop()
        if changing:
            self._room_soon = loop.call_later(_OUTCOMES_COME_SECONDS, self._take_nothing)
        else:
            self._room_soon = loop.call_later(_ROOM_COMES_SECONDS, self._look_for_room)

    def _look_for_room(self) -> None:
        self._room_soon = None
        self._fill_later()

    def times_handed_back(self, delivery: Delivery) -> int:
        """Return how many returns of a message say nothing against it: this worker lives, and has not run it.

        What kills its worker ends this memory with it, so that none of its returns is ever excused.
        """
        return self._handed_back.get(delivery.id, 0)

    def observe(self, settled: Sequence[Settled]) -> None:
        """Learn from deliveries whose tasks ended."""
        for sample, _, _ in settled:
            self._note(sample)

    def make_room_beside(self, stuck: Sequence[Delivery]) -> None:
        """Hold others beside what has ended and waits for a confirm, once that is half of what may be held of a queue.

        A live consumer keeps its prefetch, so another takes its place, for twice as many; few of them are enough.
        """
        if self.consumer is None:
            self._beside.clear()
            return
        for queue in self._queues:
            of_queue = [delivery for delivery in stuck if delivery.queue is queue]
            before = self._beside.get(queue)
            is_as_ever = queue not in self._narrow and not self._is_paused(queue.name)
            if before and not of_queue:
                del self._beside[queue]
                if is_as_ever:
                    self._change(queue, before.prefetch)
            if not of_queue or not is_as_ever:
                continue
            current = self.consumer.prefetch_of(queue)
            newly = len(of_queue) - (before.stuck if before else 0)
            body_bytes = sum(len(one.body) for one in of_queue) / len(of_queue)
            would_hold = len(of_queue) + 2 * current
            too_many = len(of_queue) >= _MOST_BESIDE or would_hold * body_bytes > _MOST_BYTES_BESIDE
            if 2 * newly < current or too_many:
                continue
            if not before:
                what = f"{len(of_queue)} task(s) have ended, and that cannot be told yet; taking others beside them"
                event(logging.INFO, what, queue=queue.name)
            self._beside[queue] = _Beside(before.prefetch if before else current, len(of_queue))
            self.consumer.change_prefetch(queue, min(MOST_PREFETCH, 2 * current), lambda: None)

    def _note(self, sample: Delivery) -> None:
        self._handed_back.pop(sample.id, None)
        if self._narrow and not self._room_soon:
            self._fill_later()
        self._outcomes += 1
        if self._outcomes % _OUTCOMES_BETWEEN_TUNING or self._fixed is not None or self.consumer is None:
            return
        queue, size = sample.queue, float(len(sample.body))
        if self._is_paused(queue.name) or queue in self._beside:
            return
        mean = self._body_bytes.get(queue.name, size)
        self._body_bytes[queue.name] = mean = mean + _BODY_MEMORY * (size - mean)
        current = self.consumer.prefetch_of(queue)
        wanted = self._shares[queue].next(current, self._pool, mean, self._longest_wait)
        if queue in self._narrow:
            self._narrow[queue] = wanted
            return
        self._change(queue, wanted)

    def _change(self, queue: WorkQueue, wanted: int) -> None:
        """Hold so many of a queue."""
        assert self.consumer is not None
        current = self.consumer.prefetch_of(queue)
        # if tasks have become slow, other workers may have time for what waits
        too_many = self._pool.withdraw_beyond(queue.name, wanted) if wanted < current else []
        self.consumer.change_prefetch(queue, wanted, functools.partial(self.hand_back, too_many))

    def _widen(self) -> None:
        """Of a queue whose tasks are of several kinds, hold more as more of them run side by side."""
        self._widen_soon = asyncio.get_running_loop().call_later(_WIDEN_SECONDS, self._widen)
        for queue, share in self._shares.items():
            is_as_ever = queue not in self._narrow and queue not in self._beside
            if share.is_mixed and self.consumer and is_as_ever and not self._is_paused(queue.name):
                self._change(queue, share.widened(self._pool))

    def _hand_back_late(self) -> None:
        self._late_check = asyncio.get_running_loop().call_later(
            self._longest_wait / _LATE_CHECKS, self._hand_back_late
        )
        self._look_for_late()

    def _look_for_late(self) -> None:
        """Hand back what has waited so long that its acknowledgement might come too late, and take no more for now.

        That goes for all queues, for it is the tasks of any that keep the processes.
        """
        if self.consumer is None:
            return
        late = self._pool.withdraw_older(time.monotonic() - self._longest_wait)
        if late:
            self._narrow.update({queue: share.few for queue, share in self._shares.items()})
        for queue in self._queues if late else ():
            of_queue = [delivery for delivery in late if delivery.queue is queue]
            if of_queue:
                event(
                    logging.WARNING,
                    f"handing back {len(of_queue)} message(s): no process was free for them in "
                    f"{self._longest_wait:.3g} s; taking more when one is",
                    queue=queue.name,
                )
            if not self.consumer.take_only(queue, lambda: 0, functools.partial(self.hand_back, of_queue)):
                self.hand_back(of_queue)
                self._fill_later()
        if not late and any(self._pool.has_idle_child(queue.name) for queue in self._narrow):
            self._fill_later()

    def _fill_later(self) -> None:
        if self._fill_soon is None:
            self._fill_soon = asyncio.get_running_loop().call_later(_OUTCOMES_COME_SECONDS, self._fill)

    def _fill(self) -> None:
        """Take what can begin at once; as before when every process is free, or tasks have become fast."""
        self._fill_soon = None
        for queue in list(self._narrow) if self.consumer else ():
            assert self.consumer is not None
            if not self.consumer.take_only(queue, functools.partial(self._room_for, queue), lambda: None):
                self._fill_later()

    def _room_for(self, queue: WorkQueue) -> int:
        if self._is_paused(queue.name):
            self._narrow.pop(queue, None)
            return 0
        room = self._pool.room_for(queue.name)
        few = self._shares[queue].few
        if room >= few or self._narrow[queue] > few:
            return self._narrow.pop(queue)
        return room


class _Beside(NamedTuple):
    """A queue of which more is held than its prefetch, for what has ended waits for a confirm."""

    prefetch: int
    """What it was before."""
    stuck: int
    """How many waited when more was taken the last time."""


class _Share:
    """What a worker may hold of a queue: by the lanes that its tasks run in."""

    def __init__(self, queue: WorkQueue, lanes: Lanes) -> None:
        crews = tuple(lanes.of_queue(queue.name))
        self._queue = queue.name
        self._processes = max(crew.size for crew in crews)
        self._places = sum(crew.size * crew.places for crew in crews if crew.lane.is_shared)
        self._has_plain = any(crew.lane is Lane.PLAIN for crew in crews)
        sizes = sizes_of_batches(queue)
        self._gathered = self._processes * max(sizes, default=0) + sum(sizes)  # that run, and that wait for others
        self._plain = first_prefetch(self._processes) if self._has_plain else 0  # what is held for those
        self.is_mixed = bool(self._has_plain and self._places)
        self.few = max(1, self._places // 2) if self._places and not self._has_plain else self._processes
        """With room for so many, as many may be held again as before."""

    @property
    def first(self) -> int:
        """What to begin with, while nothing is known about the tasks."""
        return min(MOST_PREFETCH, (self._plain or self._places) + self._gathered)

    def next(self, current: int, pool: Pool, body_bytes: float, longest_wait: float) -> int:
        """Return what fits tasks as they are of late."""
        if self._gathered:
            others = self._next_of_others(current - self._gathered, pool, body_bytes, longest_wait)
            return gathered_prefetch(others, self._gathered, body_bytes, self._processes)
        return self._next_of_others(current, pool, body_bytes, longest_wait)

    def _next_of_others(self, current: int, pool: Pool, body_bytes: float, longest_wait: float) -> int:
        if not (self._has_plain or self._places):
            return 0
        if not self._has_plain:
            pace = pool.pace_of(self._queue)
            return next_shared_prefetch(current, pace, body_bytes, self._processes, self._places)
        before = self._plain if self.is_mixed else current
        pace = pool.pace_of(self._queue, Lane.PLAIN)
        self._plain = next_prefetch(before, pace, body_bytes, self._processes, longest_wait)
        if not self.is_mixed:
            return self._plain
        return self._widened(pool)

    def widened(self, pool: Pool) -> int:
        """Return what fits what runs at the moment, where tasks are of several kinds."""
        return min(MOST_PREFETCH, self._widened(pool) + self._gathered)

    def _widened(self, pool: Pool) -> int:
        beside = pool.side_by_side(self._queue)
        ahead = max(first_prefetch(self._processes), beside // 2) if beside else 0
        return min(MOST_PREFETCH, self._plain + min(beside + ahead, self._places))


def _plan_longest_wait(queues: Sequence[WorkQueue], timeout: float) -> float:
    """Decide how long a message may wait for a free process; warn of a task the broker will not wait for."""
    task = registry.longest_time_limit(queue.name for queue in queues)
    if task and task.time_limit >= timeout:
        event(
            logging.WARNING,
            f"a run of task {task.name} may take {task.time_limit:g} s, but the broker takes a message back after "
            f"{timeout:g} s; lower its time_limit, or raise the broker's consumer_timeout and CONSUMER_TIMEOUT_SECONDS",
        )
    return longest_wait_seconds(timeout, task.time_limit if task else 0.0)
