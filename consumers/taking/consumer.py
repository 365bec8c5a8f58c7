"""One connection that consumes and settles: a subscription for each queue, and for each level of one with priorities.

It lives until the broker or the network ends any part of it; then `lost` says why, and the worker makes a new
one. A half-alive consumer is worse than none: a cancel or a closed channel ends the whole connection.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from leveret.consumers.settling.held import Held
from leveret.consumers.settling.products import FRAME_BYTES
from leveret.consumers.settling.settler import Settler
from leveret.consumers.taking.old_brokers import CANCELS_RELIABLY, Renewal
from leveret.consumers.taking.subscription import Subscription, Takers
from leveret.topology.errors import BrokerUnreachable, LeveretError, SettingsError
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.connection import close, connect, server_version
from leveret.topology.link.explaining import explain, explain_closed
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, mask


class Consumer:
    """Consumes from queues until `lost`. Open it before anything else."""

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[WorkQueue],
        prefetch: Mapping[str, int],
        takers: Takers,
        processes: int,
        prepare: Callable[[FastConnection], Awaitable[None]] | None = None,
        is_paused: Callable[[str], bool] = lambda _queue: False,
    ) -> None:
        """`prepare` uses the connection before anything is taken; of paused queues nothing is taken then."""
        self._settings = settings
        self._queues = {name: queue for queue in queues for name in queue.waits_in}
        self._prefetch = prefetch
        self._takers = takers
        self._prepare = prepare
        self._is_paused = is_paused
        self._held = Held(settings.message_limit_bytes, processes)
        self._connection: Any = None
        self._subscriptions: dict[str, Subscription] = {}
        self._settlers: list[Settler] = []
        self._renewal = Renewal(self._subscriptions, self._subscribe, self._retire)
        self.is_old = False
        """Whether the broker is one for which `old_brokers` is."""
        self._renewing: asyncio.Task[None] | None = None
        self.lost: asyncio.Future[LeveretError] = asyncio.get_running_loop().create_future()
        self.all_settled = asyncio.Event()
        self.all_settled.set()

    async def open(self) -> None:
        """Connect and consume.

        Raises `BrokerUnreachable`, `AccessRefused`, `TopologyError` for a queue that is not there, or `SettingsError`
        for a connection whose frames are too small for what a failed message takes along.
        """
        role = f"leveret worker of {','.join(self._prefetch)} at"
        self._connection = await connect(self._settings, role, self._on_connection_closed)
        try:
            self._check_frame_size()
            self.is_old = server_version(self._connection) < CANCELS_RELIABLY
            if self._prepare:
                await self._prepare(self._connection)
            for name in self._queues:
                await self._subscribe(name)
        except BaseException as error:
            why = self.lost.result() if self.lost.done() else error  # of which the error only follows
            await close(self._connection)
            if isinstance(error, LeveretError):
                raise why from error.__cause__
            raise
        if self.is_old:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

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
        self._renewal.is_stopped = True
        for subscription in self._subscriptions.values():
            subscription.stop()

    async def ready_messages(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many messages wait in each queue.

        Raises `TopologyError` for one that is not there, `BrokerUnreachable` when the connection ends meanwhile.
        """
        channel = await self._open_channel()
        counts: dict[str, int] = {}
        for name in names:
            asking = Asking(channel, f"queue {name!r}", self._end)
            answer = await asking.ask(functools.partial(_declare_passively, channel, name))
            counts[name] = answer.method.message_count
        if channel.is_open:
            channel.close()
        return counts

    async def open_channel(self) -> Any:
        """Open a channel for something beside, which may end without an end to what is taken.

        Raises `BrokerUnreachable` when the connection has ended.
        """
        return await open_channel(self._connection)

    def prefetch_of(self, queue: WorkQueue) -> int:
        """Return how many unacknowledged messages of a queue, or of each of its levels, are held at most."""
        return self._subscriptions[queue.name].prefetch

    def change_prefetch(self, queue: WorkQueue, prefetch: int, then: Callable[[], None]) -> None:
        """Hold so many of a queue, or of each of its levels, from now on; see `Subscription.change_prefetch`."""
        subscriptions = self._subscriptions_of(queue)
        is_last = _counted(len(subscriptions), then)
        for subscription in subscriptions:
            subscription.change_prefetch(prefetch, is_last)

    def take_only(self, queue: WorkQueue, places: Callable[[], int], first: Callable[[], None]) -> bool:
        """Take no more of a queue, or of each of its levels, than there are places; see `Subscription.take_only`."""
        subscriptions = self._subscriptions_of(queue)
        if len(subscriptions) == 1:
            return subscriptions[0].take_only(places, first)
        if any(subscription.is_changing for subscription in subscriptions):
            return False

        def on_cancelled() -> None:
            first()
            count = places()
            for subscription in subscriptions:
                if count > 0:
                    subscription.change_prefetch(count, lambda: None)

        is_last = _counted(len(subscriptions), on_cancelled)
        for subscription in subscriptions:
            subscription.take_only(lambda: 0, is_last)
        return True

    def _subscriptions_of(self, queue: WorkQueue) -> list[Subscription]:
        return [self._subscriptions[name] for name in queue.waits_in]

    async def _subscribe(self, name: str) -> None:
        """Open a channel for a queue and consume on it."""
        channel = await self._open_channel()
        self._connection.judge_bodies(channel, self._held.may_take)
        # before the broker can say so: what comes together with its answer would be missed
        channel.add_on_cancel_callback(lambda _frame: self._end(_cancelled(name)))
        channel.add_on_close_callback(lambda _channel, reason: self._on_channel_closed(name, reason))
        former = self._subscriptions.get(name)
        queue = self._queues[name]
        subscription = Subscription(
            queue,
            name,
            channel,
            former.prefetch if former else 0 if self._is_paused(queue.name) else self._prefetch[queue.name],
            self._takers,
            self._held,
            self.all_settled,
            self._on_settled,
            self._end,
            self._renewal.look_now if self.is_old else None,
        )
        self._settlers.append(subscription.settler)
        await subscription.open()
        self._subscriptions[name] = subscription

    async def _open_channel(self) -> Any:
        try:
            return await open_channel(self._connection)
        except LeveretError as error:
            self._end(error)
            raise

    async def _renew(self) -> None:
        try:
            await self._renewal.run()
            self.stop_taking()  # also what was begun meanwhile
        except LeveretError as error:
            self._end(error)

    def _retire(self, subscription: Subscription) -> None:
        self._settlers.remove(subscription.settler)

    def _on_settled(self) -> None:
        if not any(self._settlers):
            self.all_settled.set()

    def _on_channel_closed(self, queue: str, reason: BaseException) -> None:
        if error := explain_closed(reason, f"queue {queue!r}", self._connection.url):
            self._end(error)

    def _on_connection_closed(self, connection: FastConnection, reason: BaseException) -> None:
        self._end(explain(reason, connection.url))

    def _end(self, reason: LeveretError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)


def _counted(times: int, then: Callable[[], None]) -> Callable[[], None]:
    """Return what is to be called so often, the last time of which calls `then`."""
    left = itertools.count(times - 1, -1)
    return lambda: then() if next(left) == 0 else None


def _declare_passively(channel: Any, queue: str, answer: Answer) -> None:
    channel.queue_declare(queue, passive=True, callback=answer)


def _cancelled(queue: str) -> LeveretError:
    return BrokerUnreachable(
        f"the broker cancelled the consumer of queue {queue!r} (the queue was deleted or moved, or a message was "
        "not acknowledged in time)"
    )
