"""Whether batches can be gathered with what a worker holds, and for as long as the broker waits."""

from __future__ import annotations

from collections.abc import Sequence

from leveret.consumers.taking.prefetch_levels import longest_wait_seconds
from leveret.topology import registry
from leveret.topology.errors import SettingsError
from leveret.topology.queues import WorkQueue


def check_batches(queues: Sequence[WorkQueue], prefetch: int | None, consumer_timeout_seconds: float) -> None:
    """Raise `SettingsError` for a batch that could never be full, or whose first call could wait for too long.

    `prefetch` is how many messages the worker is told to hold of each queue; None where it may decide that.
    """
    longest = registry.longest_time_limit(queue.name for queue in queues)
    limit = longest.time_limit if longest else 0.0
    longest_wait = longest_wait_seconds(consumer_timeout_seconds, limit)
    for queue in queues:
        for task in registry.of_queue(queue):
            if task.batch is None:
                continue
            if prefetch is not None and prefetch < task.batch.size:
                raise SettingsError(
                    f"--prefetch {prefetch} is fewer than the {task.batch.size} calls that task {task.name!r} takes at "
                    "once, so no batch of it would ever be full; leave the option out, or make the batch smaller"
                )
            if task.batch.within_seconds >= longest_wait:
                raise SettingsError(
                    f"task {task.name!r} gathers a batch within {task.batch.within_seconds:g} s, but a message may "
                    f"wait for {longest_wait:.4g} s at most: the broker takes it back after "
                    f"{consumer_timeout_seconds:g} s, of which a run may take {limit:g}; "
                    "gather for a shorter time, lower the time_limit, or raise the broker's consumer_timeout and "
                    "CONSUMER_TIMEOUT_SECONDS"
                )
