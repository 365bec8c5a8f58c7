"""Asking the broker something and awaiting its answer: with a time limit, and in our own words when it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from pika import exceptions as pika_errors
from pika import spec

from leveret.topology.errors import BrokerUnreachable, LeveretError
from leveret.topology.link.explaining import explain, explain_channel
from leveret.topology.settings import mask

ANSWER_TIMEOUT_SECONDS = 40.0  # a cluster without a majority answers a declare after 15 to 30 s

T = TypeVar("T")
Answer = Callable[[Any], None]


class Got(NamedTuple):
    """A message as pika has it."""

    method: Any
    properties: Any
    body: bytes


async def within_limit(answer: Awaitable[T], url: str) -> T:
    """Await what the broker has to answer. Raises `BrokerUnreachable` when it does not."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            return await answer
    except TimeoutError:
        raise BrokerUnreachable(
            f"the broker at {mask(url)} has not answered for {ANSWER_TIMEOUT_SECONDS:g} s, though the connection is "
            "open; look at its log, and whether all nodes of its cluster run"
        ) from None


async def open_channel(connection: Any) -> Any:
    """Open a channel.

    Raises `BrokerUnreachable` when it, or the connection, is closed before it is open, or the broker does not answer.
    """
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_open(channel: Any) -> None:
        if not opened.done():
            opened.set_result(channel)

    def on_close(_channel: Any, reason: BaseException) -> None:
        if not opened.done():
            opened.set_exception(explain(reason, connection.url))

    try:
        # A callback of the channel, which the end of the connection also calls: one of the connection would outlive it.
        connection.channel(on_open_callback=on_open).add_on_close_callback(on_close)
    except pika_errors.AMQPError as error:
        raise explain(error, connection.url) from error
    return await within_limit(opened, connection.url)


class Asking:
    """Asks on one channel, one thing at a time. Once the channel is closed, all that it is asked raises why.

    `what` is what the channel is used for, such as "queue 'mail'". `on_silent` is told when an answer does not come.
    """

    def __init__(
        self, channel: Any, what: str, on_silent: Callable[[LeveretError], None] = lambda _error: None
    ) -> None:
        self._channel = channel
        self._what = what
        self._on_silent = on_silent
        self._answer: asyncio.Future[Any] | None = None
        self._closed_because: LeveretError | None = None  # kept, for it may come together with an answer
        self._hears_of_nothing = False
        channel.add_on_close_callback(self._on_close)

    async def ask(self, send: Callable[[Answer], object]) -> Any:
        """Have `send` send the question, with what is to be called with the answer; returns the answer.

        Raises what the broker closes the channel with, in our words, or `BrokerUnreachable`.
        """
        if self._closed_because:
            raise self._closed_because
        self._answer = answer = asyncio.get_running_loop().create_future()
        try:
            send(self._set)
        except pika_errors.AMQPError as error:  # it was closed between two steps
            raise self._explain(error) from error
        try:
            return await within_limit(answer, self._channel.connection.url)
        except BrokerUnreachable as error:
            if self._closed_because is None:
                self._on_silent(error)
            raise

    async def get(self, queue: str) -> Got | None:
        """Get the next message of a queue, which is held until it is settled; None where none is ready.

        Never hold more than 32 of a queue by this: to the broker each of them is a consumer. RabbitMQ 3.10.8 gives back
        what more than 32 consumers of a channel held, after a kill, in an order that is another each time it starts.
        Killed once more, it reads from its log that others acknowledged the third message, and takes out one that they
        never had (tried: of 60 that were acknowledged, 43 came again, and 43 others were gone).
        """
        if not self._hears_of_nothing:
            self._hears_of_nothing = True
            self._channel.add_callback(lambda _frame: self._set(None), [spec.Basic.GetEmpty], one_shot=False)

        def send(answer: Answer) -> None:
            self._channel.basic_get(queue, lambda _channel, *message: answer(Got(*message)))

        got: Got | None = await self.ask(send)
        return got

    def _set(self, answer: Any) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(answer)

    def _on_close(self, _channel: Any, reason: BaseException) -> None:
        self._closed_because = self._explain(reason)
        if self._answer and not self._answer.done():
            self._answer.set_exception(self._closed_because)

    def _explain(self, reason: BaseException) -> LeveretError:
        return explain_channel(reason, self._what, self._channel.connection.url)
