"""Counting what is settled and what is confirmed, for who looks at the numbers from time to time.

Of every message no more is done here than to add to a few numbers. A series there is for each loaded task of each
queue from the start, for a rate is known only of what was once seen at 0, and one for all that has no such name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from leveret.consumers.child.outcome import Ending
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import registry
from leveret.topology.errors import LeveretError, NotRouted
from leveret.topology.link.outbox import OnPublished, Outbox, Outgoing
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds; the upper bound of each bucket of durations but the last, which has none."""
OTHER = "other"
"""What stands for the name of every task that is not loaded, for anybody may publish any name."""
_DONE = Verdict.DONE


class Series:
    """What is counted of one task of one queue."""

    __slots__ = ("buckets", "done", "endings", "seconds", "verdicts")

    def __init__(self) -> None:
        self.done = 0
        self.verdicts: Counter[Verdict | None] = Counter()
        """But for those that are done; None where the link was gone, and the delivery comes again."""
        self.endings: Counter[Ending] = Counter()
        """How those ended that did not succeed."""
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Counting:
    """Counts attempts by queue and task."""

    def __init__(self, queues: Iterable[WorkQueue]) -> None:
        self.series = {
            (queue.name, name): Series()
            for queue in queues
            for name in (*(task.name for task in registry.of_queue(queue)), OTHER)
        }
        self.confirms = Counter({"confirmed": 0, "unroutable": 0, "failed": 0})

    def observe(self, batch: Sequence[Settled]) -> None:
        """Count what was settled."""
        all_series = self.series
        for delivery, outcome, verdict in batch:
            name = delivery.queue.name
            series = all_series.get((name, outcome.task)) or self._other(name)
            seconds = outcome.duration_seconds
            if verdict is _DONE:
                series.done += 1
            else:
                series.verdicts[verdict] += 1
                if outcome.ending is not Ending.RETURNED:
                    series.endings[outcome.ending] += 1
                if not seconds:  # it never ran
                    continue
            series.buckets[bisect_left(BOUNDS, seconds)] += 1
            series.seconds += seconds

    def _other(self, queue: str) -> Series:
        return self.series.setdefault((queue, OTHER), Series())

    def outbox(self, settings: Settings, role: str) -> Outbox:
        """Return an outbox of which it is counted what becomes of messages."""
        return _CountedOutbox(settings, role, self.confirms)


class _CountedOutbox(Outbox):
    def __init__(self, settings: Settings, role: str, confirms: Counter[str]) -> None:
        super().__init__(settings, role)
        self._confirms = confirms

    def send(self, outgoing: Outgoing, on_published: OnPublished, timeout_seconds: float | None = None) -> None:
        def count(error: LeveretError | None) -> None:
            how = "unroutable" if isinstance(error, NotRouted) else "failed"
            self._confirms["confirmed" if error is None else how] += 1
            on_published(error)

        super().send(outgoing, count, timeout_seconds)
