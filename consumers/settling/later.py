"""How often, and for how long, a task may ask to be run later."""

from __future__ import annotations

import time

from leveret.consumers.child.outcome import Outcome
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.products import so_far
from leveret.consumers.settling.verdict import Verdict

MOST_TIMES = 1000
LONGEST_SECONDS = 7 * 86_400
"""How often, and how long after the first time, a message may come back without using up an attempt."""


def bounded(delivery: Delivery, outcome: Outcome) -> tuple[Outcome, Verdict]:
    """Return the same with its verdict, or that it is buried, for it has come back too often or for too long."""
    times, since = so_far(delivery)
    waited = time.time() - since / 1000 if times else 0.0
    if times < MOST_TIMES and waited < LONGEST_SECONDS:
        return outcome, Verdict.LATER
    failure = outcome.failure
    text = f"asked to be run later {times + 1} times in {waited:.0f} s, more than it may: {failure and failure.message}"
    if failure:
        failure = failure._replace(type="RetriedLaterTooOften", message=text)
    return outcome._replace(failure=failure, result=None), Verdict.BURY
