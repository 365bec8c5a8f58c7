"""One consumer of one queue: its channel, its prefetch, and changing that while it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.held import Held
from leveret.consumers.settling.settler import Settler
from leveret.topology.errors import LeveretError
from leveret.topology.link.asking import Asking
from leveret.topology.link.bodies import LEFT_OUT
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.queues import WorkQueue

MOST_CONSUMERS = 30
"""On one channel, where `old_brokers` says so."""

OnDelivery = Callable[[Delivery], None]


class Takers(NamedTuple):
    """Who gets the deliveries: those that are here, and those whose body was left out for lack of room."""

    on_delivery: OnDelivery
    on_left_out: OnDelivery


class Subscription:
    """Takes the messages of a work queue, or of one level of it, over a channel of its own, once it was opened.

    `name` is that of the broker's queue. Consumer tags are host, process, that name and a number, for RabbitMQ's own
    pages to tell workers apart.
    """

    def __init__(
        self,
        queue: WorkQueue,
        name: str,
        channel: Any,
        prefetch: int,
        takers: Takers,
        held: Held,
        all_settled: asyncio.Event,
        on_all_settled: Callable[[], None],
        on_silent: Callable[[LeveretError], None],
        on_worn: Callable[[], None] | None = None,
    ) -> None:
        """`on_worn` is called when the channel has had so many consumers that another should take its place."""
        self.channel = channel
        self.settler = Settler(channel, on_all_settled, held.free, queue.waits_in.index(name))
        self.prefetch = prefetch
        self.is_changing = False
        self.is_worn = False
        """Whether another is about to take its place; until then nobody else changes it."""
        self.last_heard = 0
        self._queue = queue
        self._name = name
        self._takers = takers
        self._held = held
        self._all_settled = all_settled
        self._on_worn = on_worn
        self._asking = Asking(channel, f"queue {name!r}", on_silent)
        self._tag = ""  # empty while nothing is taken
        self._tags = 0  # so many consumers there were
        self._is_stopped = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for messages and has none."""
        return bool(self._tag) and not self.settler and not self.is_changing

    async def open(self) -> None:
        """Begin to take, unless its prefetch is none. Raises what the broker refuses it with."""
        if not self.prefetch:  # which to the broker would mean any number
            return
        await self._asking.ask(lambda answer: self.channel.basic_qos(prefetch_count=self.prefetch, callback=answer))
        answer = await self._asking.ask(self._consume)
        self._tag = answer.method.consumer_tag

    async def cancel(self) -> None:
        """Take nothing more; what was taken can still be settled."""
        tag, self._tag = self._tag, ""
        if not tag:
            return
        await self._asking.ask(lambda answer: self.channel.basic_cancel(tag, callback=answer))

    def stop(self) -> None:
        """Take nothing more, without waiting for that; a few deliveries may still be on their way."""
        self._is_stopped = True
        if self.channel.is_open and self._tag:
            self.channel.basic_cancel(self._tag)

    def change_prefetch(self, prefetch: int, then: Callable[[], None]) -> None:
        """Hold so many unacknowledged messages from now on; `then` is called when that is so.

        A live consumer keeps its prefetch, so a second one takes its place; what the first holds stays ours.
        """
        if not self.channel.is_open or self.is_changing or self.prefetch == prefetch or self._is_stopped:
            then()
            return
        former = self._tag

        def on_consuming() -> None:
            if former and not self._is_stopped:
                self.channel.basic_cancel(former)
            then()

        self._take(prefetch, on_consuming)

    def take_only(self, places: Callable[[], int], first: Callable[[], None]) -> bool:
        """Take no more messages than there are places then; False while another change is under way.

        The consumer is cancelled, `first` is called, which may hand back what will not come again at once, and
        only then the places are counted. Where there is none, nothing is taken until this is called again.
        """
        if not self.channel.is_open or self._is_stopped:
            first()
            return True
        if self.is_changing:
            return False
        self.is_changing = True

        def on_cancelled(_frame: Any) -> None:
            self._tag, self.prefetch, self.is_changing = "", 0, False
            first()
            if not self._is_stopped and (count := places()) > 0:
                self._take(count, lambda: None)

        if self._tag:
            self.channel.basic_cancel(self._tag, callback=on_cancelled)
        else:
            on_cancelled(None)
        return True

    def _take(self, prefetch: int, then: Callable[[], None]) -> None:
        """Consume with this prefetch; `then` is called when that is so."""
        self.is_changing = True

        def on_consuming(frame: Any) -> None:
            self._tag = frame.method.consumer_tag
            self.prefetch = prefetch
            self.is_changing = self.is_worn = self._on_worn is not None and self._tags >= MOST_CONSUMERS
            if self._is_stopped:
                self.channel.basic_cancel(self._tag)
            then()
            if self._on_worn and self.is_worn:
                self._on_worn()

        self.channel.basic_qos(prefetch_count=prefetch)
        self._consume(on_consuming)

    def _consume(self, callback: Callable[[Any], None]) -> None:
        self._tags += 1
        tag = f"{host_and_pid()} {self._name} {self.channel.channel_number}.{self._tags}"
        self.channel.basic_consume(self._name, self._on_message, consumer_tag=tag, callback=callback)

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._all_settled.clear()
        size = len(body)
        if body is LEFT_OUT or not self._held.take(size):
            self.settler.take(method.delivery_tag, 0)
            self._takers.on_left_out(Delivery(self.settler, self._queue, method, properties, LEFT_OUT))
            return
        self.settler.take(method.delivery_tag, size)
        self._takers.on_delivery(Delivery(self.settler, self._queue, method, properties, body))
