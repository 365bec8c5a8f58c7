"""What parent and child processes say to each other: orders one way, outcomes the other, over a socket.

Each frame is a 4-byte length and that many bytes. Orders are marshalled, for only the trusted parent writes
them; outcomes are JSON, so that a child gone wild cannot hurt the parent that reads them.
"""

from __future__ import annotations

import json
import marshal
import struct
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from consumers.outcome import Ending, Failure, Outcome

_LENGTH = struct.Struct("!I")
_OUTCOME = struct.Struct("!QBd")
_LARGEST_OUTCOME_BYTES = 1024 * 1024


class Order(NamedTuple):
    """One attempt to run, as the parent hands it to a child. `number` tells orders of one child apart."""

    number: int
    queue: str
    attempt: int
    id: str
    content_type: str | None
    content_encoding: str | None
    body: bytes


def pack_order(order: Order) -> bytes:
    """Return the order as a frame."""
    payload = marshal.dumps(tuple(order))
    return _LENGTH.pack(len(payload)) + payload


def read_order(stream: _Readable) -> Order | None:
    """Read the next order, waiting for it; None when the parent is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    return Order(*marshal.loads(payload)) if len(payload) == length else None  # noqa: S302


def pack_outcome(number: int, outcome: Outcome) -> bytes:
    """Return the outcome of an order as a frame."""
    ending, task, seconds, failure = outcome
    text = json.dumps([task, failure]).encode() if failure else json.dumps([task, None]).encode()
    return _LENGTH.pack(_OUTCOME.size + len(text)) + _OUTCOME.pack(number, ending, seconds) + text


def unpack_outcomes(received: bytearray) -> Iterator[tuple[int, Outcome]]:
    """Take the complete outcomes off the front of what was received.

    Raises `ValueError` for bytes that are no outcome: the child is not to be trusted any more.
    """
    while len(received) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(received)
        if not _OUTCOME.size <= length <= _LARGEST_OUTCOME_BYTES:
            raise ValueError(f"a frame of {length} bytes is no outcome")
        end = _LENGTH.size + length
        if len(received) < end:
            return
        number, ending, seconds = _OUTCOME.unpack_from(received, _LENGTH.size)
        task, failure = _read_text(received[_LENGTH.size + _OUTCOME.size : end])
        del received[:end]
        yield number, Outcome(Ending(ending), task, seconds, failure)


def _read_text(text: bytes | bytearray) -> tuple[str, Failure | None]:
    try:
        match json.loads(text):
            case [str(task), None]:
                return task, None
            case [str(task), [str(kind), str(message), str(trace), str(fingerprint)]]:
                return task, Failure(kind, message, trace, fingerprint)
    except RecursionError as error:
        raise ValueError("nested too deeply for an outcome") from error
    raise ValueError("JSON that is no outcome")


class _Readable(Protocol):
    """The part of a buffered stream that reading needs."""

    def read(self, size: int, /) -> bytes: ...
