"""What workers tell of themselves when they are asked, as it is read. Anybody may answer, so it is checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from leveret.topology.errors import UnreadableMessage
from leveret.topology.names import LONGEST_NAME_BYTES, dlq_name, level_queues, retry_queue

_Name = Annotated[str, msgspec.Meta(max_length=255)]
_Text = Annotated[str, msgspec.Meta(max_length=1024)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Amount = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Progress(msgspec.Struct, frozen=True):
    """How far a task has come, by its own word."""

    done: _Amount
    total: _Amount | None
    note: _Text


class RunningTask(msgspec.Struct, frozen=True):
    """A task that runs: for so many seconds already, of so many it may take."""

    id: _Name
    task: _Name
    queue: _Name
    attempt: _Count
    of: _Count
    seconds: _Seconds
    limit: _Seconds | None
    pid: _Count
    progress: Progress | None


class ChildProcess(msgspec.Struct, frozen=True):
    """A process that runs tasks of a kind, and how many it has been given."""

    pid: _Count
    kind: _Name
    running: _Count


class Paused(msgspec.Struct, frozen=True):
    """Who has a queue paused, since when (seconds of the epoch), and why."""

    by: _Text
    at: _Seconds
    reason: _Text


class QueueAtWorker(msgspec.Struct, frozen=True):
    """A queue as a worker sees it. What has ended is of the last `window_seconds`."""

    name: _Name
    retry_delays: Annotated[list[_Seconds], msgspec.Meta(max_length=100)]
    prefetch: _Count
    waiting: _Count
    """Taken, and not begun."""
    running: _Count
    finished: _Count
    failed: _Count
    retried: _Count
    oldest_seconds: _Seconds | None
    """How long the oldest has waited that is here; None where none is, or its publisher set no time."""
    seconds_each: _Seconds
    places: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    """How many of its tasks a process runs side by side."""
    paused: Paused | None
    priorities: bool = False
    """Whether its messages wait in three queues, by their level."""


class LimitAtWorker(msgspec.Struct, frozen=True):
    """A limit across all workers, as one of them sees it."""

    name: _Name
    tokens: _Count
    """How many there are at all workers together; with a key, for each."""
    per_seconds: _Seconds | None
    """The period in which so many begin; None where so many run at once."""
    has_key: bool
    in_use: _Count
    """By tasks that run here."""
    waiting: _Count
    """Tasks here that wait for a token."""


class Processes(msgspec.Struct, frozen=True):
    """How many processes a worker may have of each kind, has in all, and should have for what is to be done."""

    least: _Count
    most: _Count
    now: _Count
    desired: _Count


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker. The lists may be cut; `queue_count` and `running_count` are of all."""

    version: Literal[1]
    worker: _Name
    host: _Name
    pid: _Count
    since: _Seconds
    leveret: _Name
    is_stopping: bool
    processes: Processes
    memory_bytes: _Count | None
    window_seconds: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    queues: Annotated[list[QueueAtWorker], msgspec.Meta(max_length=100)]
    queue_count: _Count
    children: list[ChildProcess]
    running: list[RunningTask]
    running_count: _Count
    ignored_questions: _Count
    limits: Annotated[list[LimitAtWorker], msgspec.Meta(max_length=100)] = []


def read(answer: object) -> WorkerInfo:
    """Read an answer. Raises `UnreadableMessage` saying what is wrong with it; what is unknown here is left out."""
    try:
        info = msgspec.convert(answer, WorkerInfo)
        for queue in info.queues:
            _check_names(queue)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise UnreadableMessage(f"an answer that no worker gives: {error}") from error
    return info


def _check_names(queue: QueueAtWorker) -> None:
    """Refuse a queue of which one of the names is longer than the broker can be asked for."""
    longest = [
        dlq_name(queue.name),
        *level_queues(queue.name).values(),
        *(retry_queue(queue.name, tier, delay) for tier, delay in enumerate(queue.retry_delays, start=1)),
    ]
    if max(len(name.encode()) for name in longest) > LONGEST_NAME_BYTES:
        raise UnreadableMessage(f"an answer that no worker gives: its queue {queue.name!r} has too long a name")


def limits_of(workers: Iterable[WorkerInfo]) -> list[LimitAtWorker]:
    """Return the limits of all workers, what they tell of each put together."""
    found: dict[tuple[str, float, int, bool], LimitAtWorker] = {}
    for limit in (limit for info in workers for limit in info.limits):
        key = (limit.name, limit.per_seconds or 0.0, limit.tokens, limit.has_key)
        former = found.get(key)
        if former:
            in_use, waiting = former.in_use + limit.in_use, former.waiting + limit.waiting
            found[key] = msgspec.structs.replace(limit, in_use=in_use, waiting=waiting)
        else:
            found[key] = limit
    return [found[key] for key in sorted(found)]


def as_json(told: msgspec.Struct | None) -> Any:
    """Return any of these as JSON has it."""
    return msgspec.to_builtins(told)
