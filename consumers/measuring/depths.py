"""How many messages lie in the queues of a worker, by its own connection: so no management API is needed.

A channel of its own asks from time to time. What the account may not see, or is not there, is asked once for each
connection and left out: nothing is said of it, rather than 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from leveret.topology.errors import AccessRefused, LeveretError, TopologyError
from leveret.topology.link.asking import Answer, Asking
from leveret.topology.link.explaining import AMQPError
from leveret.topology.names import dlq_name, retry_queue
from leveret.topology.queues import WorkQueue

_EACH_SECONDS = 10.0
OpenChannel = Callable[[], Awaitable[Any]]


class Depth(NamedTuple):
    """Messages of a work queue that are ready there, wait for another attempt, or are dead."""

    queue: str
    state: str


class Depths:
    """Asks until it is stopped, over the connection that there is."""

    def __init__(self, queues: Sequence[WorkQueue], connection: Callable[[], OpenChannel | None]) -> None:
        """`connection` returns what opens a channel; None while there is no connection."""
        self._names = [(Depth(queue.name, state), name) for queue in queues for state, name in _queues_of(queue)]
        self._connection = connection
        self.messages: dict[Depth, int] = {}
        self._asking = asyncio.get_running_loop().create_task(self._ask_again_and_again())

    def stop(self) -> None:
        """Ask no more."""
        self._asking.cancel()

    async def _ask_again_and_again(self) -> None:
        former, refused = None, set[str]()
        while True:
            open_channel = self._connection()
            if open_channel != former:
                former, refused = open_channel, set()
            self.messages = await self._ask(open_channel, refused) if open_channel else {}
            await asyncio.sleep(_EACH_SECONDS if open_channel else 1.0)

    async def _ask(self, open_channel: OpenChannel, refused: set[str]) -> dict[Depth, int]:
        """Ask for each queue, and remember which are refused: each refusal costs the channel."""
        messages: dict[Depth, int] = {}
        missing: set[Depth] = set()
        channel = None
        try:
            for depth, name in self._names:
                if name in refused:
                    missing.add(depth)
                    continue
                if channel is None or not channel.is_open:
                    channel = await open_channel()
                    asking = Asking(channel, "how many messages there are")
                try:
                    answer = await asking.ask(functools.partial(_declare_passively, channel, name))
                except (AccessRefused, TopologyError):
                    refused.add(name)
                    missing.add(depth)
                    continue
                messages[depth] = messages.get(depth, 0) + answer.method.message_count
        except LeveretError:  # the connection has ended, or the broker does not answer: it is known elsewhere
            return {}
        finally:
            if channel is not None and channel.is_open:
                with contextlib.suppress(AMQPError):  # the connection ends at this moment
                    channel.close()
        return {depth: count for depth, count in messages.items() if depth not in missing}


def _queues_of(queue: WorkQueue) -> Iterator[tuple[str, str]]:
    for name in queue.waits_in:
        yield "ready", name
    for tier, delay in enumerate(queue.retry_delays, start=1):
        yield "retrying", retry_queue(queue.name, tier, delay)
    yield "dead", dlq_name(queue.name)


def _declare_passively(channel: Any, queue: str, answer: Answer) -> None:
    channel.queue_declare(queue, passive=True, callback=answer)
