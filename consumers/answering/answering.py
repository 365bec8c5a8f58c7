"""A worker is asked over a queue of its own, and answers from its main loop: so a busy worker does, and no dead one.

The queue is on the connection that consumes, so it is gone with the worker. Whatever goes wrong here goes wrong here
alone: the worker works on, and cannot be asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pika

from leveret.consumers.log import event
from leveret.topology.errors import AccessRefused, LeveretError, TopologyError
from leveret.topology.link.asking import Answer, Asking
from leveret.topology.link.question import LARGEST_QUESTION_BYTES, is_reply_key, read_object
from leveret.topology.names import ASK_WORKERS_KEY, CONTROL_EXCHANGE, EVENTS_EXCHANGE, WORKER_PREFIX

LARGEST_ANSWER_BYTES = 64 * 1024
_ARGUMENTS = {"x-queue-type": "classic", "x-max-length": 100, "x-message-ttl": 5000}
_MOST_AT_ONCE = 4
_REST_SECONDS = 0.05  # before a question is acknowledged and the next may come: a flood of them costs a few percent
_AGAIN_SECONDS = 5.0
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Document = Mapping[str, Any]
Tell = Callable[[int], Document]
"""Returns what there is to tell; of what there may be any number of, so many at most."""
OpenChannel = Callable[[], Awaitable[Any]]


class Answering:
    """Answers `{"version": 1, "ask": "info"}` with what `tell` returns, and `ping` with the worker's name."""

    def __init__(self, worker: str, tell: Tell) -> None:
        self._worker = worker
        self._tell = tell
        self._serving: asyncio.Task[None] | None = None
        self._is_refused = False
        self.ignored = 0
        """How many questions were none that has an answer."""

    def serve(self, open_channel: OpenChannel) -> None:
        """Answer over a channel of this connection from now on, as long as it lives."""
        self.stop()
        if not self._is_refused:
            self._serving = asyncio.get_running_loop().create_task(self._serve(open_channel))

    def stop(self) -> None:
        """Answer nothing more."""
        if self._serving:
            self._serving.cancel()

    async def _serve(self, open_channel: OpenChannel) -> None:
        while True:
            try:
                channel = await open_channel()
            except LeveretError:
                return  # the connection has ended; who consumes on it says so
            closed = asyncio.Event()
            channel.add_on_close_callback(lambda _channel, _reason, closed=closed: closed.set())
            try:
                await self._listen(channel, closed)
            except (AccessRefused, TopologyError) as error:
                self._is_refused = isinstance(error, AccessRefused)
                event(logging.WARNING, f"this worker cannot be asked (leveret info), and works on: {error}")
                return
            except LeveretError:
                pass  # the channel, or its queue, is gone: there is another, unless the connection is, too
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _listen(self, channel: Any, closed: asyncio.Event) -> None:
        """Answer until the channel or the queue is gone. Raises what the broker refuses it with."""
        connection = channel.connection
        connection.judge_bodies(channel, lambda size: size <= LARGEST_QUESTION_BYTES)
        channel.add_on_cancel_callback(lambda _frame: channel.close() if channel.is_open else None)
        asking = Asking(channel, "the queue by which workers are asked")

        def declare(answer: Answer) -> None:
            channel.queue_declare(queue, exclusive=True, auto_delete=True, arguments=_ARGUMENTS, callback=answer)

        queue = f"{WORKER_PREFIX}{uuid.uuid4().hex}"
        await asking.ask(declare)
        await asking.ask(lambda answer: channel.queue_bind(queue, CONTROL_EXCHANGE, ASK_WORKERS_KEY, callback=answer))
        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_MOST_AT_ONCE, callback=answer))
        await asking.ask(lambda answer: channel.basic_consume(queue, self._on_question, callback=answer))
        await closed.wait()
        await asking.ask(lambda _answer: None)  # raises what it was closed for, as a right that answering takes

    def _on_question(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not channel.is_open:
            return
        try:
            answer = self._answer_to(body) if is_reply_key(properties.reply_to) else None
        except Exception as error:  # noqa: BLE001 - the connection that consumes would end with it
            event(logging.ERROR, f"a question could not be answered: {type(error).__name__}: {error}")
            answer = None
        if answer is None:
            self.ignored += 1
        else:
            sent = pika.BasicProperties(content_type="application/json", correlation_id=properties.correlation_id)
            channel.basic_publish(EVENTS_EXCHANGE, properties.reply_to, answer, sent)

        def acknowledge() -> None:
            if channel.is_open:
                channel.basic_ack(method.delivery_tag)

        asyncio.get_running_loop().call_later(_REST_SECONDS, acknowledge)

    def _answer_to(self, body: bytes) -> bytes | None:
        match read_object(body):
            case {"ask": "ping"}:
                return _encode({"version": 1, "worker": self._worker}).encode()
            case {"ask": "info"}:
                return self._info()
        return None

    def _info(self) -> bytes:
        answer = b""
        for most in (100, 20, 0):
            answer = _encode({**self._tell(most), "ignored_questions": self.ignored}).encode()
            if len(answer) <= LARGEST_ANSWER_BYTES:
                break
        return answer
