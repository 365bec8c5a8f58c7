"""The verdict: what follows from each way a delivery can end, on each attempt."""

from __future__ import annotations

import pytest

from leveret.consumers.child.outcome import Ending
from leveret.consumers.settling.verdict import Verdict, decide

DONE, RETRY, BURY, CANCEL, LATER = Verdict.DONE, Verdict.RETRY, Verdict.BURY, Verdict.CANCEL, Verdict.LATER

FIRST_MIDDLE_LAST_BEYOND = {
    Ending.RETURNED: (DONE, DONE, DONE, DONE),
    Ending.RAISED: (RETRY, RETRY, BURY, BURY),
    Ending.REJECTED: (BURY, BURY, BURY, BURY),
    Ending.UNKNOWN_TASK: (RETRY, RETRY, BURY, BURY),
    Ending.WRONG_ARGUMENTS: (BURY, BURY, BURY, BURY),
    Ending.UNREADABLE: (BURY, BURY, BURY, BURY),
    Ending.OVERRAN_TIME_LIMIT: (RETRY, RETRY, BURY, BURY),
    Ending.PROCESS_DIED: (RETRY, RETRY, BURY, BURY),
    Ending.DELIVERED_TOO_OFTEN: (BURY, BURY, BURY, BURY),
    Ending.UNUSABLE_RESULT: (BURY, BURY, BURY, BURY),
    Ending.CANCELLED: (CANCEL, CANCEL, CANCEL, CANCEL),
    Ending.LATER: (LATER, LATER, LATER, LATER),
}


@pytest.mark.parametrize("ending", Ending)
def test_every_ending_has_its_verdict(ending: Ending) -> None:
    """Of three attempts the first and second may be retried; the third, and any beyond, may not."""

    assert tuple(decide(ending, attempt, 3) for attempt in (1, 2, 3, 7)) == FIRST_MIDDLE_LAST_BEYOND[ending]


@pytest.mark.parametrize("ending", Ending)
def test_without_a_retry_plan_nothing_is_retried(ending: Ending) -> None:
    """With a single attempt a message is done or buried."""

    assert decide(ending, 1, 1) is {
        Ending.RETURNED: DONE,
        Ending.CANCELLED: CANCEL,
        Ending.LATER: LATER,
    }.get(ending, BURY)
