"""Sending with a coroutine function: one after another, or in groups with their confirms outstanding side by side.

With results: one after another, or all sent in such groups and then awaited in order.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from benchmarks.work import Calls

GROUP = 500


class Sender:
    """Runs coroutines on a loop of its own, or on this one."""

    def __init__(
        self,
        send: Callable[[str, dict[str, Any]], Awaitable[Any]],
        wait: Callable[[Any], Awaitable[Any]] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = loop or asyncio.new_event_loop()
        self._send = send
        self._wait: Any = wait

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

    def result(self, task: str, kwargs: dict[str, Any]) -> Any:
        """Send and wait for the result."""
        return self.loop.run_until_complete(self._result(task, kwargs))

    def gather(self, calls: Calls) -> list[Any]:
        """Send in groups, and wait for each result; to wait for all at once would ask for all, again and again."""
        return self.loop.run_until_complete(self._gather(iter(calls)))

    async def _result(self, task: str, kwargs: dict[str, Any]) -> Any:
        return await self._wait(await self._send(task, kwargs))

    async def _gather(self, calls: Calls) -> list[Any]:
        sent: list[Any] = []
        while group := [self._send(task, kwargs) for task, kwargs in islice(calls, GROUP)]:
            sent += await asyncio.gather(*group)
        return [await self._wait(one) for one in sent]
