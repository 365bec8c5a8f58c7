"""Moments as people read them."""

from __future__ import annotations

from datetime import datetime


def clock(at: float) -> str:
    """Return a moment, in seconds of the epoch, as the time of this place; dashes for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(at):%H:%M:%S.%f}"[:-3]
    except (OverflowError, ValueError, OSError):  # whoever may publish events may write any number
        return "--:--:--.---"
