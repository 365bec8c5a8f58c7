"""What there is to see of workers and queues at one moment, put together from what they and the broker tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leveret.producers.watching.counts import Counts
from leveret.producers.watching.rates import Rate
from leveret.topology.names import LATER_LOST, NORMAL, dlq_name, level_queues, retry_queue
from leveret.topology.sizing import processes_for
from leveret.topology.workers import Paused, QueueAtWorker, RunningTask, WorkerInfo

_NEAR_LIMIT = 0.8


@dataclass(frozen=True, slots=True)
class QueueLook:
    """A work queue. What cannot be known is None."""

    name: str
    is_there: bool
    ready: int | None
    """In the queue, and taken by nobody; of one with priorities, in all its levels."""
    ready_by_level: Mapping[str, int | None] | None
    """Of one with priorities; None of any other."""
    waiting: int
    """Taken by workers, and not begun."""
    running: int
    retrying: int | None
    """In the retry tiers."""
    dead: int | None
    workers: int | None
    """How many take it, paused or not; None where no worker could be asked, and then all that they tell is 0."""
    in_per_second: float | None
    """From the management API; attempts that come back count, too."""
    out_per_second: float
    """Tasks that ended, for good or ill, in the last minute."""
    oldest_seconds: float | None
    """How long the oldest has waited that workers have seen."""
    empty_in_seconds: float | None
    """How long what is ready and waiting will take, at the rates of now; None where it grows, or nothing is known."""
    paused: Paused | None
    desired_processes: int
    """How many processes would end what there is within about a second."""

    @property
    def backlog(self) -> int:
        """How many wait for their turn, as far as that is known."""
        return (self.ready or 0) + self.waiting


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs, and the worker that runs it."""

    worker: str
    task: RunningTask

    @property
    def is_near_limit(self) -> bool:
        """Whether it will soon have run as long as it may."""
        return bool(self.task.limit) and self.task.seconds >= _NEAR_LIMIT * (self.task.limit or 0.0)


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that needs a look: its kind, what it is about (a queue, or a task), and what to say."""

    kind: str
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """Workers, queues, what runs (the longest first), and what needs a look."""

    at: float
    """Seconds of the epoch."""
    broker: str
    version: str
    workers: Sequence[WorkerInfo]
    queues: Sequence[QueueLook]
    running: Sequence[Running]
    running_count: int
    """Of all, where `running` is not all."""
    warnings: Sequence[Warned]
    notes: Sequence[str]
    """What could not be seen, and why."""

    @property
    def desired_processes(self) -> int:
        """How many processes would end what there is within about a second, in all queues."""
        return sum(queue.desired_processes for queue in self.queues)


def queue_look(
    name: str,
    retry_delays: Sequence[float] | None,
    counts: Counts,
    rate: Rate | None,
    seen: Sequence[tuple[WorkerInfo, QueueAtWorker]],
    has_levels: bool = False,
    were_asked: bool = True,
) -> QueueLook:
    """Put together what is known of a queue; `seen` are the workers that take it. None are retry delays not known."""
    waits_in = names_of_levels(name, has_levels)
    waiting, running = sum(at.waiting for _, at in seen), sum(at.running for _, at in seen)
    ready = counts.of(waits_in.values()) if any(one in counts for one in waits_in.values()) else None
    tiers = None if retry_delays is None else names_of_tiers(name, retry_delays)
    out = sum((at.finished + at.failed) / info.window_seconds for info, at in seen)
    incoming = rate.in_per_second if rate else None
    oldest = [at.oldest_seconds for _, at in seen if at.oldest_seconds is not None]
    backlog = (ready or 0) + waiting
    paused = next((at.paused for _, at in seen if at.paused), None)
    return QueueLook(
        name=name,
        is_there=all(one in counts or one in counts.refused for one in waits_in.values()),
        ready=ready,
        ready_by_level={level: counts.of([one]) for level, one in waits_in.items()} if has_levels else None,
        waiting=waiting,
        running=running,
        retrying=None if tiers is None else counts.of(tiers),
        dead=counts.of([dlq_name(name)]),
        workers=len(seen) if were_asked else None,
        in_per_second=incoming,
        out_per_second=out,
        oldest_seconds=max(oldest, default=None),
        empty_in_seconds=_empty_in(backlog, 0.0 if paused else out, incoming or 0.0),
        paused=paused,
        desired_processes=_desired(running if paused else backlog + running, seen),
    )


def names_of_levels(queue: str, has_levels: bool) -> dict[str, str]:
    """Return the names of the queues in which messages wait for their turn, by level."""
    return level_queues(queue) if has_levels else {NORMAL: queue}


def names_of_tiers(queue: str, retry_delays: Sequence[float]) -> list[str]:
    """Return the names of a queue's retry tiers."""
    return [retry_queue(queue, tier, delay) for tier, delay in enumerate(retry_delays, start=1)]


def what_runs(workers: Sequence[WorkerInfo]) -> list[Running]:
    """Return all that runs, the longest first."""
    running = [Running(info.worker, task) for info in workers for task in info.running]
    return sorted(running, key=lambda one: -one.task.seconds)


def warnings_of(
    queues: Sequence[QueueLook], running: Sequence[Running], unreadable: Mapping[str, int], lost: int = 0
) -> list[Warned]:
    """Say what needs a look. `unreadable` is what was wrong with answers, and how often.

    `lost` is how many delayed tasks no queue took when they were due.
    """
    found: list[Warned] = []
    for queue in queues:
        if not queue.is_there:
            found.append(Warned("missing", queue.name, "is not on the broker; leveret declare -a MODULE"))
        elif queue.workers == 0 and queue.ready:
            found.append(Warned("no_worker", queue.name, f"no worker takes it; leveret run {queue.name}"))
        if queue.paused:
            why = f": {queue.paused.reason}" if queue.paused.reason else ""
            found.append(Warned("paused", queue.name, f"paused by {queue.paused.by}{why}"))
    if lost:
        text = (
            f"{lost} delayed task(s) that no queue took when due; declare the queue, then leveret redrive {LATER_LOST}"
        )
        found.append(Warned("lost", LATER_LOST, text))
    for one in running:
        task = one.task
        if one.is_near_limit:
            text = f"has run {task.seconds:.0f} of {task.limit:g} s it may, on {one.worker}: {task.id}"
            found.append(Warned("near_limit", task.task, text))
    found.extend(Warned("unreadable", "workers", f"{text} ({count} times)") for text, count in unreadable.items())
    return found


def _empty_in(backlog: int, out: float, incoming: float) -> float | None:
    if not backlog:
        return 0.0
    return backlog / (out - incoming) if out > incoming else None


def _desired(tasks: int, seen: Sequence[tuple[WorkerInfo, QueueAtWorker]]) -> int:
    """Where nobody takes a queue its tasks are unknown, and the first process will show how long they take."""
    if not seen:
        return min(tasks, 1)
    seconds_each = sum(at.seconds_each for _, at in seen) / len(seen)
    return processes_for(tasks, seconds_each, min(at.places for _, at in seen))
