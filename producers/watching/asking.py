"""Asking all workers at once, and collecting what they answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pika

from leveret.topology import workers
from leveret.topology.errors import UnreadableMessage
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.question import open_reply_queue
from leveret.topology.message import new_id, read_json
from leveret.topology.names import ASK_WORKERS_KEY, CONTROL_EXCHANGE
from leveret.topology.workers import WorkerInfo

_SILENCE_SECONDS = 0.3
"""Who has not answered for so long after the others is not there, or cannot."""
_LONGEST_SECONDS = 3.0
_MOST_ANSWERS = 10_000
_LARGEST_ANSWER_BYTES = 64 * 1024  # no worker sends a larger one
_INFO = json.dumps({"version": 1, "ask": "info"}).encode()


class Answers:
    """What came of one question."""

    def __init__(self) -> None:
        self.workers: list[WorkerInfo] = []
        self.unreadable: list[str] = []
        """What was wrong with the answers that no worker gives."""

    def __len__(self) -> int:
        return len(self.workers) + len(self.unreadable)

    def take(self, body: bytes) -> None:
        """Read an answer."""
        try:
            document = read_json(body.decode())
            self.workers.append(workers.read(document))
        except (ValueError, RecursionError) as error:
            self.unreadable.append(f"an answer is no JSON: {error}")
        except UnreadableMessage as error:
            self.unreadable.append(str(error))


class Enquiry:
    """Asks over a channel of its own, again and again."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel: Any = None
        self._current = self._reply_key = ""
        self._answers = Answers()
        self._heard = asyncio.Event()
        self._is_nobody_there = False

    async def open(self) -> None:
        """Be ready to ask. Raises what the broker refuses it with."""
        self._channel = channel = await open_channel(self._connection)
        self._connection.judge_bodies(channel, lambda size: size <= _LARGEST_ANSWER_BYTES)
        channel.add_on_return_callback(self._on_returned)
        asking = Asking(channel, "the question to all workers")
        self._reply_key = open_reply_queue(channel, self._on_answer)
        self._asking = asking

    async def ask(self, expected: asyncio.Future[int | None]) -> Answers:
        """Ask all workers; returns what comes until `expected` many have answered, or there is silence.

        Raises what the broker refuses it with, as where the exchange is not there.
        """
        self._answers, self._current, self._is_nobody_there = Answers(), new_id(), False
        properties = pika.BasicProperties(
            reply_to=self._reply_key, correlation_id=self._current, content_type="application/json"
        )
        self._channel.basic_publish(CONTROL_EXCHANGE, ASK_WORKERS_KEY, _INFO, properties, mandatory=True)
        # which the broker answers only after it has routed, or refused, what was published before it
        await self._asking.ask(lambda answer: self._channel.basic_qos(prefetch_count=0, callback=answer))
        latest = time.monotonic() + _LONGEST_SECONDS
        while not self._is_complete(expected) and (left := latest - time.monotonic()) > 0:
            self._heard.clear()
            try:
                await asyncio.wait_for(self._heard.wait(), min(_SILENCE_SECONDS, left))
            except TimeoutError:
                break
        return self._answers

    def _is_complete(self, expected: asyncio.Future[int | None]) -> bool:
        if self._is_nobody_there or len(self._answers) >= _MOST_ANSWERS:
            return True
        count = expected.result() if expected.done() else None
        return count is not None and len(self._answers) >= count

    def _on_answer(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        if properties.correlation_id == self._current:
            self._answers.take(body)
            self._heard.set()

    def _on_returned(self, *_what: Any) -> None:
        self._is_nobody_there = True
        self._heard.set()
