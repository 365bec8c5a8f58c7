"""Messages on their way from a caller to the publisher's thread, and how they ended."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence

import pika

from topology.errors import LeveretError, MessageError
from topology.message import CONTENT_ENCODING, CONTENT_TYPE, TaskMessage, check_size
from topology.names import Route
from topology.outbox import Outbox, Outgoing

_PIECE_MESSAGES = 1000
_PIECE_BYTES = 4 * 1024 * 1024
"""Two pieces of bodies are in memory, and what a link carries in far less than a publish may wait."""
_PERSISTENT = pika.DeliveryMode.Persistent.value

Outcome = LeveretError | None


class Pieces:
    """What an iterable yields, in pieces that are confirmed side by side."""

    def __init__(self, messages: Iterable[TaskMessage]) -> None:
        self._remaining = iter(messages)
        self.failure: Exception | None = None
        """What the iterable raised, which was its end."""

    def take(self) -> list[TaskMessage]:
        """Take the next piece; an empty one is the end."""
        piece: list[TaskMessage] = []
        size = 0
        try:
            while len(piece) < _PIECE_MESSAGES and size < _PIECE_BYTES and not self.failure:
                message = next(self._remaining)
                piece.append(message)
                size += len(message.body)
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises; it is raised in the end
            self.failure = error
        return piece


class Handover:
    """Messages on their way from a caller to the outbox; their outcomes become known all at once."""

    def __init__(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        limit_bytes: int,
        on_ended: Callable[[], None] | None,
    ) -> None:
        way = Route(*route) if route else None  # any pair will do
        self._outgoing = [_outgoing(message, way) for message in messages]
        self.outcomes: list[Outcome] = [_too_large(message, limit_bytes) for message in messages]
        self._missing = len(messages)
        self._ended = threading.Lock()  # held until then; the quickest way from thread to thread
        self._ended.acquire()
        self._on_ended = on_ended or self._ended.release

    def wait(self) -> list[Outcome]:
        """Wait until all ended; returns how, in the order of the messages. Call it once."""
        self._ended.acquire()
        return self.outcomes

    def send(self, outbox: Outbox) -> None:
        """Pass on what is not refused already."""
        for position, outgoing in enumerate(self._outgoing):
            if self.outcomes[position]:
                self._end(position, self.outcomes[position])
            else:
                outbox.send(outgoing, functools.partial(self._end, position))

    def _end(self, position: int, outcome: Outcome) -> None:
        self.outcomes[position] = outcome
        self._missing -= 1
        if not self._missing:
            self._on_ended()


def _too_large(message: TaskMessage, limit_bytes: int) -> Outcome:
    try:
        check_size(message.body, limit_bytes, f"message of task {message.task!r}")
    except MessageError as error:
        return error
    return None


def _outgoing(message: TaskMessage, route: Route | None) -> Outgoing:
    return Outgoing(
        route or Route.topic(message.task),
        message.body,
        pika.BasicProperties(
            message_id=message.id,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            delivery_mode=_PERSISTENT,
        ),
    )
