"""The words a task may say to its worker by raising, beside plain failing."""

from __future__ import annotations

from leveret.topology.errors import LeveretError
from leveret.topology.ladder import LONGEST_SECONDS


class Reject(Exception):
    """Raise it from a task when trying again cannot help: the message goes to the DLQ at once, with the reason."""


class RetryLater(Exception):
    """Raise it from a task whose time has not come: it comes back after so many seconds, and uses up no attempt.

    A message that has come back 1,000 times, or for 7 days, goes to the DLQ, with the reason. Raises `ValueError` for
    what is no number of seconds up to a year.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= LONGEST_SECONDS:
            raise ValueError(f"RetryLater({seconds!r}) is not possible; give seconds, from 0 to {LONGEST_SECONDS:,}")
        super().__init__(reason or f"again in {seconds:g} s")
        self.seconds = float(seconds)


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task that overran its soft time limit, so that it can clean up before it is killed."""


class Cancelled(BaseException):
    """Raised inside a task that somebody has cancelled, so that it can clean up; 2 seconds later its process is killed.

    It is no `Exception`, so that what catches those lets it through. A task that is `async def` gets asyncio's
    `CancelledError` instead.
    """


class OutsideTask(LeveretError):
    """What only a running task has was asked for outside of one."""
