"""What RabbitMQ before 4.0 needs: another channel where a queue has been silent for long, or after many consumers.

It does not cancel the consumer of a queue that is deleted and declared again at once. It hands messages to the old
consumer, which never reach it, and takes them back when the channel is closed.

When a node is killed, it gives back what the consumers of a channel held, in an order that is another at its next
start if more than 32 of them held something. Killed once more, it takes out others than those that were acknowledged
in between (3.10.8; see `Asking.get`). Each change of a prefetch makes one more consumer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from leveret.consumers.taking.subscription import Subscription

CANCELS_RELIABLY = (4,)
_SILENCE_SECONDS = 15.0


class Renewal:
    """Replaces subscriptions that hear nothing, or are worn; `subscribe` makes a new one for a queue and enters it."""

    def __init__(
        self,
        subscriptions: dict[str, Subscription],
        subscribe: Callable[[str], Awaitable[None]],
        retire: Callable[[Subscription], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._subscribe = subscribe
        self._retire = retire
        self._retired: list[Subscription] = []
        self._look_now = asyncio.Event()
        self.is_stopped = False

    def look_now(self) -> None:
        """Wait no longer with the next look, for a subscription is worn."""
        self._look_now.set()

    async def run(self) -> None:
        """Look again and again until stopped. Raises what consuming fails with."""
        loop = asyncio.get_running_loop()
        next_turn = loop.time() + _SILENCE_SECONDS
        while not self.is_stopped:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_turn):
                    await self._look_now.wait()
            self._look_now.clear()
            if is_in_turn := loop.time() >= next_turn:
                next_turn = loop.time() + _SILENCE_SECONDS
            for name, former in list(self._subscriptions.items()):
                is_silent = is_in_turn and former.last_heard == former.settler.last_taken and former.is_idle
                if is_silent or former.is_worn:
                    former.is_changing = True  # so that nobody else changes it
                    await self._subscribe(name)
                    if self.is_stopped:
                        return
                    await former.cancel()
                    self._retired.append(former)
                if is_in_turn:
                    former.last_heard = former.settler.last_taken
            self._close_retired()

    def _close_retired(self) -> None:
        """Close the channels that were replaced and hold nothing any more."""
        for subscription in self._retired[:]:
            if not subscription.settler:
                self._retired.remove(subscription)
                self._retire(subscription)
                if subscription.channel.is_open:
                    subscription.channel.close()
