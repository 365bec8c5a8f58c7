"""What a worker tells of itself: all that `leveret info` shows, as topology/workers.py reads it."""

from __future__ import annotations

import functools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from leveret.consumers.answering.ends import Ends
from leveret.consumers.answering.memory import held_bytes
from leveret.consumers.child.board import Begun, Progress
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.taking.prefetching import Prefetching
from leveret.topology import registry
from leveret.topology.control import Command
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.queues import WorkQueue
from leveret.topology.sizing import processes_for

_MEMORY_SECONDS = 5.0


class Told:
    """Looks at the rooms of a worker when it is asked. `paused` are the queues of which nothing is taken."""

    def __init__(
        self,
        queues: Sequence[WorkQueue],
        processes: tuple[int, int],
        pool: Pool,
        prefetching: Prefetching,
        ends: Ends,
        paused: Callable[[], Mapping[str, Command]],
        progress_of: Callable[[Begun], Progress | None],
        limits: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        """`processes` are the fewest and the most there may be of each kind."""
        self._queues = queues
        self._processes = processes
        self._pool = pool
        self._prefetching = prefetching
        self._ends = ends
        self._paused = paused
        self._progress_of = progress_of
        self._limits = limits
        self._since = time.time()
        self._memory: int | None = None
        self._memory_read = float("-inf")
        self.is_stopping = False

    def tell(self, most: int) -> dict[str, Any]:
        """Return what there is to tell, with at most so many queues, processes and running tasks."""
        running = self._pool.seen
        children = self._pool.children
        shown = sorted(running, key=lambda one: one[1].started)[:most]
        least, largest = self._processes
        queues = self.tell_queues(running)
        desired = sum(
            processes_for(queue["waiting"] + queue["running"], queue["seconds_each"], queue["places"])
            for queue in queues
        )
        return {
            "version": 1,
            "worker": host_and_pid(),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "since": self._since,
            "leveret": version(),
            "is_stopping": self.is_stopping,
            "processes": {
                "least": least,
                "most": largest,
                "now": len(children),
                "desired": min(max(least, desired), largest),
            },
            "memory_bytes": self._held_bytes([child for child, _, _ in children]),
            "window_seconds": self._ends.seconds,
            "queues": queues[: most or 20],
            "queue_count": len(self._queues),
            "limits": self._limits()[:most],
            "children": [{"pid": pid, "kind": kind, "running": count} for pid, kind, count in children[:most]],
            "running": [self._tell_running(delivery, begun) for delivery, begun in shown],
            "running_count": len(running),
        }

    def tell_queues(self, running: Sequence[tuple[Delivery, Begun]]) -> list[dict[str, Any]]:
        """Return what there is to tell of each queue, of which these run."""
        waiting = self._pool.waiting
        waiting_of = Counter(delivery.queue.name for delivery in waiting)
        running_of = Counter(delivery.queue.name for delivery, _ in running)
        ended = self._ends.counts()
        oldest = _oldest(waiting, running)
        paused = self._paused()
        told = []
        for queue in self._queues:
            name, pause = queue.name, paused.get(queue.name)
            told.append(
                {
                    "name": name,
                    "retry_delays": list(queue.retry_delays),
                    "prefetch": self._prefetching.held_at_most(queue),
                    "waiting": waiting_of[name],
                    "running": running_of[name],
                    "finished": ended.finished.get(name, 0),
                    "failed": ended.failed.get(name, 0),
                    "retried": ended.retried.get(name, 0),
                    "oldest_seconds": oldest.get(name),
                    "seconds_each": self._pool.pace_of(name),
                    "places": self._pool.places_of(name),
                    "paused": pause and pause._asdict(),
                    "priorities": queue.priorities,
                }
            )
        return told

    def _tell_running(self, delivery: Delivery, begun: Begun) -> dict[str, Any]:
        task = registry.get(begun.task)
        progress = self._progress_of(begun)
        if progress and not all(map(math.isfinite, (progress.done, progress.total or 0.0))):
            progress = None
        return {
            "id": delivery.id,
            "task": begun.task,
            "queue": delivery.queue.name,
            "attempt": delivery.attempt,
            "of": delivery.queue.attempts,
            "seconds": max(0.0, time.monotonic() - begun.started),
            "limit": task.time_limit if task else None,
            "pid": max(0, begun.pid),
            "progress": progress and progress._asdict(),
        }

    def _held_bytes(self, children: Iterable[int]) -> int | None:
        now = time.monotonic()
        if now - self._memory_read > _MEMORY_SECONDS:
            self._memory_read = now
            self._memory = held_bytes([os.getpid(), self._pool.forkserver_process, *children])
        return self._memory


def _oldest(waiting: Iterable[Delivery], running: Iterable[tuple[Delivery, Begun]]) -> dict[str, float]:
    """Return how many seconds the oldest first attempt of each queue has waited that waits here, or did until it came.

    What lies in the queue itself came after these. Its publisher's clock is believed, as far as that is possible.
    """
    now, wall = time.monotonic(), time.time()
    oldest: dict[str, float] = {}
    ends = [*((delivery, now) for delivery in waiting), *((delivery, delivery.arrived) for delivery, _ in running)]
    for delivery, end in ends:
        published = delivery.properties.timestamp
        if delivery.attempt == 1 and isinstance(published, int) and 0 < published <= wall:
            age = max(0.0, wall - published - (now - end))
            oldest[delivery.queue.name] = max(age, oldest.get(delivery.queue.name, 0.0))
    return oldest


@functools.cache
def version() -> str:
    """Return the version of leveret that is installed."""
    from importlib import metadata  # most workers are never asked

    return metadata.version("leveret")
