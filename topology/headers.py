"""Header values that pika 1.4 cannot carry, put right where pika reads and writes them.

It cuts every floating-point number to an integer, and raises on a timestamp out of range, which ends the connection:
one such message would take down every worker it is delivered to, one after the other. (RabbitMQ itself refuses NaN.)
"""

from __future__ import annotations

import struct
from typing import Any

from pika import data as pika_data

_FORMATS = {b"f": ">f", b"d": ">d"}
_decode_value = pika_data.decode_value
_encode_value = pika_data.encode_value


def decode_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    """Read one header value; returns it and where the next begins. A timestamp out of range stays a number."""
    kind, start = encoded[offset : offset + 1], offset + 1
    if kind in _FORMATS:
        (number,) = struct.unpack_from(_FORMATS[kind], encoded, start)
        return number, start + struct.calcsize(_FORMATS[kind])
    try:
        return _decode_value(encoded, offset)  # type: ignore[no-any-return]
    except (OverflowError, ValueError, OSError):  # what datetime says of a second it has no year for
        if kind != b"T":
            raise
        return struct.unpack_from(">Q", encoded, start)[0], start + 8


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
