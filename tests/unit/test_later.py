"""What may be asked for as the time of a message, and what is said of what may not."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

import pytest

from leveret import MessageError, Route
from leveret.producers.later import check_delay, due_of
from tests.broker.jobs import write

YEARS = timedelta(days=400)


@pytest.mark.parametrize("delay", [-1, math.nan, math.inf, True, "90", -0.001])
def test_what_is_no_delay_is_refused(delay: float) -> None:
    """With what it was."""
    with pytest.raises(MessageError, match="is not possible; give seconds, 0 or more"):
        write.options(delay=delay)


def test_more_than_a_year_is_refused() -> None:
    """As a delay, and as a time."""
    with pytest.raises(MessageError, match="the longest is 366 days"):
        write.options(delay=367 * 86_400)
    with pytest.raises(MessageError, match="the farthest is 366 days"):
        write.options(at=datetime.now(UTC) + YEARS)
    check_delay(366 * 86_400, None)


def test_a_time_without_a_zone_is_refused() -> None:
    """It would be another time on another machine."""
    with pytest.raises(MessageError, match="has no time zone"):
        write.options(at=datetime(2030, 1, 1))
    with pytest.raises(MessageError, match="is no datetime"):
        write.options(at="2030-01-01T09:00Z")  # type: ignore[arg-type]


def test_two_times_are_refused() -> None:
    """One of them would be ignored."""
    with pytest.raises(MessageError, match="give one of them"):
        write.options(delay=5, at=datetime.now(UTC))


def test_an_exchange_of_ones_own_is_refused() -> None:
    """The ladder leads to the exchanges of tasks only."""
    with pytest.raises(MessageError, match="cannot be delayed"):
        check_delay(5, None, Route("mine", "key"))


def test_a_time_that_is_over_is_now_and_said() -> None:
    """A message that is due at once travels like any other."""
    with pytest.warns(RuntimeWarning, match="is over, so the task runs now"):
        assert write.options(at=datetime.now(UTC) - timedelta(hours=1)).message(path="x").due is None
    assert write.options(delay=0).message(path="x").due is None


def test_a_delay_begins_when_the_message_is_made() -> None:
    """And a time is a time."""
    before = time.time()
    message = write.options(delay=90).message(path="x")
    at = datetime.now(UTC) + timedelta(days=2)

    assert message.due is not None
    assert before + 90 <= message.due <= time.time() + 90
    assert due_of(None, at) == at.timestamp()
