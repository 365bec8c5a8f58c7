"""Header values that pika alone would lose or die of."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import data as pika_data

from leveret.topology.link import header_values
from leveret.topology.link.header_values import MOST_LEVELS
from leveret.topology.settings import CHECKOUT


@pytest.fixture(scope="module", autouse=True)
def pika_put_right() -> None:
    """What a connection does before it reads anything."""
    header_values.install()


def test_connecting_is_what_puts_pika_right() -> None:
    """A program that only imports this project keeps pika as it is; its first connection to a broker changes that."""
    code = """
import asyncio
from pika import URLParameters, data
pikas = data.decode_value, data.encode_value
from leveret.topology.link import connection, fast_connection, header_values
assert (data.decode_value, data.encode_value) == pikas

async def connect():
    fast_connection.FastConnection(URLParameters("amqp://127.0.0.1:1/"))

asyncio.run(connect())
assert (data.decode_value, data.encode_value) == (header_values.decode_value, header_values.encode_value)
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True)


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


def as_table(value: bytes) -> bytes:
    """A header value: a table with one field of this value, whose name is empty."""
    return b"F" + struct.pack("!I", len(value) + 1) + b"\0" + value


def as_array(value: bytes) -> bytes:
    """A header value: an array of this value."""
    return b"A" + struct.pack("!I", len(value)) + value


def levels_of(value: object) -> int:
    """How deep a value is nested, without going down by recursion."""
    levels = 0
    while isinstance(value, (dict, list)):
        value, levels = next(iter(value.values() if isinstance(value, dict) else value), None), levels + 1
    return levels


@pytest.mark.parametrize("wrap", [as_table, as_array])
@pytest.mark.parametrize("levels", [1, MOST_LEVELS, 3 * sys.getrecursionlimit()])
def test_deep_nesting_is_read_to_a_depth(wrap: Callable[[bytes], bytes], levels: int) -> None:
    """What is nested too deeply for the stack stays bytes, with all before it and behind it read."""
    value = b"V"
    for _ in range(levels):
        value = wrap(value)
    table = b"\1x" + value + b"\1y" + b"V"
    read, end = pika_data.decode_table(struct.pack("!I", len(table)) + table, 0)

    assert list(read) == ["x", "y"]
    assert levels_of(read["x"]) == min(levels, MOST_LEVELS)
    assert end == 4 + len(table)


def short(text: bytes) -> bytes:
    """A short string on the wire."""
    return struct.pack("!B", len(text)) + text


def packed(kind: str, form: str, numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Header values of a kind that holds one number."""
    return numbers.map(lambda number: kind.encode() + struct.pack(f"!{form}", number))


def integers(kind: str, form: str, bits: int, signed: bool) -> st.SearchStrategy[bytes]:
    """Header values of a kind that holds an integer."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return packed(kind, form, st.integers(low, high))


def fields(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The inside of a table."""
    return st.lists(st.tuples(st.binary(max_size=20).map(short), values).map(b"".join), max_size=4).map(b"".join)


LEAVES = st.one_of(
    st.booleans().map(lambda value: b"t" + bytes([value])),
    integers("b", "b", 8, signed=True),
    integers("B", "B", 8, signed=False),
    integers("s", "h", 16, signed=True),
    integers("u", "H", 16, signed=False),
    integers("I", "i", 32, signed=True),
    integers("i", "I", 32, signed=False),
    integers("l", "q", 64, signed=True),
    integers("T", "Q", 64, signed=False),
    packed("f", "f", st.floats(width=32)),
    packed("d", "d", st.floats()),
    st.binary(min_size=5, max_size=5).map(lambda value: b"D" + value),
    st.tuples(st.sampled_from([b"S", b"x"]), st.binary(max_size=30)).map(
        lambda one: one[0] + struct.pack("!I", len(one[1])) + one[1]
    ),
    st.just(b"V"),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        fields(inner).map(lambda body: b"F" + struct.pack("!I", len(body)) + body)
        | st.lists(inner, max_size=4).map(b"".join).map(as_array)
    ),
    max_leaves=12,
)


@given(body=fields(VALUES))
def test_every_table_a_broker_can_send_is_read(body: bytes) -> None:
    """Whatever a client put into a table, the broker's bytes are read to their end; nothing is raised."""
    read, end = pika_data.decode_table(struct.pack("!I", len(body)) + body, 0)

    assert isinstance(read, dict)
    assert end == 4 + len(body)


def test_pika_still_needs_it() -> None:
    """When this fails pika carries floats and odd timestamps by itself, and the room can go."""
    assert header_values._decode_value(b"d" + struct.pack(">d", 1.5), 0)[0] != 1.5
    with pytest.raises((OverflowError, ValueError, OSError)):
        header_values._decode_value(b"T" + (2**63).to_bytes(8), 0)
