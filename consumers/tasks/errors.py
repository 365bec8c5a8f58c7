"""The words a task may say to its worker by raising, beside plain failing."""

from __future__ import annotations

from leveret.topology.errors import LeveretError


class Reject(Exception):
    """Raise it from a task when trying again cannot help: the message goes to the DLQ at once, with the reason."""


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task that overran its soft time limit, so that it can clean up before it is killed."""


class Cancelled(BaseException):
    """Raised inside a task that somebody has cancelled, so that it can clean up; 2 seconds later its process is killed.

    It is no `Exception`, so that what catches those lets it through. A task that is `async def` gets asyncio's
    `CancelledError` instead.
    """


class OutsideTask(LeveretError):
    """What only a running task has was asked for outside of one."""
