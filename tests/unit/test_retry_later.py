"""Asking to be run later: what a task may raise for that, and what becomes of it on its way to the parent."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest

from leveret import RetryLater
from leveret.consumers.child.later import seconds_until
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Report, pack_report, unpack_reports

WEEK = 7 * 86_400


def answered(**headers: object) -> Exception:
    """An error of an HTTP client, with the headers of the response."""
    error: Any = RuntimeError("429")
    error.response = SimpleNamespace(headers={name.replace("_", "-"): value for name, value in headers.items()})
    return error  # type: ignore[no-any-return]


def saying(retry_after: object) -> Exception:
    """An error that says when to try again."""
    error: Any = RuntimeError("busy")
    error.retry_after = retry_after
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (RetryLater(5), 5.0),
        (RetryLater(0.25, "why"), 0.25),
        (saying(7), 7.0),
        (saying("7.5"), 7.5),
        (saying(0), 0.0),
        (answered(Retry_After="120"), 120.0),
        (answered(Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), 0.0),
        (saying(WEEK), WEEK),
    ],
)
def test_what_says_when_to_try_again(error: Exception, seconds: float) -> None:
    """An error of our own, an attribute, or the header of a response; a date that is over is now."""
    assert seconds_until(error) == seconds


def test_a_date_is_so_many_seconds_away() -> None:
    """By this machine's clock."""
    at = datetime.now(UTC) + timedelta(seconds=90)

    assert 80 < (seconds_until(answered(Retry_After=format_datetime(at, usegmt=True))) or 0) <= 90


class Broken(Exception):
    """Raises for whatever it is asked."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError(name)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        saying(None),
        saying(True),
        saying(-1),
        saying("soon"),
        saying("nan"),
        saying(WEEK + 1),
        saying([5]),
        answered(),
        answered(Retry_After="tomorrow"),
    ],
)
def test_anything_else_is_a_plain_failure(error: Exception) -> None:
    """Also a time that is too far away to be meant."""
    assert seconds_until(error) is None


def test_an_error_that_cannot_be_asked_is_a_plain_failure() -> None:
    """Its class may be broken in any way."""
    assert seconds_until(Broken()) is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, "5", 400 * 86_400])
def test_what_is_no_time_is_refused_where_it_is_raised(seconds: float) -> None:
    """So the attempt fails, with that for its reason."""
    with pytest.raises(ValueError, match="is not possible; give seconds, from 0 to"):
        RetryLater(seconds)


def test_the_seconds_reach_the_parent_with_the_reason() -> None:
    """As they were."""
    outcome = Outcome(Ending.LATER, "mail.poll", 0.5, Failure("RetryLater", "not yet"), "5.0")

    assert unpack_reports(bytearray(pack_report(Report(1, [outcome], True)))) == [Report(1, [outcome], True)]


@pytest.mark.parametrize("result", [None, "nan", "-1", "1e9", "soon"])
def test_a_time_that_no_child_of_ours_has_written_is_no_report(result: str | None) -> None:
    """A task can write what it likes."""
    written = json.dumps([1, [[Ending.LATER, "t", 0.5, ["RetryLater", "", "", ""], result]], True]).encode()

    with pytest.raises(ValueError, match=r"no report|could not convert"):
        unpack_reports(bytearray(struct.pack("!I", len(written)) + written))
