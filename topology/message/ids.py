"""Task ids: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import os
import time

_MILLION = 1_000_000
_VERSION, _VARIANT = 0x7 << 76, 0b10 << 62
_last = 0


def new_id() -> str:
    """Return a fresh task id; of two that one process makes, the later one is the larger.

    48 bits are the millisecond, 12 the part of it (RFC 9562, section 6.2, method 3), 62 are random.
    """
    global _last
    millisecond, rest = divmod(time.time_ns(), _MILLION)
    stamp = millisecond << 12 | (rest << 12) // _MILLION
    _last = stamp = stamp if stamp > _last else _last + 1
    random = int.from_bytes(os.urandom(8)) >> 2
    digits = f"{(stamp >> 12) << 80 | _VERSION | (stamp & 0xFFF) << 64 | _VARIANT | random:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
