"""The recorder's connection: what it consists of, and what comes by it.

The queue of events has one active consumer: another recorder waits beside it, and gets what is not acknowledged when
this one ends. Both queues are bounded, and what is oldest goes first: the work never stops for the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pika

from leveret.consumers.log import event
from leveret.topology import names
from leveret.topology.events import LARGEST_BODY_BYTES
from leveret.topology.link.asking import Asking
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.exchanges import declare_missing
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.keeping import Losable
from leveret.topology.link.question import LARGEST_QUESTION_BYTES, is_reply_key
from leveret.topology.message import CONTENT_TYPE
from leveret.topology.objects import RECORD
from leveret.topology.settings import Settings

MOST_MESSAGES = 128
"""In one transaction."""
_PREFETCH = 2 * MOST_MESSAGES  # the next batch comes while one is written
_BETWEEN_BATCHES_SECONDS = 0.2
"""What comes sooner after a batch was taken waits for more to come: a transaction of few events costs as much each as
the events."""
_WRITTEN_SECONDS = 0.5
"""So long an answer waits until what came before its question is written."""
_QUESTIONS_PREFETCH = 50
_COUNT_EACH_SECONDS = 10.0
_MOST_HELD_BYTES = 64 * 1024 * 1024


class Batch(NamedTuple):
    """Messages of events that were delivered, and the last of their tags."""

    bodies: list[bytes]
    last_tag: int


class Asked(NamedTuple):
    """A question that somebody waits for an answer to."""

    tag: int
    body: bytes
    reply_to: str
    correlation_id: str | None


class Intake(Losable):
    """Takes events and questions until `lost`. Open it before anything else."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "leveret recorder")
        self._channel: Any = None
        self._questions_channel: Any = None
        self._delivered: deque[tuple[int, bytes]] = deque()
        self._has_delivered = asyncio.Event()
        self._has_many = asyncio.Event()
        """Enough for a batch, or all that there is room for."""
        self._taken_at = float("-inf")
        self._last_tag = self._written_tag = 0
        self._has_written = asyncio.Event()
        self._is_stuck = False
        self._held_bytes = 0
        self._is_too_large = False
        self._put_back: list[int] = []
        self.questions: asyncio.Queue[Asked] = asyncio.Queue()
        self.waiting = 0
        """How many messages waited in the queue of events when this was opened, or when they were counted last."""

    async def _prepare(self, connection: FastConnection) -> None:
        """Declare and consume."""
        self._channel = await self._open_consumer("the record's queue", _PREFETCH)
        connection.judge_bodies(self._channel, self._may_keep)
        await declare_missing(connection, RECORD.exchanges)
        waiting = await self._declare(self._channel, "what the record consists of", RECORD)
        self.waiting = waiting[names.RECORD_QUEUE]
        await self._consume(self._channel, names.RECORD_QUEUE, self._on_events)
        self._questions_channel = await self._open_consumer("the record's questions", _QUESTIONS_PREFETCH)
        connection.judge_bodies(self._questions_channel, lambda size: size <= LARGEST_QUESTION_BYTES)
        await self._consume(self._questions_channel, names.QUESTIONS_QUEUE, self._on_question)

    async def count_waiting(self) -> None:
        """Count what waits again and again. Raises what the connection ends with."""
        channel = await self._open_channel("the count of events")
        asking = Asking(channel, "the count of events", self._end)
        while True:
            answer = await asking.ask(
                lambda done: channel.queue_declare(names.RECORD_QUEUE, passive=True, callback=done)
            )
            self.waiting = answer.method.message_count
            await asyncio.sleep(_COUNT_EACH_SECONDS)

    async def next_batch(self) -> Batch:
        """Wait until there is something, at once or together with more, and return it; it stays unacknowledged."""
        await self._has_delivered.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._taken_at + _BETWEEN_BATCHES_SECONDS):
                await self._has_many.wait()
        self._taken_at = asyncio.get_running_loop().time()
        bodies: list[bytes] = []
        last_tag = 0
        while self._delivered and len(bodies) < MOST_MESSAGES:
            last_tag, body = self._delivered.popleft()
            bodies.append(body)
        if not self._delivered:
            self._has_delivered.clear()
        if len(self._delivered) < MOST_MESSAGES:
            self._has_many.clear()
        return Batch(bodies, last_tag)

    async def written(self) -> None:
        """Wait until all events that are here are written, so that who asks hears of them; not if that takes long."""
        wanted = self._last_tag
        if self._is_stuck or self._written_tag >= wanted:
            return
        self._has_many.set()
        try:
            async with asyncio.timeout(_WRITTEN_SECONDS):
                while self._written_tag < wanted:
                    await self._has_written.wait()
        except TimeoutError:
            self._is_stuck = True

    def acknowledge(self, batch: Batch) -> None:
        """Acknowledge what was written."""
        self._written_tag, self._is_stuck = batch.last_tag, False
        self._has_written.set()
        self._has_written.clear()  # whoever waits goes on all the same
        self._held_bytes -= sum(map(len, batch.bodies))
        if self._channel.is_open:
            for tag in self._put_back:  # before the others, which would acknowledge it
                self._channel.basic_nack(tag, requeue=True)
            self._channel.basic_ack(batch.last_tag, multiple=True)
        self._put_back.clear()

    def answer(self, asked: Asked, body: bytes) -> None:
        """Send an answer; who asked may have left. Only then another question comes in its place."""
        if self._questions_channel.is_open:
            properties = pika.BasicProperties(content_type=CONTENT_TYPE, correlation_id=asked.correlation_id)
            self._questions_channel.basic_publish(names.EVENTS_EXCHANGE, asked.reply_to, body, properties)
            self._questions_channel.basic_ack(asked.tag)

    async def _open_consumer(self, what: str, prefetch: int) -> Any:
        channel = await self._open_channel(what)
        await Asking(channel, what, self._end).ask(
            lambda done: channel.basic_qos(prefetch_count=prefetch, callback=done)
        )
        return channel

    async def _consume(self, channel: Any, queue: str, on_message: Callable[..., None]) -> None:
        asking = Asking(channel, f"queue {queue!r}", self._end)
        await asking.ask(lambda done: channel.basic_consume(queue, on_message, callback=done))

    def _may_keep(self, size: int) -> bool:
        self._is_too_large = size > LARGEST_BODY_BYTES
        return not self._is_too_large and self._held_bytes + size <= _MOST_HELD_BYTES

    def _on_events(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        if body is LEFT_OUT and not self._is_too_large:  # no room: it comes again once there is some
            self._put_back.append(method.delivery_tag)
            self._has_many.set()
            return
        self._held_bytes += len(body)
        self._last_tag = method.delivery_tag
        self._delivered.append((self._last_tag, body))
        self._has_delivered.set()
        if len(self._delivered) >= MOST_MESSAGES:
            self._has_many.set()

    def _on_question(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        tag, reply_to = method.delivery_tag, properties.reply_to
        if is_reply_key(reply_to):
            self.questions.put_nowait(Asked(tag, body, reply_to, properties.correlation_id))
        else:  # or whoever asks could have answers put into anybody's queue
            event(logging.WARNING, "a question is not answered: it names no key for answers")
            channel.basic_ack(tag)
