"""What parent and child processes say to each other: orders one way, outcomes the other, over a socket.

Each frame is a 4-byte length and that many bytes, and carries a batch. Orders are marshalled, for only the trusted
parent writes them; outcomes are JSON, so that a child gone wild cannot hurt the parent that reads them.
"""

from __future__ import annotations

import json
import marshal
import math
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from leveret.consumers.child.outcome import LONGEST_CUT_BYTES, Ending, Failure, Outcome, cut, fitting
from leveret.topology.names import LONGEST_DELAY_SECONDS
from leveret.topology.traces import Carried

_LENGTH = struct.Struct("!I")
_LARGEST_REPORT_BYTES = 4 * 1024 * 1024
MOST_LOGGED_BYTES = 256 * 1024
"""What is told of what one attempt logs and prints, but for the line that passes it and one that says so."""
LONGEST_LINE_BYTES = 4096
_LONGEST_CUT_LINE_BYTES = LONGEST_LINE_BYTES + len("…".encode())
_MOST_DROPPED = 2**53
_ENDINGS = tuple(Ending)
_WITH_RESULT = (Ending.RETURNED, Ending.LATER)
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


class Order(NamedTuple):
    """One attempt to run, as the parent hands it to a child. `number` tells orders of one child apart."""

    number: int
    queue: str
    attempt: int
    id: str
    content_type: str | None
    content_encoding: str | None
    body: bytes
    is_followed: bool = False
    """Whether somebody wants to know its result."""
    carried: Carried | None = None
    """The trace that its message carries."""


OrderFields = tuple[int, str, int, str, str | None, str | None, bytes, bool, Carried | None]


class Report(NamedTuple):
    """Outcomes of consecutive orders, the first of which has this number; `is_last` when the child is free again."""

    first: int
    outcomes: list[Outcome]
    is_last: bool


class Lines(NamedTuple):
    """Lines that an attempt has logged or printed while it runs: its order's number, and the name of its task."""

    number: int
    task: str
    lines: list[str]
    """Each is a moment as in ISO 8601, the level or the stream, and the text, with one space between."""
    dropped: int
    """How many more were left out."""

    @property
    def size_bytes(self) -> int:
        """How much of what an attempt may log this is."""
        return sum(len(line.encode()) + 1 for line in self.lines)


def pack_orders(orders: list[OrderFields]) -> bytes:
    """Return a batch of orders, as plain tuples of `Order`'s fields, as a frame."""
    return _framed(marshal.dumps(orders))


def pack_shared_orders(orders: list[tuple[int, OrderFields]]) -> bytes:
    """Return orders for a child that runs them side by side, each with its place on the board, as a frame."""
    return _framed(marshal.dumps(orders))


def pack_cancels(numbers: Iterable[int]) -> bytes:
    """Return, for a child that runs orders side by side, which of them are to end, as a frame."""
    return _framed(marshal.dumps(tuple(numbers)))


def unpack_shared_orders(received: bytearray) -> list[list[tuple[int, Order]] | tuple[int, ...]]:
    """Take the complete batches, and numbers of what is to end, off the front of what was received."""
    return [
        said if type(said := marshal.loads(payload)) is tuple else [(place, Order._make(its)) for place, its in said]  # noqa: S302
        for payload in _frames_in(received)
    ]


def read_orders(stream: _Readable) -> list[Order] | None:
    """Read the next batch, waiting for it; None when the parent is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    return list(map(Order._make, marshal.loads(payload))) if len(payload) == length else None  # noqa: S302


def pack_report(report: Report) -> bytes:
    """Return a report as a frame."""
    return _framed(_encode(report).encode())


def pack_lines(lines: Lines) -> bytes:
    """Return lines as a frame, which either kind of child may send between its reports."""
    return _framed(_encode(lines).encode())


def unpack_reports(received: bytearray) -> list[Report | Lines]:
    """Take the complete reports off the front of what was received.

    Raises `ValueError` for bytes that are no report: the child is not to be trusted any more.
    """
    return [_read_report(payload) for payload in _frames_in(received, _LARGEST_REPORT_BYTES)]


class SharedReport(NamedTuple):
    """What a child that runs orders side by side has to say of them, each by its number."""

    outcomes: list[tuple[int, Outcome]]
    skipped: list[int]
    """Those it found no token for: the parent had taken them back."""
    misplaced: list[int]
    """Those that are not of the kind this child runs."""


def pack_shared_report(outcomes: list[tuple[int, Outcome]], skipped: list[int], misplaced: list[int]) -> bytes:
    """Return such a report as a frame."""
    return _framed(_encode((outcomes, skipped, misplaced)).encode())


def unpack_shared_reports(received: bytearray) -> list[SharedReport | Lines]:
    """Take the complete ones off the front of what was received. Raises `ValueError` for bytes that are none."""
    return [_read_shared_report(payload) for payload in _frames_in(received, _LARGEST_REPORT_BYTES)]


def _read_shared_report(payload: bytearray) -> SharedReport | Lines:
    try:
        match _decode(payload.decode()):
            case [list(outcomes), list(skipped), list(misplaced)]:
                told = [(number, _read_outcome(*outcome)) for number, outcome in outcomes]
                if all(type(number) is int for number in (*skipped, *misplaced, *(number for number, _ in told))):
                    return SharedReport(told, skipped, misplaced)
            case [int(number), str(task), list(lines), int(dropped)]:
                return _read_lines(number, task, lines, dropped)
    except (RecursionError, TypeError, IndexError) as error:
        raise ValueError("JSON that is no report") from error
    raise ValueError("JSON that is no report")


def _framed(payload: bytes) -> bytes:
    return _LENGTH.pack(len(payload)) + payload


def _frames_in(received: bytearray, most_bytes: int | None = None) -> Iterator[bytearray]:
    """Take the complete frames off the front. Raises `ValueError` for one that is longer than that."""
    while len(received) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(received)
        if most_bytes is not None and length > most_bytes:
            raise ValueError(f"a frame of {length} bytes is no report")
        end = _LENGTH.size + length
        if len(received) < end:
            break
        payload = received[_LENGTH.size : end]
        del received[:end]
        yield payload


def _read_report(payload: bytearray) -> Report | Lines:
    try:
        match _decode(payload.decode()):
            case [int(first), list(outcomes), bool(is_last)]:
                return Report(first, [_read_outcome(*outcome) for outcome in outcomes], is_last)
            case [int(number), str(task), list(lines), int(dropped)]:
                return _read_lines(number, task, lines, dropped)
    except (RecursionError, TypeError, IndexError) as error:
        raise ValueError("JSON that is no report") from error
    raise ValueError("JSON that is no report")


def _read_lines(number: int, task: str, lines: list[str], dropped: int) -> Lines:
    """Return lines that events can carry, whoever wrote them."""
    if not (lines or dropped) or not 0 <= dropped < _MOST_DROPPED or not all(type(line) is str for line in lines):
        raise TypeError("no lines")
    shown = [cut(line, _LONGEST_CUT_LINE_BYTES) for line in lines]
    return Lines(number, cut(task, LONGEST_CUT_BYTES), shown, dropped)


def _read_outcome(
    ending: int, task: str, seconds: float, failure: list[str] | None, result: str | None = None
) -> Outcome:
    """Return an outcome whose texts fit into the headers of a dead message, whoever wrote them: a task can, too."""
    if type(task) is not str or type(seconds) is not float or not 0 <= seconds < math.inf or ending < 0:
        raise TypeError("no outcome")
    if ending or len(task) > LONGEST_CUT_BYTES:  # a success is only logged
        task = cut(task, LONGEST_CUT_BYTES)
    if result is not None and (type(result) is not str or ending not in _WITH_RESULT):
        raise TypeError("no result")
    if ending == Ending.LATER and (
        result is None or failure is None or not 0 <= float(result) <= LONGEST_DELAY_SECONDS
    ):
        raise TypeError("no time")
    if failure is None:
        return Outcome(_ENDINGS[ending], task, seconds, None, result)
    if not all(type(text) is str for text in failure):
        raise TypeError("no failure")
    return Outcome(_ENDINGS[ending], task, seconds, fitting(Failure(*failure)), result)


class _Readable(Protocol):
    """The part of a buffered stream that reading needs."""

    def read(self, size: int, /) -> bytes: ...
