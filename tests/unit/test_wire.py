"""The wire between parent and child: what goes in comes out, however it is cut, and garbage is told as such."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.outcome import Ending, Failure, Outcome
from consumers.wire import Order, pack_order, pack_outcome, read_order, unpack_outcomes

TEXTS = st.text(max_size=50)
ORDERS = st.builds(
    Order,
    st.integers(1, 2**63 - 1),
    TEXTS,
    st.integers(1, 99),
    TEXTS,
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.binary(max_size=300),
)
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(Ending),
    TEXTS,
    st.floats(0, 1e9),
    st.none() | st.builds(Failure, TEXTS, TEXTS, TEXTS, TEXTS),
)


@given(orders=st.lists(ORDERS, max_size=4))
def test_orders_arrive_as_they_were_sent(orders: list[Order]) -> None:
    """One after the other comes out of the stream, and then its end."""
    stream = io.BytesIO(b"".join(map(pack_order, orders)))

    assert [read_order(stream) for _ in orders] == orders
    assert read_order(stream) is None


@given(order=ORDERS, data=st.data())
def test_a_cut_off_order_is_the_end(order: Order, data: st.DataObject) -> None:
    """A parent that dies within an order has sent none."""
    frame = pack_order(order)
    cut = data.draw(st.integers(0, len(frame) - 1))

    assert read_order(io.BytesIO(frame[:cut])) is None


@given(outcomes=st.lists(OUTCOMES, max_size=5), pieces=st.lists(st.integers(1, 60), min_size=1))
def test_outcomes_arrive_however_they_are_cut(outcomes: list[Outcome], pieces: list[int]) -> None:
    """Frames may arrive in any pieces; each outcome comes out once, with its number, and nothing is left."""
    sent = list(enumerate(outcomes, start=1))
    stream = io.BytesIO(b"".join(pack_outcome(number, outcome) for number, outcome in sent))
    received, arrived = bytearray(), []
    while any(taken := [stream.read(size) for size in pieces]):
        for piece in taken:
            received += piece
            arrived += list(unpack_outcomes(received))

    assert arrived == sent
    assert received == b""


def test_an_ending_arrives_as_an_ending() -> None:
    """Numbers become the enumeration's members again, and lists become a failure."""
    failure = Failure("ValueError", "text \ud800", "trace", "print")
    [(number, outcome)] = unpack_outcomes(bytearray(pack_outcome(7, Outcome(Ending.RAISED, "a", 0.5, failure))))

    assert number == 7
    assert outcome.ending is Ending.RAISED
    assert outcome.failure == failure
    assert isinstance(outcome.failure, Failure)


def test_half_an_outcome_is_kept_for_later() -> None:
    """An incomplete frame stays where it is, behind the complete ones that were taken."""
    first = pack_outcome(1, Outcome(Ending.RETURNED, "a", 0.5))
    received = bytearray(first + first[:9])

    assert [number for number, _ in unpack_outcomes(received)] == [1]
    assert received == first[:9]


def frame(payload: Any, ending: int = 0) -> bytes:
    """An outcome frame with any JSON in it."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return struct.pack("!IQBd", 17 + len(text), 1, ending, 0.5) + text


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0",
        b"\0\0\0\x10" + b"x" * 16,
        b"Traceback (most recent call last):",
        b"\xff" * 20,
        b"\0\x10\0\x01",
        frame(["a", None], ending=99),
        frame(b""),
        frame(b"{"),
        frame(b"\xff\xfe"),
        frame(b"[" * 100_000),
        frame(5),
        frame(None),
        frame([]),
        frame(["a"]),
        frame(["a", None, None]),
        frame(["a", 5]),
        frame(["a", ["one"]]),
        frame(["a", ["one", "two", "three", "four", "five"]]),
        frame(["a", {"type": "ValueError"}]),
        frame(["a", [1, 2, 3, 4]]),
    ],
    ids=range(20),
)
def test_garbage_is_a_value_error(garbage: bytes) -> None:
    """Bytes that are no outcome raise the one error that the parent kills a child for."""
    with pytest.raises(ValueError, match=r"."):
        list(unpack_outcomes(bytearray(garbage)))


@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_outcomes_or_a_value_error(garbage: bytes) -> None:
    """Whatever a child writes, its parent gets outcomes, waits for more, or hears a ValueError."""
    try:
        arrived: object = list(unpack_outcomes(bytearray(garbage)))
    except ValueError as error:
        arrived = error

    assert isinstance(arrived, (list, ValueError))
