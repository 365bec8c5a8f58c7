"""One project whose tasks use everything at once: a queue with priorities and limits, and tasks of all kinds on it."""

from __future__ import annotations

from leveret import Batch, Limit, Rate, RetryLater, Schedule, WorkQueue, current_attempt, task

together = WorkQueue(
    "together", retry_delays=(0.3,), priorities=True, at_once=4, rate=Rate(200, per_seconds=1), fanout=True
)
_seen: set[str] = set()


@task("together.double", queue=together, limit=Limit(key="{customer}", at_once=2))
def double(number: int, customer: str = "a") -> int:
    """Return what can be checked."""
    return 2 * number


@task("together.wait", queue=together)
async def wait(number: int) -> int:
    """Do so beside others."""
    return 2 * number


@task("together.sum", queue=together, batch=Batch(3, within_seconds=0.3))
def add(numbers: list[int]) -> list[int]:
    """Do so for many."""
    return [2 * number for number in numbers]


@task("together.patient", queue=together)
def patient(number: int) -> int:
    """Ask to be run later once. Its process is the only one that runs plain tasks."""
    if current_attempt().id not in _seen:
        _seen.add(current_attempt().id)
        raise RetryLater(1, "not yet")
    return 2 * number


@task("together.refuse", queue=together, never=(LookupError,))
def refuse(number: int) -> int:
    """Fail for good."""
    raise KeyError(number)


@task("together.again", queue=together)
def again(number: int) -> int:
    """Fail once."""
    if current_attempt().number == 1:
        raise ValueError(number)
    return 2 * number


Schedule("together-tick", double.options(follow="record", priority="low").message(number=0), every=1)
