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
from collections.abc import Iterable, Sequence

from leveret.consumers.log import event
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.consumers.taking.consumer import Consumer
from leveret.consumers.taking.prefetch_levels import first_prefetch, longest_wait_seconds, next_prefetch
from leveret.topology import registry
from leveret.topology.queues import WorkQueue

_OUTCOMES_BETWEEN_TUNING = 16
_BODY_MEMORY = 0.2
_LATE_CHECKS = 8
_OUTCOMES_COME_SECONDS = 0.05  # processes that become free at about the same time are filled together
_ROOM_COMES_SECONDS = 1.0
_MOST_REMEMBERED = 10_000


class Prefetching:
    """Changes the prefetch of each queue as tasks turn out to be fast or slow. `consumer` is the one of the moment."""

    def __init__(
        self,
        pool: Pool,
        queues: Sequence[WorkQueue],
        processes: int,
        prefetch: int | None,
        consumer_timeout_seconds: float,
    ) -> None:
        self.consumer: Consumer | None = None
        self._pool = pool
        self._queues = queues
        self._processes = processes
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
        self._hand_back_late()

    @property
    def first_prefetch(self) -> int:
        """What to begin with."""
        return self._fixed or first_prefetch(self._processes)

    def stop(self) -> None:
        """Change nothing any more."""
        self.consumer = None
        for timer in filter(None, (self._late_check, self._fill_soon, self._room_soon)):
            timer.cancel()

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
        self._narrow.update(dict.fromkeys(self._queues, self._processes))
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

    def _note(self, sample: Delivery) -> None:
        self._handed_back.pop(sample.id, None)
        if self._narrow and not self._room_soon:
            self._fill_later()
        self._outcomes += 1
        if self._outcomes % _OUTCOMES_BETWEEN_TUNING or self._fixed is not None or self.consumer is None:
            return
        queue, size = sample.queue, float(len(sample.body))
        mean = self._body_bytes.get(queue.name, size)
        self._body_bytes[queue.name] = mean = mean + _BODY_MEMORY * (size - mean)
        current, pace = self.consumer.prefetch_of(queue), self._pool.pace_of(queue.name)
        wanted = next_prefetch(current, pace, mean, self._processes, self._longest_wait)
        if queue in self._narrow:
            self._narrow[queue] = wanted
            return
        # if tasks have become slow, other workers may have time for what waits
        too_many = self._pool.withdraw_beyond(queue.name, wanted) if wanted < current else []
        self.consumer.change_prefetch(queue, wanted, functools.partial(self.hand_back, too_many))

    def _hand_back_late(self) -> None:
        """Hand back what has waited so long that its acknowledgement might come too late, and take no more for now.

        That goes for all queues, for it is the tasks of any that keep the processes.
        """
        self._late_check = asyncio.get_running_loop().call_later(
            self._longest_wait / _LATE_CHECKS, self._hand_back_late
        )
        if self.consumer is None:
            return
        late = self._pool.withdraw_older(time.monotonic() - self._longest_wait)
        if late:
            self._narrow.update(dict.fromkeys(self._queues, self._processes))
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
        if self._narrow and not late and self._pool.has_idle_child:
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
        room = self._pool.room_for(queue.name)
        if room >= self._processes or self._narrow[queue] > self._processes:
            return self._narrow.pop(queue)
        return room


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
