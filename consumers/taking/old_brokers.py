"""What RabbitMQ before 4.0 needs: consuming anew where a queue has been silent for long.

It does not cancel the consumer of a queue that is deleted and declared again at once. It hands messages to the old
consumer, which never reach it, and takes them back when the channel is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from leveret.consumers.taking.subscription import Subscription

CANCELS_RELIABLY = (4,)
_SILENCE_SECONDS = 15.0


class Renewal:
    """Replaces subscriptions that hear nothing; `subscribe` makes a new one for a queue and enters it."""

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
        self.is_stopped = False

    async def run(self) -> None:
        """Look again and again until stopped. Raises what consuming fails with."""
        while not self.is_stopped:
            await asyncio.sleep(_SILENCE_SECONDS)
            for name, former in list(self._subscriptions.items()):
                if former.last_heard == former.settler.last_taken and former.is_idle:
                    former.is_changing = True  # so that nobody else changes it
                    await self._subscribe(name)
                    if self.is_stopped:
                        return
                    await former.cancel()
                    self._retired.append(former)
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
