"""How often a message was sent round again, when and by whom: it takes that along in its headers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leveret.topology.control import REDRIVEN_AT

TIMES, BY = "redriven-times", "redriven-by"
MOST_KEPT = 10
"""Of so many times it is told when and by whom, the last ones."""
_LONGEST_CHARACTERS = 200


def times_of(headers: Mapping[Any, Any] | None) -> int:
    """Return how often a message was sent round again."""
    times = (headers or {}).get(TIMES)
    return int(times) if isinstance(times, int) and not isinstance(times, bool) and 0 <= times < 2**31 - 1 else 0


def lines_of(headers: Mapping[Any, Any] | None) -> list[str]:
    """Return when and by whom, the last at the end: `2026-12-01T09:00:00Z ops@desk`."""
    lines = (headers or {}).get(BY)
    return [line[:_LONGEST_CHARACTERS] for line in lines if isinstance(line, str)] if isinstance(lines, list) else []


def now() -> int:
    """Return the time as it is written here: milliseconds of the epoch."""
    return int(time.time() * 1000)


def is_of_this_round(headers: Mapping[Any, Any] | None, by: str, since: int) -> bool:
    """Whether it was this one who redrove it, since some `now()`: it has failed again already."""
    at, lines = (headers or {}).get(REDRIVEN_AT), lines_of(headers)
    return bool(lines) and lines[-1].endswith(f" {by}") and isinstance(at, int) and since <= at <= now()


def again(headers: Mapping[Any, Any], by: str) -> dict[str, Any]:
    """Return the headers that say that this one redrives a message now."""
    at = now()
    line = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ} {by}"
    return {
        REDRIVEN_AT: at,  # a new wish, later than what was cancelled before
        TIMES: times_of(headers) + 1,
        BY: [*lines_of(headers), line][-MOST_KEPT:],
    }
