"""Header values that pika alone would lose or die of."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime

import pytest
from pika import data as pika_data

import topology.connection  # noqa: F401 - connecting is what puts pika right


def decoded(value: bytes) -> object:
    """What pika reads of a table with one field of this value."""
    table = b"\1x" + value
    return pika_data.decode_table(struct.pack("!I", len(table)) + table, 0)[0]["x"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (struct.pack(">cd", b"d", 1.5), 1.5),
        (struct.pack(">cf", b"f", -0.25), -0.25),
        (struct.pack(">cd", b"d", math.inf), math.inf),
        (struct.pack(">cQ", b"T", 0), datetime(1970, 1, 1, tzinfo=UTC)),
        (struct.pack(">cQ", b"T", 2**64 - 1), 2**64 - 1),
        (struct.pack(">cQ", b"T", 2**40), 2**40),
        (b"A" + struct.pack(">I", 9) + struct.pack(">cd", b"d", 2.5), [2.5]),
    ],
)
def test_values_are_read_as_they_are(value: bytes, expected: object) -> None:
    """Fractions stay fractions, and what no date can hold stays a number."""

    assert decoded(value) == expected


def test_nan_is_read() -> None:
    """A NaN is a value like any other."""
    value = decoded(struct.pack(">cd", b"d", math.nan))

    assert isinstance(value, float)
    assert math.isnan(value)


def test_what_was_read_can_be_written_again() -> None:
    """A table with fractions is the same after a round trip."""
    pieces: list[bytes] = []
    pika_data.encode_table(pieces, {"half": 0.5, "deep": {"list": [1.25, 3, "text"]}})

    assert pika_data.decode_table(b"".join(pieces), 0)[0] == {"half": 0.5, "deep": {"list": [1.25, 3, "text"]}}
