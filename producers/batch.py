"""A batch of messages on its way from a caller to the broker, and what became of each."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import pika

from leveret.producers import traced
from leveret.producers.following.entry import Entry
from leveret.producers.following.replies import Replies
from leveret.producers.submissions import Submissions, delayed_event
from leveret.topology import events, traces
from leveret.topology.errors import LeveretError, MessageError
from leveret.topology.events import Kind
from leveret.topology.ladder import delayed
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, PERSISTENT, TaskMessage, check_size
from leveret.topology.names import RECORD_QUEUE, Route

_BATCH_MESSAGES = 1000
_BATCH_BYTES = 4 * 1024 * 1024
"""Two batches of bodies are in memory, and what a link carries in far less than a publish may wait."""


class Batches:
    """What an iterable yields, in batches that are confirmed side by side."""

    def __init__(self, messages: Iterable[TaskMessage]) -> None:
        self._remaining = iter(messages)
        self.failure: Exception | None = None
        """What the iterable raised, which was its end."""

    def take(self) -> list[TaskMessage]:
        """Take the messages of the next batch; none are the end."""
        taken: list[TaskMessage] = []
        size = 0
        try:
            while len(taken) < _BATCH_MESSAGES and size < _BATCH_BYTES and not self.failure:
                message = next(self._remaining)
                taken.append(message)
                size += len(message.body)
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises; it is raised in the end
            self.failure = error
        return taken


class Batch:
    """Messages whose outcomes become known all at once. An outcome is None, or why the message was not submitted."""

    def __init__(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        limit_bytes: int,
        timeout_seconds: float | None,
        on_ended: Callable[[], None] | None,
        replies: Replies | None = None,
    ) -> None:
        way = Route(*route) if route else None  # any pair will do
        seconds = time.time()
        self._messages = messages
        self._way = way
        self._traced = None
        if traces.is_on():
            self._traced = traced.begin(messages, [way_of(message, route) for message in messages])
        carried = self._traced[1] if self._traced else None
        self._entries: dict[int, Entry] = {}
        if replies:  # before the queue is written where results come, for they hear of it should it be gone
            self._entries = {
                position: replies.expect(message.id, message.task)
                for position, message in enumerate(messages)
                if message.follow is True
            }
        self._outgoing = [as_outgoing(message, way, seconds, replies, carried) for message in messages]
        self._follows = any(message.follow for message in messages)
        self._submissions: Submissions | None = None
        self._timeout_seconds = timeout_seconds
        self.outcomes: list[LeveretError | None] = [_too_large(message, limit_bytes) for message in messages]
        self._missing = len(messages)
        self._ended_at: int | None = None
        self._ended = threading.Lock()  # held until then; the quickest way from thread to thread
        self._ended.acquire()
        self._on_ended = on_ended or self._ended.release

    def wait(self) -> list[LeveretError | None]:
        """Wait until all ended; returns how, in the order of the messages. Call it once."""
        self._ended.acquire()
        self.end_trace()
        return self.outcomes

    def end_trace(self) -> None:
        """End the span of this publish, if it has one: not in the thread that publishes, for an exporter may block."""
        if self._traced:
            traced.end(self._traced[0], self.outcomes, self._ended_at)
            self._traced = None

    def send(self, outbox: Outbox, submissions: Submissions | None = None) -> None:
        """Pass on what is not refused already; what is confirmed and followed is told by `submissions`."""
        self._submissions = submissions
        for position, outgoing in enumerate(self._outgoing):
            if self.outcomes[position]:
                self._end(position, self.outcomes[position])
            else:
                outbox.send(outgoing, functools.partial(self._end, position), self._timeout_seconds)

    def _end(self, position: int, outcome: LeveretError | None) -> None:
        self.outcomes[position] = outcome
        if self._entries and outcome is None and (entry := self._entries.get(position)):
            entry.tell_submitted(events.now())
            if (due := self._messages[position].due) is not None:
                entry.tell(Kind.DELAYED, "", "", delayed_event(entry.status.id, due))
        self._missing -= 1
        if not self._missing:
            if self._follows and self._submissions:
                self._submissions.add(
                    (message, way_of(message, self._way))
                    for message, outcome in zip(self._messages, self.outcomes, strict=True)
                    if message.follow and not outcome
                )
            if self._traced:
                self._ended_at = time.time_ns()
            self._on_ended()


def _too_large(message: TaskMessage, limit_bytes: int) -> LeveretError | None:
    try:
        check_size(message.body, limit_bytes, f"message of task {message.task!r}")
    except MessageError as error:
        return error
    return None


def way_of(message: TaskMessage, route: Route | None) -> Route:
    """Return where a message goes that is published by this route, or by its own or the usual one."""
    return Route(*route) if route else message.route or Route.topic(message.task)


def as_outgoing(
    message: TaskMessage,
    route: Route | None,
    now: float,
    replies: Replies | None,
    carried: Mapping[str, str] | None = None,
) -> Outgoing:
    """Return a message as it is published, at a time in seconds of the epoch.

    `replies` is where results are told, and `carried` are the headers of the trace that it belongs to.
    """
    reply_to = None
    way, headers = route or message.route or Route.topic(message.task), message.headers
    if carried:
        headers = {**(headers or {}), **carried}
    if message.due is not None and (left := message.due - now) > 0:
        way, headers = delayed(way, headers, left)
    if message.follow:
        reply_to = replies.key if replies and message.follow is True else RECORD_QUEUE
    return Outgoing(
        way,
        message.body,
        pika.BasicProperties(
            message_id=message.id,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            delivery_mode=PERSISTENT,
            timestamp=int(now),
            reply_to=reply_to,
            headers=headers,
        ),
    )
