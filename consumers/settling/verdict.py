"""What follows from how a delivery ended. Decided here, carried out by the worker."""

from __future__ import annotations

import enum

from leveret.consumers.child.outcome import Ending


class Verdict(enum.Enum):
    """What becomes of a message."""

    DONE = "done"
    """Acknowledged: it leaves the broker."""
    RETRY = "retry"
    """Rejected by basic.nack: it waits in its retry tier and comes back."""
    BURY = "bury"
    """A copy with the reason is confirmed in the DLQ, then the message is acknowledged."""

    CANCEL = "cancelled"
    """Acknowledged, for somebody has cancelled the task: it leaves the broker without having run to its end."""

    LATER = "later"
    """A copy that comes back later, as the same attempt, is confirmed, then the message is acknowledged."""


_WORTH_ANOTHER_TRY = frozenset({Ending.RAISED, Ending.UNKNOWN_TASK, Ending.OVERRAN_TIME_LIMIT, Ending.PROCESS_DIED})


def decide(ending: Ending, attempt: int, attempts: int) -> Verdict:
    """Return the verdict for attempt number `attempt` (from 1) of at most `attempts`."""
    if ending is Ending.RETURNED:
        return Verdict.DONE
    if ending is Ending.CANCELLED:
        return Verdict.CANCEL
    if ending is Ending.LATER:
        return Verdict.LATER
    if ending in _WORTH_ANOTHER_TRY and attempt < attempts:
        return Verdict.RETRY
    return Verdict.BURY
