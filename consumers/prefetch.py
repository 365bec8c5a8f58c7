"""How many unacknowledged messages to hold, when nobody says: few of slow tasks, many of tiny ones.

Few keeps slow work spread evenly over workers. Many keeps children busy while acknowledgements travel.
"""

from __future__ import annotations

_LEVELS = ((0.0005, 256), (0.002, 32), (0.010, 8))  # tasks of up to so many seconds: so many for each process
_FEWEST = 2
_COUNTS = [count for _, count in _LEVELS]
_SLACK = 2.0
_MOST_BYTES = 32 * 1024 * 1024  # of bodies to hold, for each queue


def first_prefetch(processes: int) -> int:
    """Return what to start with, while nothing is known about the tasks."""
    return _FEWEST * processes


def next_prefetch(current: int, pace_seconds: float, body_bytes: float, processes: int) -> int:
    """Return what fits tasks that take so long and messages that are so large of late.

    A level is left for a lower one only with some slack.
    """
    wanted = _wanted(pace_seconds, body_bytes, processes)
    if wanted < current:
        return min(current, _wanted(pace_seconds / _SLACK, body_bytes / _SLACK, processes))
    return wanted


def _wanted(pace_seconds: float, body_bytes: float, processes: int) -> int:
    fitting = next((count for count in _COUNTS if count * processes * body_bytes <= _MOST_BYTES), _FEWEST)
    return min(_level(pace_seconds), fitting) * processes


def _level(pace_seconds: float) -> int:
    return next((count for longest, count in _LEVELS if pace_seconds <= longest), _FEWEST)
