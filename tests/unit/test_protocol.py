"""The wire between parent and child: what goes in comes out, however it is cut, and garbage is told as such."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import (
    LONGEST_LINE_BYTES,
    Lines,
    Order,
    OrderFields,
    Report,
    pack_lines,
    pack_orders,
    pack_report,
    pack_shared_orders,
    pack_shared_report,
    read_orders,
    unpack_reports,
    unpack_shared_orders,
    unpack_shared_reports,
)

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
    st.booleans(),
    st.none() | st.tuples(st.dictionaries(TEXTS, TEXTS, max_size=3), st.booleans()),
)
OUTCOMES = st.builds(
    Outcome,
    st.sampled_from([ending for ending in Ending if ending is not Ending.LATER]),  # which has to say when
    TEXTS,
    st.floats(0, 1e9),
    st.none() | st.builds(Failure, TEXTS, TEXTS, TEXTS, TEXTS),
    st.none(),
) | st.builds(Outcome, st.just(Ending.RETURNED), TEXTS, st.floats(0, 1e9), st.none(), st.none() | TEXTS)


REPORTS = st.builds(Report, st.integers(1, 2**63 - 1), st.lists(OUTCOMES, max_size=4), st.booleans())


def packed(orders: list[Order]) -> bytes:
    return pack_orders([cast(OrderFields, tuple(order)) for order in orders])


@given(batches=st.lists(st.lists(ORDERS, min_size=1, max_size=4), max_size=4))
def test_batches_arrive_as_they_were_sent(batches: list[list[Order]]) -> None:
    """One batch after the other comes out of the stream, and then its end."""
    stream = io.BytesIO(b"".join(map(packed, batches)))

    assert [read_orders(stream) for _ in batches] == batches
    assert read_orders(stream) is None


@given(order=ORDERS, data=st.data())
def test_a_cut_off_batch_is_the_end(order: Order, data: st.DataObject) -> None:
    """A parent that dies within a batch has sent none."""
    frame = packed([order])
    cut = data.draw(st.integers(0, len(frame) - 1))

    assert read_orders(io.BytesIO(frame[:cut])) is None


@given(reports=st.lists(REPORTS, max_size=5), pieces=st.lists(st.integers(1, 60), min_size=1))
def test_reports_arrive_however_they_are_cut(reports: list[Report], pieces: list[int]) -> None:
    """Frames may arrive in any pieces; each report comes out once, and nothing is left."""
    stream = io.BytesIO(b"".join(map(pack_report, reports)))
    received, arrived = bytearray(), []
    while any(taken := [stream.read(size) for size in pieces]):
        for piece in taken:
            received += piece
            arrived += unpack_reports(received)

    assert arrived == reports
    assert received == b""


def test_an_ending_arrives_as_an_ending() -> None:
    """Numbers become the enumeration's members again, and lists become a failure."""
    failure = Failure("ValueError", "text", "trace", "print")
    (report,) = unpack_reports(bytearray(pack_report(Report(7, [Outcome(Ending.RAISED, "a", 0.5, failure)], True))))
    assert isinstance(report, Report)
    (outcome,) = report.outcomes

    assert report.first == 7
    assert outcome.ending is Ending.RAISED
    assert outcome.failure == failure
    assert isinstance(outcome.failure, Failure)


@pytest.mark.parametrize("text", ["x" * 300_000, "\ud800", "\ud800" * 100_000, "é" * 100_000])
def test_what_a_child_tells_fits_into_headers(text: str) -> None:
    """A task can write to its parent, and what it writes may not end the connection that its dead copy goes out on."""
    hostile = Outcome(Ending.RAISED, text, 0.5, Failure(text, text, text, text))
    (report,) = unpack_reports(bytearray(pack_report(Report(1, [hostile], True))))
    assert isinstance(report, Report)
    (outcome,) = report.outcomes
    assert outcome.failure is not None

    assert sum(len(part.encode()) for part in (outcome.task, *outcome.failure)) < 10_000


def test_half_a_report_is_kept_for_later() -> None:
    """An incomplete frame stays where it is, behind the complete ones that were taken."""
    first = pack_report(Report(1, [Outcome(Ending.RETURNED, "a", 0.5)], False))
    received = bytearray(first + first[:9])

    (report,) = unpack_reports(received)
    assert isinstance(report, Report)
    assert report.first == 1
    assert received == first[:9]


def frame(payload: Any) -> bytes:
    """A report frame with any JSON in it."""
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return struct.pack("!I", len(text)) + text


def of_outcome(*outcome: Any) -> bytes:
    """A report frame with one thing in it that should be an outcome."""
    return frame([1, [list(outcome)], True])


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\0\0\0",
        b"\0\0\0\x10" + b"x" * 16,
        b"Traceback (most recent call last):",
        b"\xff" * 20,
        frame(b""),
        frame(b"{"),
        frame(b"\xff\xfe"),
        frame(b"[" * 100_000),
        frame(5),
        frame(None),
        frame([]),
        frame([1, []]),
        frame(["1", [], True]),
        frame([1, {}, True]),
        frame([1, [5], True]),
        of_outcome(),
        of_outcome(99, "a", 0.5, None),
        of_outcome(-1, "a", 0.5, None),
        of_outcome("0", "a", 0.5, None),
        of_outcome(0, 5, 0.5, None),
        of_outcome(0, "a", -0.5, None),
        of_outcome(0, "a", math.nan, None),
        of_outcome(0, "a", math.inf, None),
        of_outcome(0, "a", "0.5", None),
        of_outcome(0, "a", 0.5, 5),
        of_outcome(0, "a", 0.5, ["one"]),
        of_outcome(0, "a", 0.5, ["one", "two", "three", "four", "five"]),
        of_outcome(0, "a", 0.5, {"type": "ValueError"}),
        of_outcome(0, "a", 0.5, [1, 2, 3, 4]),
    ],
    ids=range(29),
)
def test_garbage_is_a_value_error(garbage: bytes) -> None:
    """Bytes that are no report raise the one error that the parent kills a child for."""
    with pytest.raises(ValueError, match=r"."):
        unpack_reports(bytearray(garbage))


@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_reports_or_a_value_error(garbage: bytes) -> None:
    """Whatever a child writes, its parent gets reports, waits for more, or hears a ValueError."""
    try:
        arrived: object = unpack_reports(bytearray(garbage))
    except ValueError as error:
        arrived = error

    assert isinstance(arrived, (list, ValueError))


REPORT_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


@given(
    payload=REPORT_LIKE
    | st.tuples(REPORT_LIKE, st.lists(st.tuples(*[REPORT_LIKE] * 4)), st.booleans())
    | st.tuples(
        st.integers(), st.lists(st.tuples(st.integers(0, 9), st.text(), st.floats(), REPORT_LIKE)), st.just(True)
    )
)
def test_any_json_is_a_report_or_a_value_error(payload: Any) -> None:
    """JSON that is nearly a report makes outcomes of the right types, or is a ValueError."""
    try:
        reports = unpack_reports(bytearray(frame(payload)))
    except ValueError:
        return
    if isinstance(reports[0], Lines):
        return
    for outcome in reports[0].outcomes:
        assert isinstance(outcome.ending, Ending)
        assert isinstance(outcome.task, str)
        assert 0 <= outcome.duration_seconds < math.inf
        assert outcome.failure is None or all(isinstance(text, str) for text in outcome.failure)


@given(
    batches=st.lists(st.lists(st.tuples(st.integers(0, 999), ORDERS), max_size=4), max_size=4), size=st.integers(1, 60)
)
def test_orders_to_run_side_by_side_arrive_however_they_are_cut(
    batches: list[list[tuple[int, Order]]], size: int
) -> None:
    """Each with its place."""
    frames = [
        pack_shared_orders([(place, cast(OrderFields, tuple(order))) for place, order in batch]) for batch in batches
    ]
    stream = io.BytesIO(b"".join(frames))
    received, arrived = bytearray(), []
    while piece := stream.read(size):
        received += piece
        arrived += unpack_shared_orders(received)

    assert arrived == batches
    assert received == b""


NUMBERS = st.lists(st.integers(1, 2**63 - 1), max_size=3)


@given(outcomes=st.lists(st.tuples(st.integers(1, 99), OUTCOMES), max_size=4), skipped=NUMBERS, misplaced=NUMBERS)
def test_reports_of_what_ran_side_by_side_arrive(
    outcomes: list[tuple[int, Outcome]], skipped: list[int], misplaced: list[int]
) -> None:
    """What each order came to, by its number."""
    (report,) = unpack_shared_reports(bytearray(pack_shared_report(outcomes, skipped, misplaced)))

    assert report == (outcomes, skipped, misplaced)


@pytest.mark.parametrize(
    "garbage",
    [
        frame([]),
        frame([[], []]),
        frame([[], [], [], []]),
        frame([[], ["1"], []]),
        frame([[], [], [None]]),
        frame([[], [True], []]),
        frame([[[1]], [], []]),
        frame([[["1", [0, "a", 0.5, None]]], [], []]),
        frame([[[1, [99, "a", 0.5, None]]], [], []]),
        frame([[[1, [0, "a", -1.0, None]]], [], []]),
        frame([[[[], [0, "a", 0.5, None]]], [], []]),
        frame({}),
        b"\xff" * 20,
    ],
)
def test_garbage_of_a_child_that_runs_side_by_side(garbage: bytes) -> None:
    """It is told as such, whatever it is."""
    with pytest.raises(ValueError, match=r"."):
        unpack_shared_reports(bytearray(garbage))


@pytest.mark.parametrize("unpack", [unpack_reports, unpack_shared_reports])
def test_lines_come_between_reports_and_fit_into_events(unpack: Callable[[bytearray], list[Any]]) -> None:
    """From either kind of child; what a wild one writes there is cut, and what no event can carry is escaped."""
    sent = Lines(7, "a" * 5000, ["plain", "\ud800", "é" * 10_000], 3)
    (lines,) = unpack(bytearray(pack_lines(sent)))

    assert isinstance(lines, Lines)
    assert (lines.number, lines.dropped, lines.lines[:2]) == (7, 3, ["plain", "\\ud800"])
    assert len(lines.lines[2].encode()) <= LONGEST_LINE_BYTES + 6
    assert len(lines.task.encode()) < 1100


@pytest.mark.parametrize("unpack", [unpack_reports, unpack_shared_reports])
@pytest.mark.parametrize(
    "payload",
    [
        [1, "a", [], 0],
        [1, "a", [1], 0],
        [1, "a", [["nested"]], 0],
        [1, "a", ["b"], -1],
        [1, "a", ["b"], 10**30],
        [1, "a", ["b"], 0.5],
        [1, None, ["b"], 0],
        ["1", "a", ["b"], 0],
        [1, "a", "b", 0],
    ],
    ids=str,
)
def test_what_is_nearly_lines_is_garbage(payload: list[Any], unpack: Callable[[bytearray], list[Any]]) -> None:
    """The child is not to be trusted any more."""
    with pytest.raises(ValueError, match="JSON that is no report"):
        unpack(bytearray(frame(payload)))
