"""The attempt a task is running in: its id and number, for tasks that must know."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class Attempt(NamedTuple):
    """One run of one message. The id stays the same over all attempts; `number` counts from 1."""

    id: str
    number: int
    queue: str
    task: str


_current: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


def current_attempt() -> Attempt | None:
    """Return the attempt this code runs in, or None when the function was called directly."""
    return _current.get()


def begin(attempt: Attempt) -> None:
    """Set the current attempt; it stays until the next one begins in this process."""
    _current.set(attempt)
