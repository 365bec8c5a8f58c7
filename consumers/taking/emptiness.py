"""Knowing when a worker's queues are empty: nothing unsettled, and nothing waiting in them or their retry tiers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from leveret.consumers.log import event
from leveret.consumers.taking.consumer import Consumer
from leveret.topology.names import retry_queue
from leveret.topology.queues import WorkQueue

_CHECK_SECONDS = 0.2
_CHECKS = 3
_DEAD_LETTER_TRANSIT_SECONDS = 1.0  # a nacked message is in no queue for a moment; far longer than ever seen


async def until_empty(consumer: Consumer, queues: Sequence[WorkQueue], last_nack: Callable[[], float]) -> None:
    """Wait until the queues have been empty for several looks; `last_nack` is a moment of `time.monotonic`.

    Raises `TopologyError` when a queue or a retry tier is not there, `BrokerUnreachable` when the connection ends.
    """
    names = [name for queue in queues for name in _names_of(queue)]
    said, empty_looks = "", 0
    while empty_looks < _CHECKS:
        await consumer.all_settled.wait()
        counts = await consumer.ready_messages(names)
        waiting = ", ".join(f"{count} in {name}" for name, count in counts.items() if count)
        if waiting and waiting != said:
            event(logging.INFO, f"not empty yet: {waiting}")
        said = waiting
        in_transit = time.monotonic() - last_nack() < _DEAD_LETTER_TRANSIT_SECONDS
        empty_looks = 0 if waiting or in_transit or not consumer.all_settled.is_set() else empty_looks + 1
        await asyncio.sleep(_CHECK_SECONDS)
    event(logging.INFO, "nothing is left to do", queues=",".join(queue.name for queue in queues))


def _names_of(queue: WorkQueue) -> list[str]:
    tiers = enumerate(queue.retry_delays, start=1)
    return [*queue.waits_in, *(retry_queue(queue.name, tier, delay) for tier, delay in tiers)]
