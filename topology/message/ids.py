"""Task ids: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import time
from array import array

_MILLION = 1_000_000
_VERSION, _VARIANT = 0x7 << 76, 0b10 << 62
_last = 0
_RANDOM_NUMBERS = 512
_random: list[int] = []  # many at once: each time the system is asked, another thread may take the interpreter
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """Return a fresh task id; of two that one process makes, the later one is the larger.

    48 bits are the millisecond, 12 the part of it (RFC 9562, section 6.2, method 3), 62 are random.
    """
    global _last
    millisecond, rest = divmod(time.time_ns(), _MILLION)
    stamp = millisecond << 12 | (rest << 12) // _MILLION
    _last = stamp = stamp if stamp > _last else _last + 1
    random = _random_number() >> 2
    digits = f"{(stamp >> 12) << 80 | _VERSION | (stamp & 0xFFF) << 64 | _VARIANT | random:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _random_number() -> int:
    """Return 64 random bits that nobody else gets, whatever thread or signal handler asks meanwhile."""
    while True:
        try:
            return _random.pop()
        except IndexError:
            _random.extend(array("Q", os.urandom(8 * _RANDOM_NUMBERS)))
