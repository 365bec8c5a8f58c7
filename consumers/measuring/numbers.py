"""The numbers of a worker: what is told to Prometheus, under which names. docs/metrics.md has them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client.metrics_core import Metric

from leveret.consumers.answering.told import Told, version
from leveret.consumers.measuring.counting import BOUNDS, Counting
from leveret.consumers.measuring.depths import Depth
from leveret.consumers.measuring.exposition import buckets, counter, gauge, histogram
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.link.outbox import Outbox

_ALWAYS = (Verdict.RETRY, Verdict.BURY)
LINK_GONE = "link_gone"
"""What stands for a verdict where the connection was gone before it could be told, and the message comes again."""


class Numbers:
    """Collects the numbers of a worker, when it is asked."""

    def __init__(
        self,
        counting: Counting,
        pool: Pool,
        told: Told,
        outbox: Outbox,
        depths: Callable[[], Mapping[Depth, int]],
        is_consuming: Callable[[], bool],
    ) -> None:
        self._counting = counting
        self._pool = pool
        self._told = told
        self._outbox = outbox
        self._depths = depths
        self._is_consuming = is_consuming

    def collect(self) -> list[Metric]:
        """Return them all."""
        return [*self._attempts(), *self._queues(), *self._rest()]

    def _attempts(self) -> list[Metric]:
        attempts = counter("attempts", "Attempts by what became of the message.", "queue", "task", "verdict")
        failures = counter("failures", "Attempts that did not succeed, by how they ended.", "queue", "task", "ending")
        seconds = histogram("attempt_duration_seconds", "How long attempts ran.", "queue", "task")
        for (queue, task), series in self._counting.series.items():
            attempts.add_metric([queue, task, Verdict.DONE.value], series.done)
            for verdict in dict.fromkeys((*_ALWAYS, *series.verdicts)):
                name = verdict.value if verdict else LINK_GONE
                attempts.add_metric([queue, task, name], series.verdicts[verdict])
            for ending, count in series.endings.items():
                failures.add_metric([queue, task, ending.name.lower()], count)
            seconds.add_metric([queue, task], buckets(BOUNDS, series.buckets), series.seconds)
        return [attempts, failures, seconds]

    def _queues(self) -> list[Metric]:
        messages = gauge(
            "queue_messages", "Messages on the broker, by its own count some seconds ago.", "queue", "state"
        )
        for depth, count in self._depths().items():
            messages.add_metric([depth.queue, depth.state], count)
        waiting = gauge("waiting", "Messages that this worker holds and no child has.", "queue")
        running = gauge("running", "Tasks that run in this worker.", "queue")
        oldest = gauge("oldest_seconds", "Time since the oldest first attempt here was published.", "queue")
        paused = gauge("paused", "Whether nothing is taken, for somebody has paused the queue.", "queue")
        longest = gauge("longest_running_seconds", "How long the task runs that began first.", "queue")
        seen, now = self._pool.seen, time.monotonic()
        began: dict[str, float] = {}
        for delivery, begun in seen:
            began[delivery.queue.name] = min(begun.started, began.get(delivery.queue.name, now))
        for queue in self._told.tell_queues(seen):
            name: list[str] = [queue["name"]]
            waiting.add_metric(name, queue["waiting"])
            running.add_metric(name, queue["running"])
            longest.add_metric(name, now - began.get(queue["name"], now))
            oldest.add_metric(name, queue["oldest_seconds"] or 0.0)
            paused.add_metric(name, queue["paused"] is not None)
        return [messages, waiting, running, longest, oldest, paused]

    def _rest(self) -> list[Metric]:
        children = gauge("children", "Child processes, by the kind of tasks they run.", "kind", "state")
        states: dict[tuple[str, str], int] = {}
        for _, kind, held in self._pool.children:
            states.setdefault((kind, "idle"), 0)
            states.setdefault((kind, "busy"), 0)
            states[kind, "busy" if held else "idle"] += 1
        for (kind, state), count in states.items():
            children.add_metric([kind, state], count)
        confirms = counter("confirms", "What this worker has published, by what the broker said.", "outcome")
        for outcome, count in self._counting.confirms.items():
            confirms.add_metric([outcome], count)
        unconfirmed = gauge("unconfirmed", "Messages this worker has published and the broker has not confirmed.")
        unconfirmed.add_metric([], len(self._outbox))
        consuming = gauge("consuming", "Whether this worker is connected and takes from all its queues.")
        consuming.add_metric([], self._is_consuming())
        info = gauge("worker_info", "Always 1; the version of leveret.", "version")
        info.add_metric([version()], 1)
        return [children, confirms, unconfirmed, consuming, info]
