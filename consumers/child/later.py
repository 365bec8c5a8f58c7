"""Whether what a task raised says when to try again."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from leveret.consumers.tasks.errors import RetryLater

_LONGEST_SECONDS = 7 * 86_400
"""Who asks to be asked again after that has not said when, but that it will take long."""


def seconds_until(error: BaseException) -> float | None:
    """Return after how many seconds to try again; None where it does not say.

    It does by being a `RetryLater`, by an attribute `retry_after`, or by the header Retry-After of its `response`, as
    those of HTTP clients have it: seconds, or a date.
    """
    if isinstance(error, RetryLater):
        return error.seconds
    try:
        said = getattr(error, "retry_after", None)
        if said is None and (response := getattr(error, "response", None)) is not None:
            said = response.headers.get("Retry-After")
        return None if said is None else _seconds(said)
    except Exception:  # noqa: BLE001 - an exception's attributes may be anything, and then it is a plain failure
        return None


def _seconds(said: object) -> float | None:
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        seconds = float(said)
    except ValueError:
        at = parsedate_to_datetime(str(said))
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
        seconds = max(0.0, seconds)
    return seconds if 0 <= seconds <= _LONGEST_SECONDS and math.isfinite(seconds) else None
