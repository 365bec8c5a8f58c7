"""One connection that consumes and settles: a channel with its own prefetch for each queue.

It lives until the broker or the network ends any part of it; then `lost` says why, and the worker makes a new
one. A half-alive consumer is worse than none: a cancel or a closed channel ends the whole connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pika import exceptions as pika_errors

from consumers.delivery import Delivery
from consumers.resend import FRAME_BYTES
from consumers.settle import Settler
from topology.connection import ANSWER_TIMEOUT_SECONDS, close, connect, explain, open_channel, server_version
from topology.errors import AccessRefused, BrokerUnreachable, LeveretError, SettingsError, TopologyError
from topology.fast_connection import FastConnection
from topology.queues import WorkQueue
from topology.settings import Settings, mask

_CANCELS_RELIABLY = (4,)
_SILENCE_SECONDS = 15.0

T = TypeVar("T")
OnDelivery = Callable[[Delivery], None]


@dataclass
class _Subscription:
    channel: Any
    settler: Settler
    on_message: Callable[..., None]
    tag: str  # empty while nothing is taken
    prefetch: int
    is_changing: bool = False
    last_heard: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for messages and has none."""
        return bool(self.tag) and not self.settler and not self.is_changing


class Consumer:
    """Consumes from queues until `lost`. Open it before anything else."""

    def __init__(self, settings: Settings, queues: Sequence[WorkQueue], prefetch: int, on_delivery: OnDelivery) -> None:
        self._settings = settings
        self._queues = queues
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._connection: Any = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._settlers: list[Settler] = []
        self._retired: list[_Subscription] = []
        self._renewing: asyncio.Task[None] | None = None
        self._stopped = False
        self.lost: asyncio.Future[LeveretError] = asyncio.get_running_loop().create_future()
        self.all_settled = asyncio.Event()
        self.all_settled.set()

    async def open(self) -> None:
        """Connect and consume.

        Raises `BrokerUnreachable`, `AccessRefused`, `TopologyError` for a queue that is not there, or `SettingsError`
        for a connection whose frames are too small for what a failed message takes along.
        """
        self._connection = await connect(self._settings, "leveret worker", self._on_connection_closed)
        try:
            self._check_frame_size()
            for queue in self._queues:
                await self._consume(queue)
        except BaseException:
            await close(self._connection)
            raise
        if server_version(self._connection) < _CANCELS_RELIABLY:
            self._renewing = asyncio.get_running_loop().create_task(self._renew_silent())

    def _check_frame_size(self) -> None:
        largest = self._connection.params.frame_max
        if largest < FRAME_BYTES:
            raise SettingsError(
                f"the broker at {mask(self._connection.url)} and AMQP_URL allow frames of at most {largest} bytes; the "
                f"headers of a dead message need {FRAME_BYTES}. Set frame_max to that, RabbitMQ's default, or nowhere"
            )

    async def close(self) -> None:
        """Send what is settled and close; the broker takes the rest back."""
        if self._renewing:
            self._renewing.cancel()
        for settler in self._settlers:
            settler.flush()
        if self._connection:
            await close(self._connection)

    def stop_taking(self) -> None:
        """Ask for no more deliveries; a few may still be on their way."""
        self._stopped = True
        for subscription in self._subscriptions.values():
            if subscription.channel.is_open and subscription.tag:
                subscription.channel.basic_cancel(subscription.tag)

    async def ready_messages(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many messages wait in each queue.

        Raises `TopologyError` for one that is not there, `BrokerUnreachable` when the connection ends meanwhile.
        """
        channel = await self._within_limit(open_channel(self._connection))
        counts: dict[str, int] = {}
        for name in names:
            answer = await self._ask(channel, channel.queue_declare, name, passive=True)
            counts[name] = answer.method.message_count
        if channel.is_open:
            channel.close()
        return counts

    async def _consume(self, queue: WorkQueue) -> None:
        """Open a channel for a queue and consume on it."""
        channel = await self._within_limit(open_channel(self._connection))
        settler = Settler(channel, self._on_settled)
        self._settlers.append(settler)
        on_delivery = self._on_delivery

        def on_message(_channel: Any, method: Any, properties: Any, body: bytes) -> None:
            settler.take(method.delivery_tag)
            self.all_settled.clear()
            on_delivery(Delivery(settler, queue, method, properties, body))

        # before the broker can say so: what comes together with its answer would be missed
        channel.add_on_cancel_callback(lambda _frame: self._end(_cancelled(queue.name)))
        channel.add_on_close_callback(lambda _channel, reason: self._on_channel_closed(queue.name, reason))
        former = self._subscriptions.get(queue.name)
        prefetch = former.prefetch if former else self._prefetch
        await self._ask(channel, channel.basic_qos, prefetch_count=prefetch)
        answer = await self._ask(channel, channel.basic_consume, queue.name, on_message)
        subscription = _Subscription(channel, settler, on_message, answer.method.consumer_tag, prefetch)
        self._subscriptions[queue.name] = subscription

    def change_prefetch(self, queue: WorkQueue, prefetch: int, then: Callable[[], None]) -> None:
        """Hold so many unacknowledged messages of a queue from now on; `then` is called when that is so.

        A live consumer keeps its prefetch, so a second one takes its place; what the first holds stays ours.
        """
        subscription = self._subscriptions[queue.name]
        channel = subscription.channel
        if not channel.is_open or subscription.is_changing or subscription.prefetch == prefetch or self._stopped:
            then()
            return
        former = subscription.tag

        def on_consuming() -> None:
            if former and not self._stopped:
                channel.basic_cancel(former)
            then()

        self._take(queue, prefetch, on_consuming)

    def take_only(self, queue: WorkQueue, places: Callable[[], int], first: Callable[[], None]) -> bool:
        """Take no more messages of a queue than there are places then; False while another change is under way.

        The consumer is cancelled, `first` is called, which may hand back what will not come again at once, and
        only then the places are counted. Where there is none, nothing is taken until this is called again.
        """
        subscription = self._subscriptions[queue.name]
        channel = subscription.channel
        if not channel.is_open or self._stopped:
            first()
            return True
        if subscription.is_changing:
            return False
        subscription.is_changing = True

        def on_cancelled(_frame: Any) -> None:
            subscription.tag, subscription.prefetch, subscription.is_changing = "", 0, False
            first()
            if not self._stopped and (count := places()) > 0:
                self._take(queue, count, lambda: None)

        if subscription.tag:
            channel.basic_cancel(subscription.tag, callback=on_cancelled)
        else:
            on_cancelled(None)
        return True

    def _take(self, queue: WorkQueue, prefetch: int, then: Callable[[], None]) -> None:
        """Consume a queue with this prefetch; `then` is called when that is so."""
        subscription = self._subscriptions[queue.name]
        channel = subscription.channel
        subscription.is_changing = True

        def on_consuming(frame: Any) -> None:
            subscription.tag = frame.method.consumer_tag
            subscription.prefetch = prefetch
            subscription.is_changing = False
            if self._stopped:
                channel.basic_cancel(subscription.tag)
            then()

        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue.name, subscription.on_message, callback=on_consuming)

    async def _renew_silent(self) -> None:
        """Consume on a new channel where a queue has been silent for long, for it may not be the queue it was.

        RabbitMQ before 4.0 does not cancel the consumer of a queue that is deleted and declared again at once. It
        hands messages to the old consumer, which never reach it, and takes them back when the channel is closed.
        """
        try:
            while not self._stopped:
                await asyncio.sleep(_SILENCE_SECONDS)
                for queue in self._queues:
                    former = self._subscriptions[queue.name]
                    if former.last_heard == former.settler.last_taken and former.is_idle:
                        former.is_changing = True  # so that nobody else changes it
                        await self._consume(queue)
                        if self._stopped:
                            break
                        await self._ask(former.channel, former.channel.basic_cancel, former.tag)
                        self._retired.append(former)
                    former.last_heard = former.settler.last_taken
                self._close_retired()
            self.stop_taking()  # also what was begun meanwhile
        except LeveretError as error:
            self._end(error)

    def _close_retired(self) -> None:
        """Close the channels that were replaced and hold nothing any more."""
        for subscription in self._retired[:]:
            if not subscription.settler:
                self._retired.remove(subscription)
                self._settlers.remove(subscription.settler)
                if subscription.channel.is_open:
                    subscription.channel.close()

    def prefetch_of(self, queue: WorkQueue) -> int:
        """Return how many unacknowledged messages of a queue are held at most."""
        return self._subscriptions[queue.name].prefetch

    async def _ask(self, channel: Any, method: Callable[..., object], *arguments: Any, **options: Any) -> Any:
        """Call a method of the channel and await the broker's answer, or the error it closes the channel with."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_close(_channel: Any, reason: BaseException) -> None:
            if not answered.done():
                answered.set_exception(self._explain("the queue", reason))

        channel.add_on_close_callback(on_close)
        try:
            method(
                *arguments, **options, callback=lambda frame: None if answered.done() else answered.set_result(frame)
            )
        except pika_errors.AMQPError as error:  # it was closed between two steps
            raise self._explain("the queue", error) from error
        return await self._within_limit(answered)

    async def _within_limit(self, answer: Awaitable[T]) -> T:
        """Await what the broker has to answer; one that does not is as good as lost. Raises `BrokerUnreachable`."""
        try:
            return await asyncio.wait_for(answer, ANSWER_TIMEOUT_SECONDS)
        except TimeoutError:
            silent = BrokerUnreachable(
                f"the broker at {mask(self._connection.url)} has not answered for {ANSWER_TIMEOUT_SECONDS:g} s, though "
                "the connection is open; look at its log, and whether its cluster has a majority"
            )
            self._end(silent)
            raise silent from None

    def _on_settled(self) -> None:
        if not any(self._settlers):
            self.all_settled.set()

    def _on_channel_closed(self, queue: str, reason: BaseException) -> None:
        if not isinstance(reason, pika_errors.ChannelClosedByClient):
            self._end(self._explain(f"queue {queue!r}", reason))

    def _on_connection_closed(self, connection: FastConnection, reason: BaseException) -> None:
        self._end(explain(reason, connection.url))

    def _end(self, reason: LeveretError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    def _explain(self, what: str, reason: BaseException) -> LeveretError:
        code = getattr(reason, "reply_code", 0)
        text = getattr(reason, "reply_text", str(reason))
        if code == 404:
            return TopologyError(f"{text}; declare it: python -m topology.declare --tasks MODULE")
        if code == 403:
            return AccessRefused(f"the broker refused {what}: {text}; give this user the read right on it")
        if code:
            return BrokerUnreachable(f"the broker closed the channel of {what}: {code} {text}")
        return explain(reason, self._connection.url)


def _cancelled(queue: str) -> LeveretError:
    return BrokerUnreachable(
        f"the broker cancelled the consumer of queue {queue!r} (the queue was deleted or moved, or a message was "
        "not acknowledged in time)"
    )
