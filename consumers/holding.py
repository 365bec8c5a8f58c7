"""How many messages a worker holds: as many as suit its tasks, and none for longer than the broker waits.

RabbitMQ's consumer timeout runs from the delivery of a message, not from the moment its task begins. So what is held
but cannot begin soon enough to end in time is handed back, for another worker or a later moment.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Iterable, Sequence

from consumers import registry
from consumers.consumer import Consumer
from consumers.delivery import Delivery
from consumers.log import event
from consumers.pool import Pool
from consumers.prefetch import first_prefetch, longest_wait_seconds, next_prefetch
from topology.queues import WorkQueue

_OUTCOMES_BETWEEN_TUNING = 16
_BODY_MEMORY = 0.2
_LATE_CHECKS = 8


class Holding:
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
        self._processes = processes
        self._fixed = prefetch
        self._outcomes = 0
        self._body_bytes: dict[str, float] = {}  # queue → how large its messages are of late
        self._longest_wait = _plan_longest_wait(queues, consumer_timeout_seconds)
        self._late_check: asyncio.TimerHandle | None = None
        self._hand_back_late()

    @property
    def first_prefetch(self) -> int:
        """What to begin with."""
        return self._fixed or first_prefetch(self._processes)

    def stop(self) -> None:
        """Change nothing any more."""
        self.consumer = None
        if self._late_check:
            self._late_check.cancel()

    def note(self, sample: Delivery) -> None:
        """Learn from a delivery whose task ended."""
        self._outcomes += 1
        if self._outcomes % _OUTCOMES_BETWEEN_TUNING or self._fixed is not None or self.consumer is None:
            return
        queue, size = sample.queue, float(len(sample.body))
        mean = self._body_bytes.get(queue.name, size)
        self._body_bytes[queue.name] = mean = mean + _BODY_MEMORY * (size - mean)
        current, pace = self.consumer.prefetch_of(queue), self._pool.pace_of(queue.name)
        wanted = next_prefetch(current, pace, mean, self._processes, self._longest_wait)
        # if tasks have become slow, other workers may have time for what waits
        too_many = self._pool.withdraw_beyond(queue.name, wanted) if wanted < current else []
        self.consumer.change_prefetch(queue, wanted, functools.partial(hand_back, too_many))

    def _hand_back_late(self) -> None:
        """Hand back what has waited so long that its acknowledgement might come too late, and hold fewer.

        What runs came by the former consumer and does not count for the new one, so that one message for each process
        may still wait, and be handed back again, until what runs has ended.
        """
        self._late_check = asyncio.get_running_loop().call_later(
            self._longest_wait / _LATE_CHECKS, self._hand_back_late
        )
        if self.consumer is None:
            return
        late = self._pool.withdraw_older(time.monotonic() - self._longest_wait)
        for queue in {delivery.queue for delivery in late}:
            of_queue = [delivery for delivery in late if delivery.queue is queue]
            event(
                logging.WARNING,
                f"handing back {len(of_queue)} message(s): no process was free for them in {self._longest_wait:.3g} s",
                queue=queue.name,
                holding_from_now_on=self._processes,
            )
            self.consumer.change_prefetch(queue, self._processes, functools.partial(hand_back, of_queue))


def hand_back(deliveries: Iterable[Delivery]) -> None:
    """Put deliveries back into their queues."""
    for delivery in deliveries:
        delivery.settler.nack(delivery.tag, requeue=True)


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
