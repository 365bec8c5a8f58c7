"""The words a task may say to its worker by raising, beside plain failing."""

from __future__ import annotations

from collections.abc import Mapping

from leveret.topology.errors import LeveretError
from leveret.topology.names import LONGEST_DELAY_SECONDS


class Reject(Exception):
    """Raise it from a task when trying again cannot help: the message goes to the DLQ at once, with the reason."""


class BatchFailed(Exception):
    """Raise it from a task with a batch when some of its calls have failed: `BatchFailed({2: error})`.

    The keys are places in the list of calls, counted from 0, the values what they failed with, for each as if it had
    raised that alone. All other calls have succeeded.
    """

    def __init__(self, failures: Mapping[int, BaseException]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        """Say how many, and where."""
        try:
            return f"calls {', '.join(map(str, self.failures))} of the batch failed"
        except TypeError:
            return f"{self.failures!r:.60} does not say which calls failed"


class RetryLater(Exception):
    """Raise it from a task whose time has not come: it comes back after so many seconds, and uses up no attempt.

    A message that has come back 1,000 times, or for 7 days, goes to the DLQ, with the reason. Raises `ValueError` for
    what is no number of seconds up to a year.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds <= LONGEST_DELAY_SECONDS:
            raise ValueError(
                f"RetryLater({seconds!r}) is not possible; give seconds, from 0 to {LONGEST_DELAY_SECONDS:,}"
            )
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
