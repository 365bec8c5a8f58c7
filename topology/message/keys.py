"""The keys of unique tasks: what can be one, and for how long it can be reserved."""

from __future__ import annotations

import math
from typing import Any

from leveret.topology.errors import MessageError
from leveret.topology.names import LONGEST_NAME_BYTES

LONGEST_KEY_SECONDS = 366 * 86_400.0
"""For which a key may be reserved."""
UNKNOWN_TASK_SECONDS = 86_400.0
"""For which a key is reserved that is to last until its task has ended, where nothing is ever heard of that."""


def check_key(key: Any) -> str:
    """Return the key of a unique task. Raises `MessageError` unless it is printable text of 1 to 255 bytes."""
    if not isinstance(key, str) or not key or not key.isprintable() or len(key.encode()) > LONGEST_NAME_BYTES:
        raise MessageError(
            f"{key!r:.80} cannot be the key of a unique task: 1 to {LONGEST_NAME_BYTES} bytes of printable text"
        )
    return key


def check_key_seconds(seconds: Any) -> float | None:
    """Return for how long a key is reserved. Raises `MessageError` unless it is None or a possible number."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds <= LONGEST_KEY_SECONDS and math.isfinite(seconds)):
        raise MessageError(
            f"a key cannot be reserved for {seconds!r:.80} seconds; give more than 0 and at most "
            f"{LONGEST_KEY_SECONDS:,.0f}, or none for as long as its task takes"
        )
    return None if seconds is None else float(seconds)
