"""Asking whoever serves: one question to the exchange of control, and the answers to it by the exchange of events.

Who asks has a queue for the answers that goes with its connection. RabbitMQ's direct reply-to would need none, but who
answers would need the right to write to the default exchange, and with it to every queue. Where nobody can be asked
the broker says so at once.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pika
from pika import exceptions as pika_errors

from leveret.topology import names
from leveret.topology.errors import AccessRefused, LeveretError, NobodyAnswers, QuestionRefused
from leveret.topology.link import daemon_thread
from leveret.topology.link.asking import open_channel
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import NOT_FOUND, REFUSED, explain, explain_channel
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.telling import new_reply_key
from leveret.topology.message import CONTENT_TYPE, read_json
from leveret.topology.message.bounds import excess
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, mask

VERSION = 1
ANSWER_SECONDS = 2.0
"""How long an answer is waited for."""
LARGEST_QUESTION_BYTES = 64 * 1024
LARGEST_ANSWER_BYTES = 1024 * 1024

Answer = dict[str, Any]


class Addressee(NamedTuple):
    """Who is asked: by which key, what they are called, and what to do when there is none."""

    key: str
    name: str
    cure: str


RECORDERS = Addressee(names.ASK_RECORD_KEY, "recorder", "start one: leveret recorder")
WORKERS = Addressee(names.ASK_WORKERS_KEY, "worker", "start one: leveret run -a MODULE")


def is_reply_key(address: object) -> bool:
    """Whether answers may be sent there: by such a key the exchange of events leads to who waits, and nowhere else."""
    return isinstance(address, str) and address.startswith(names.REPLY_PREFIX)


def open_reply_queue(channel: Any, on_answer: Callable[[Any, Any, Any, bytes], None]) -> str:
    """Have a queue for answers, as long as the connection lives; returns the key by which they come.

    What is published on the channel after this is published when it is there. A refusal closes the channel.
    """
    key = new_reply_key()
    channel.queue_declare(key, exclusive=True, auto_delete=True)
    channel.queue_bind(key, names.EVENTS_EXCHANGE, key)
    channel.basic_consume(key, on_answer, auto_ack=True)
    return key


class Questions:
    """Asks over a connection of its own, one question at a time. Open it first, on the running loop."""

    def __init__(self, settings: Settings, role: str = "leveret, asking") -> None:
        self._settings = settings
        self._role = role
        self._connection: FastConnection | None = None
        self._channel: Any = None
        self._correlation_id = self._reply_key = ""
        self._heard: asyncio.Queue[Answer | LeveretError | None] = asyncio.Queue()
        """Answers; a failure; None when the question came back, for no queue is bound."""
        self.is_blocked = False
        """Whether the broker has said that it takes nothing on this connection, as in an alarm: no question arrives."""

    async def open(self) -> None:
        """Connect. Raises `BrokerUnreachable`, `AccessRefused` or `SettingsError`."""
        self._connection = connection = await connect(self._settings, self._role, self._on_lost)
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        self._channel = channel = await open_channel(connection)
        connection.judge_bodies(channel, lambda size: size <= LARGEST_ANSWER_BYTES)
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_return)
        try:  # the broker takes them in this order, so the question need not wait for the consumer
            self._reply_key = open_reply_queue(channel, self._on_answer)
        except pika_errors.AMQPError as error:  # it left between two steps
            raise explain(error, connection.url) from error

    async def close(self) -> None:
        """Leave."""
        if self._connection:
            await close(self._connection)

    async def ask(
        self,
        to: Addressee,
        question: Mapping[str, object],
        count: int | None = 1,
        seconds: float = ANSWER_SECONDS,
        silence_seconds: float | None = None,
    ) -> list[Answer]:
        """Return the answers: up to `count` where it is known, those that come within `seconds` otherwise.

        With `silence_seconds` no further one is waited for after the first so long a silence. Raises `NobodyAnswers` at
        once where nobody can be asked, and when none comes in time; `AccessRefused` without the write right.
        """
        self._correlation_id, self._heard = uuid.uuid4().hex, asyncio.Queue()
        self._publish(to.key, question)
        answers: list[Answer] = []
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while count is None or len(answers) < count:
            left = until - loop.time()
            if answers and silence_seconds is not None:
                left = min(left, silence_seconds)
            try:
                async with asyncio.timeout(max(0.0, left)):
                    heard = await self._heard.get()
            except TimeoutError:
                break
            if isinstance(heard, LeveretError):
                raise heard
            if heard is None:
                raise NobodyAnswers(f"there is no {to.name} to ask at {self._where}; {to.cure}")
            answers.append(heard)
        if not answers:
            raise NobodyAnswers(
                f"no {to.name} at {self._where} has answered within {seconds:g} s: none runs, or it is overloaded; "
                f"{to.cure}"
            )
        return answers

    async def ask_one(self, to: Addressee, question: Mapping[str, object]) -> Answer:
        """Return the first answer. Raises as `ask` does, and `QuestionRefused` when it is a refusal."""
        (answer,) = await self.ask(to, question)
        if "error" in answer:
            raise QuestionRefused(f"the {to.name} refused the question: {printable(answer['error'])}")
        return answer

    @property
    def _where(self) -> str:
        return mask(self._url)

    def _publish(self, key: str, question: Mapping[str, object]) -> None:
        body = json.dumps({"version": VERSION, **question}, ensure_ascii=False, separators=(",", ":")).encode()
        if len(body) > LARGEST_QUESTION_BYTES:
            raise QuestionRefused(
                f"a question of {len(body):,} bytes is not asked: {LARGEST_QUESTION_BYTES:,} are the most; ask for less"
            )
        properties = pika.BasicProperties(
            content_type=CONTENT_TYPE, reply_to=self._reply_key, correlation_id=self._correlation_id
        )
        assert self._connection is not None
        try:
            self._channel.basic_publish(names.CONTROL_EXCHANGE, key, body, properties, mandatory=True)
        except pika_errors.AMQPError as error:
            raise explain(error, self._connection.url) from error

    def _on_answer(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        if properties.correlation_id == self._correlation_id and (answer := read_object(body)) is not None:
            self._heard.put_nowait(answer)

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        if properties.correlation_id == self._correlation_id:
            self._heard.put_nowait(None)

    def _on_channel_closed(self, _channel: Any, reason: BaseException) -> None:
        code = getattr(reason, "reply_code", 0)
        if code == NOT_FOUND:  # nobody has ever declared the exchange
            self._heard.put_nowait(None)
        elif code == REFUSED:
            text = printable(getattr(reason, "reply_text", ""))
            self._heard.put_nowait(
                AccessRefused(
                    f"the broker refused the question: {text}; give this user the rights of a producer, as leveret "
                    "users shows them"
                )
            )
        else:
            self._heard.put_nowait(explain_channel(reason, "a question", self._url))

    def _set_blocked(self, is_blocked: bool) -> None:
        self.is_blocked = is_blocked

    def _on_lost(self, connection: FastConnection, reason: BaseException) -> None:
        self._heard.put_nowait(explain(reason, connection.url))

    @property
    def _url(self) -> str:
        return self._connection.url if self._connection else self._settings.first_amqp_url


def read_object(body: bytes) -> Answer | None:
    """Return the JSON object of version 1 that a question or an answer is; None for anything else."""
    if body is LEFT_OUT or excess(body):
        return None
    try:
        read = read_json(body.decode())
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) and read.get("version") == VERSION else None


async def ask_async(
    settings: Settings,
    to: Addressee,
    question: Mapping[str, object],
    count: int | None = 1,
    seconds: float = ANSWER_SECONDS,
    silence_seconds: float | None = None,
) -> list[Answer]:
    """Connect, ask one question and leave; see `Questions.ask`."""
    questions = Questions(settings)
    try:
        await questions.open()
        return await questions.ask(to, question, count, seconds, silence_seconds)
    finally:
        await questions.close()


def ask(
    settings: Settings,
    to: Addressee,
    question: Mapping[str, object],
    count: int | None = 1,
    seconds: float = ANSWER_SECONDS,
    silence_seconds: float | None = None,
) -> list[Answer]:
    """Do as `ask_async` does, blocking, in any thread."""
    return daemon_thread.call(lambda: asyncio.run(ask_async(settings, to, question, count, seconds, silence_seconds)))
