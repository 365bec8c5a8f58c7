"""How many processes there should be for what is to be done."""

from __future__ import annotations

import math

WITHIN_SECONDS = 1.0
"""So soon what waits is to be done, where tasks are shorter than that."""


def processes_for(tasks: int, seconds_each: float, places: int = 1) -> int:
    """Return how many processes end so many tasks within about a second, or as soon as they can be ended.

    `places` is how many tasks a process runs side by side.
    """
    side_by_side = min(float(tasks), tasks * seconds_each / WITHIN_SECONDS)
    return math.ceil(side_by_side / places)
