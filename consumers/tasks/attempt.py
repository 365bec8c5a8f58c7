"""The attempt a task is running in: its id and number, for tasks that must know."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import NamedTuple

from leveret.consumers.tasks.errors import OutsideTask


class Attempt(NamedTuple):
    """One run of one message. The id stays the same over all attempts; `number` counts from 1."""

    id: str
    number: int
    queue: str
    task: str


class _Together(Attempt):
    """The attempts of a batch, which run as one."""

    all: tuple[Attempt, ...]


_current: ContextVar[Attempt] = ContextVar("attempt")


def current_attempt() -> Attempt:
    """Return the attempt this code runs in. Raises `OutsideTask` where no worker runs it, as in a plain call.

    It does so in a task with a batch, too, which runs many attempts: `current_attempts` returns those.
    """
    try:
        found = _current.get()
    except LookupError:
        raise _outside("current_attempt()") from None
    if isinstance(found, _Together):
        raise OutsideTask(
            f"current_attempt() was called in task {found.task!r}, which runs {len(found.all)} call(s) as a batch; "
            "current_attempts() returns the attempt of each"
        )
    return found


def current_attempts() -> list[Attempt]:
    """Return the attempts of the batch this code runs in, in the order of its calls; of any other task, its only one.

    Raises `OutsideTask` where no worker runs a task.
    """
    try:
        found = _current.get()
    except LookupError:
        raise _outside("current_attempts()") from None
    return list(each_of(found))


def together(attempts: Sequence[Attempt]) -> Attempt:
    """Return what stands for the attempts of a batch: the first of them, which says how many there are."""
    first, *others = attempts
    made = _Together(f"{first.id} and {len(others)} more" if others else first.id, *first[1:])
    made.all = tuple(attempts)
    return made


def each_of(attempt: Attempt) -> tuple[Attempt, ...]:
    """Return the attempts that one stands for: those of a batch, or only itself."""
    return attempt.all if isinstance(attempt, _Together) else (attempt,)


def _outside(called: str) -> OutsideTask:
    return OutsideTask(
        f"{called} was called where no worker runs a task; call it in the task, not when its module is imported, and "
        "expect this error where the function is called directly"
    )


def attempt_here() -> Attempt | None:
    """Return the attempt this code runs in, if it does in one."""
    return _current.get(None)


def begin(attempt: Attempt) -> None:
    """Set the current attempt; it stays until the next one begins in this process."""
    _current.set(attempt)
