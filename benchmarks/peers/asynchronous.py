"""Sending with a coroutine function: one after another, or in groups with their confirms outstanding side by side."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from benchmarks.work import Calls

GROUP = 500


class Sender:
    """Runs coroutines on a loop of its own."""

    def __init__(self, send: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self._send = send

    def one_by_one(self, calls: Calls) -> None:
        """Await each before the next."""
        self.loop.run_until_complete(self._one_by_one(calls))

    def many(self, calls: Calls) -> None:
        """Gather in groups."""
        self.loop.run_until_complete(self._many(iter(calls)))

    async def _one_by_one(self, calls: Calls) -> None:
        for task, kwargs in calls:
            await self._send(task, kwargs)

    async def _many(self, calls: Calls) -> None:
        while group := [self._send(task, kwargs) for task, kwargs in islice(calls, GROUP)]:
            await asyncio.gather(*group)
