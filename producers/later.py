"""When a message is to come: what may be asked for, and what that makes of its way."""

from __future__ import annotations

import math
import time
import warnings
from datetime import datetime

from leveret.topology.errors import MessageError
from leveret.topology.names import LONGEST_DELAY_SECONDS, MIRRORS, Route

_DAYS = LONGEST_DELAY_SECONDS // 86_400


def check_delay(delay: float | None, at: datetime | None, route: Route | None = None) -> None:
    """Raise `MessageError` unless a message can come so many seconds from now, or at that time, by this route."""
    if delay is not None and at is not None:
        raise MessageError(f"delay={delay!r} and at={at!r} are two times for one message; give one of them")
    if delay is not None:
        if isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay < math.inf:
            raise MessageError(f"a delay of {delay!r} is not possible; give seconds, 0 or more")
        if delay > LONGEST_DELAY_SECONDS:
            raise MessageError(f"a delay of {delay:g} s is too long; the longest is {_DAYS} days")
    if at is not None:
        if not isinstance(at, datetime):
            raise MessageError(f"at={at!r} is no datetime with a time zone")
        if at.utcoffset() is None:
            raise MessageError(
                f"at={at.isoformat()} has no time zone, so it is another time on another machine; give it one: "
                "datetime(…, tzinfo=ZoneInfo('Europe/Berlin')), or datetime.now().astimezone()"
            )
        if at.timestamp() - time.time() > LONGEST_DELAY_SECONDS:
            raise MessageError(f"at={at.isoformat()} is too far ahead; the farthest is {_DAYS} days")
    if (delay is not None or at is not None) and route is not None and route.exchange not in MIRRORS:
        raise MessageError(f"what goes to the exchange {route.exchange!r} cannot be delayed; leave out the delay")


def due_of(delay: float | None, at: datetime | None) -> float | None:
    """Return when a message is due that is made now, in seconds of the epoch; None for at once.

    A time that is over is at once, with a warning.
    """
    if at is not None:
        due = at.timestamp()
        if due <= time.time():
            warnings.warn(f"at={at.isoformat()} is over, so the task runs now", RuntimeWarning, stacklevel=4)
            return None
        return due
    return time.time() + delay if delay else None
