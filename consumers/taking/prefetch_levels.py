"""How many unacknowledged messages to hold, when nobody says: few of slow tasks, many of tiny ones.

Few keeps slow work spread evenly over workers. Many keeps children busy while acknowledgements travel. What runs side
by side begins at once, so of such tasks as many are held as there are places, and more only where they are short.
"""

from __future__ import annotations

import math

_LEVELS = ((0.0005, 256), (0.002, 32), (0.010, 8))  # tasks of up to so many seconds: so many for each process
_FEWEST = 2
_COUNTS = [count for _, count in _LEVELS]
_AHEAD = ((0.1, 1), (1.0, 4))  # tasks of up to so many seconds: this part of the places is held in addition
MOST_PREFETCH = 65_535  # AMQP has 16 bits for it
_TINY_SECONDS = 0.02  # what runs side by side waits for its like, too, so tiny tasks seem longer than they are
_SLACK = 2.0
_SAFETY = 0.9
_LEAST_SHARE = 1 / 8
_PART_OF_WAIT = 0.25  # of the longest wait may a task take, and the next message still be held while it runs
_MOST_BYTES = 32 * 1024 * 1024  # of bodies to hold, for each queue


def longest_wait_seconds(consumer_timeout_seconds: float, time_limit_seconds: float) -> float:
    """Return how long a message may wait for a free process, if its task may then run up to the time limit.

    Never less than an eighth of the timeout: a limit near or beyond it says little about how long tasks really take.
    """
    left = consumer_timeout_seconds - time_limit_seconds
    return max(_SAFETY * left, _LEAST_SHARE * consumer_timeout_seconds)


def first_prefetch(processes: int) -> int:
    """Return what to start with, while nothing is known about the tasks."""
    return _FEWEST * processes


def next_shared_prefetch(current: int, pace_seconds: float, body_bytes: float, processes: int, places: int) -> int:
    """Return what fits tasks that run side by side in so many places of so many processes; else as `next_prefetch`."""
    wanted = _wanted_shared(pace_seconds, body_bytes, processes, places)
    if wanted < current:
        return min(current, _wanted_shared(pace_seconds / _SLACK, body_bytes / _SLACK, processes, places))
    return wanted


def _wanted_shared(pace_seconds: float, body_bytes: float, processes: int, places: int) -> int:
    ahead = next((places // part for longest, part in _AHEAD if pace_seconds <= longest), 0)
    wanted = max(places + ahead, _COUNTS[0] * processes if pace_seconds <= _TINY_SECONDS else 0)
    return max(_FEWEST * processes, min(wanted, int(_MOST_BYTES / max(body_bytes, 1.0)), MOST_PREFETCH))


def next_prefetch(
    current: int, pace_seconds: float, body_bytes: float, processes: int, longest_wait_seconds: float = math.inf
) -> int:
    """Return what fits tasks that take so long and messages that are so large of late.

    A level is left for a lower one only with some slack. No message shall wait longer than that for a free process.
    """
    wanted = _wanted(pace_seconds, body_bytes, processes, longest_wait_seconds)
    if wanted < current:
        slack = (pace_seconds / _SLACK, body_bytes / _SLACK, processes, longest_wait_seconds)
        return min(current, _wanted(*slack))
    return wanted


def _wanted(pace_seconds: float, body_bytes: float, processes: int, longest_wait_seconds: float) -> int:
    fitting = next((count for count in _COUNTS if count * processes * body_bytes <= _MOST_BYTES), _FEWEST)
    return min(_level(pace_seconds, longest_wait_seconds), fitting) * processes


def _level(pace_seconds: float, longest_wait_seconds: float) -> int:
    fewest = _FEWEST if pace_seconds <= longest_wait_seconds * _PART_OF_WAIT else 1
    return next((count for longest, count in _LEVELS if pace_seconds <= longest), fewest)


def gathered_prefetch(others: int, gathered: int, body_bytes: float, processes: int) -> int:
    """Return what fits tasks that take many calls at once, `gathered` in all, beside so many of others."""
    return max(_FEWEST * processes, min(others + gathered, int(_MOST_BYTES / max(body_bytes, 1.0)), MOST_PREFETCH))
