"""An attempt that runs beside others in its process, and the context by which it is known whose something is."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.consumers import output
from leveret.consumers.child.execute import outcome_of
from leveret.consumers.child.logged import Logged
from leveret.consumers.child.outcome import Ending, Failure, Outcome, overran
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.task import AnyTask

if TYPE_CHECKING:
    from opentelemetry.trace import Span


class Running:
    """An attempt that has begun."""

    __slots__ = (
        "deadline",
        "is_cancelled",
        "is_followed",
        "is_unwanted",
        "logged",
        "number",
        "place",
        "printed",
        "soft_at",
        "span",
        "started",
        "subtasks",
        "task",
    )

    def __init__(self, place: int, number: int, task: AnyTask, started: float, is_followed: bool) -> None:
        self.place = place
        self.number = number
        self.task = task
        self.started = started
        self.deadline = started + task.time_limit
        self.soft_at = started + task.soft_time_limit if task.soft_time_limit else None
        self.is_cancelled = False  # told to end
        self.is_unwanted = False  # for somebody has cancelled it
        self.is_followed = is_followed or task.follow
        self.subtasks: set[asyncio.Future[Any]] | None = None
        self.printed: output.OpenLines = {}
        self.logged: Logged | None = None
        """What hears what it writes, where it is followed."""
        self.span: Span | None = None
        """Its span, where this process makes any."""


current: contextvars.ContextVar[Running | None] = contextvars.ContextVar("running", default=None)
"""The one that code runs in, if it does in one."""

OnFinish = Callable[[Running, Outcome], None]


def enter(running: Running, its: attempt.Attempt) -> None:
    """Make this context that of an attempt."""
    current.set(running)
    attempt.begin(its)
    output.keep_open_lines(running.printed)


def cancelled(running: Running) -> Outcome:
    """Return the outcome of an attempt that was cancelled: by somebody, for its time limit, or by another task."""
    name, seconds = running.task.name, time.monotonic() - running.started
    if running.is_unwanted:
        return Outcome(Ending.CANCELLED, name, seconds)
    if not running.is_cancelled:
        failure = Failure(
            "CancelledError", "another task of its process has cancelled it", "", f"CancelledError@{name}"
        )
        return outcome_of(Ending.RAISED, name, running.started, failure)
    return overran(name, seconds, "cancelled")
