"""Reading a stream over a channel of a connection: from its start, and then as it grows.

Nothing depends on it: where the stream is not there, or may not be read, the worker goes on without, and looks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import pika

from leveret.consumers.log import event
from leveret.topology.errors import AccessRefused, LeveretError, TopologyError, UnreadableMessage
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.explaining import explain, explain_channel
from leveret.topology.objects import Binding, Queue

_PREFETCH = 1000
_ACK_EACH = 250
_EMPTY_AFTER_SECONDS = 0.05
"""So long a stream that says it is empty may take to bring a first message after all."""
_FIRST_MESSAGE_SECONDS = 15.0
"""So long one may take that says it has messages."""
_SOON_SECONDS, _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 15.0, 300.0
"""Before looking again: each refusal stands in the broker's log. A node that starts refuses for a moment only."""
_COMPLAINT_SECONDS = 60.0


class StreamReader:
    """Has `on_body` take each message once, in order; a body that it refuses is told of and passed over."""

    def __init__(self, queue: Queue, binding: Binding, may_declare: bool, on_body: Callable[[bytes], None]) -> None:
        self._queue = queue
        self._binding = binding
        self._may_declare = may_declare
        self._on_body = on_body
        self._next = 0  # the offset from which on nothing was read
        self._said = ""
        self._refused = 0
        self._complain_at = 0.0
        self._newest = -1
        self._was_read = False

    async def follow(self, connection: Any, caught_up: asyncio.Event) -> None:
        """Read while the connection is open; `caught_up` is set once all was read that was there, or cannot be here.

        A node that starts lets us in before its streams are there, and says so in several ways. So one that was read,
        or could be declared, is looked for again soon, and is given up only where this user may not read it.
        """
        pause_seconds = _SOON_SECONDS if self._is_expected else _PAUSE_SECONDS
        while connection.is_open:
            try:
                await self._read(connection, caught_up)
            except (LeveretError, pika.exceptions.AMQPError) as error:
                if not connection.is_open:
                    return
                if isinstance(error, AccessRefused) or not self._is_expected:
                    caught_up.set()
                    pause_seconds = max(pause_seconds, _PAUSE_SECONDS)
                self.tell(error if isinstance(error, LeveretError) else explain(error, connection.url))
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * pause_seconds)

    @property
    def name(self) -> str:
        """The name of the stream."""
        return self._queue.name

    @property
    def position(self) -> int:
        """The offset up to which all was read."""
        return self._next

    @property
    def _is_expected(self) -> bool:
        """Whether the stream is to be there, so that its absence is a matter of moments."""
        return self._may_declare or self._was_read

    async def _read(self, connection: Any, caught_up: asyncio.Event) -> None:
        channel, asking, count = await self._find(connection)
        try:
            await self._look_for_end(connection, has_messages=count > 0)
            if self._newest + 1 < self._next:  # it was deleted and made anew
                self._next = 0
            await self._consume(channel, asking, caught_up)
        finally:
            if channel.is_open:
                channel.close()

    async def _consume(self, channel: Any, asking: Asking, caught_up: asyncio.Event) -> None:
        """Read on from where it was left; raises why that has ended."""
        name = self._queue.name
        closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        def on_close(_channel: Any, reason: BaseException) -> None:
            if not closed.done():
                closed.set_result(reason)

        channel.add_on_close_callback(on_close)
        channel.add_on_cancel_callback(lambda _frame: channel.close())
        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_PREFETCH, callback=answer))
        reached = asyncio.Event()

        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            offset = properties.headers["x-stream-offset"]
            if offset >= self._next:
                self._next = offset + 1
                self._take(body)
            if method.delivery_tag % _ACK_EACH == 0 or offset >= self._newest:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if self._next > self._newest:
                reached.set()

        await asking.ask(
            lambda answer: channel.basic_consume(
                name, on_message, arguments={"x-stream-offset": self._next}, callback=answer
            )
        )
        if self._next > self._newest:
            reached.set()
        waiting = asyncio.ensure_future(reached.wait())
        await asyncio.wait((waiting, closed), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        caught_up.set()
        self._was_read = True
        self._said = ""
        reason = await closed
        raise explain_channel(reason, f"stream {name!r}", channel.connection.url)

    async def _look_for_end(self, connection: Any, has_messages: bool) -> None:
        """Learn the offset of the newest message, over another channel: a cancelled consumer would reject, which no
        stream can take.
        """
        self._newest = -1
        channel = await open_channel(connection)
        asking = Asking(channel, f"stream {self._queue.name!r}")
        came = asyncio.Event()

        def on_message(_channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
            self._newest = max(self._newest, properties.headers["x-stream-offset"])
            came.set()

        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_PREFETCH, callback=answer))
        at_end = {"x-stream-offset": "last"}
        await asking.ask(
            lambda answer: channel.basic_consume(self._queue.name, on_message, arguments=at_end, callback=answer)
        )
        with contextlib.suppress(TimeoutError):  # it is empty
            async with asyncio.timeout(_FIRST_MESSAGE_SECONDS if has_messages else _EMPTY_AFTER_SECONDS):
                await came.wait()
        # what came together with the first is here before the answer to this
        await asking.ask(lambda answer: channel.basic_qos(prefetch_count=_PREFETCH, callback=answer))
        if channel.is_open:
            channel.close()

    async def _find(self, connection: Any) -> tuple[Any, Asking, int]:
        """Return a channel on which the stream was seen, and about how many messages it has."""
        name = self._queue.name
        channel = await open_channel(connection)
        asking = Asking(channel, f"stream {name!r}")
        try:
            answer = await asking.ask(lambda answer: channel.queue_declare(name, passive=True, callback=answer))
            return channel, asking, int(answer.method.message_count)
        except TopologyError:
            if not self._may_declare:
                raise
        channel = await open_channel(connection)
        asking = Asking(channel, f"stream {name!r}")
        exchange = self._binding.exchange

        def declare_exchange(answer: Answer) -> None:
            channel.exchange_declare(exchange, "topic", durable=True, callback=answer)

        def declare(answer: Answer) -> None:
            channel.queue_declare(name, durable=True, arguments=self._queue.arguments, callback=answer)

        await asking.ask(declare_exchange)
        await asking.ask(declare)
        await asking.ask(lambda answer: channel.queue_bind(name, exchange, self._binding.routing_key, callback=answer))
        return channel, asking, 0

    def _take(self, body: bytes) -> None:
        try:
            self._on_body(body)
        except UnreadableMessage as error:
            self._refused += 1
            if time.monotonic() >= self._complain_at:
                self._complain_at = time.monotonic() + _COMPLAINT_SECONDS
                event(
                    logging.WARNING,
                    f"a message of {self._queue.name} is passed over: {error}",
                    passed_over=self._refused,
                )

    def tell(self, error: LeveretError) -> None:
        """Log why it cannot be read now, once for each reason."""
        if str(error) != self._said:
            self._said = str(error)
            event(
                logging.WARNING,
                f"{self._queue.name} cannot be read, so this worker goes on without what is said there; leveret "
                f"declare makes it: {error}",
            )
