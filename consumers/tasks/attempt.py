"""The attempt a task is running in: its id and number, for tasks that must know."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from leveret.consumers.tasks.errors import OutsideTask


class Attempt(NamedTuple):
    """One run of one message. The id stays the same over all attempts; `number` counts from 1."""

    id: str
    number: int
    queue: str
    task: str


_current: ContextVar[Attempt] = ContextVar("attempt")


def current_attempt() -> Attempt:
    """Return the attempt this code runs in. Raises `OutsideTask` where no worker runs it, as in a plain call."""
    try:
        return _current.get()
    except LookupError:
        raise OutsideTask(
            "current_attempt() was called where no worker runs a task; call it in the task, not when its module is "
            "imported, and expect this error where the function is called directly"
        ) from None


def attempt_here() -> Attempt | None:
    """Return the attempt this code runs in, if it does in one."""
    return _current.get(None)


def begin(attempt: Attempt) -> None:
    """Set the current attempt; it stays until the next one begins in this process."""
    _current.set(attempt)
