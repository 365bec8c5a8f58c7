"""Header values that pika 1.4 cannot carry, put right where pika reads and writes them.

It cuts every floating-point number to an integer, and raises on a timestamp out of range and on tables nested deeper
than its stack, which ends the connection: one such message would take down every worker it is delivered to, one after
the other. (RabbitMQ itself refuses NaN.)
"""

from __future__ import annotations

import struct
from contextvars import ContextVar
from typing import Any

from pika import data as pika_data

MOST_LEVELS = 32
"""How deep tables and arrays are read; what is nested deeper stays bytes."""
_FORMATS = {b"f": ">f", b"d": ">d"}
_NESTING = (b"F", b"A")
_level = ContextVar("level", default=0)
_decode_value = pika_data.decode_value
_encode_value = pika_data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """Read one header value; returns it and where the next begins. A timestamp out of range stays a number."""
    kind, start = encoded[offset : offset + 1], offset + 1
    if kind in _FORMATS:
        (number,) = struct.unpack_from(_FORMATS[kind], encoded, start)
        return number, start + struct.calcsize(_FORMATS[kind])
    if kind in _NESTING:
        return _decode_nested(encoded, offset)
    try:
        return _decode_value(encoded, offset)  # type: ignore[no-any-return]
    except (OverflowError, ValueError, OSError):  # what datetime says of a second it has no year for
        if kind != b"T":
            raise
        return struct.unpack_from(">Q", encoded, start)[0], start + 8


def _decode_nested(encoded: bytes, offset: int) -> tuple[Any, int]:
    start = offset + 5
    end = start + int(struct.unpack_from(">I", encoded, offset + 1)[0])
    if _level.get() >= MOST_LEVELS:
        return encoded[start:end], end
    before = _level.set(_level.get() + 1)
    try:
        return _decode_value(encoded, offset)  # type: ignore[no-any-return]
    finally:
        _level.reset(before)


def encode_value(pieces: list[bytes], value: Any) -> int:
    """Write one header value; returns how many bytes it took."""
    if isinstance(value, float):
        pieces.append(struct.pack(">cd", b"d", value))
        return 9
    return int(_encode_value(pieces, value))


def install() -> None:
    """Have pika use these two."""
    pika_data.decode_value = decode_value
    pika_data.encode_value = encode_value
