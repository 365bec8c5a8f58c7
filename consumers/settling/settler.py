"""Settling the deliveries of one channel: acknowledgements run together, rejections one by one.

Finished deliveries below the lowest unfinished one leave as a single `basic.ack(multiple=True)`. A tag belongs
to its channel: once that is gone the broker has taken the messages back, and settling them is a no-op.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

_FINISHED = -1


class Settler:
    """Acknowledges and rejects on one channel, and knows what is still unsettled.

    `level` is that of all that comes by the channel, where the queue has priorities: 0 is the highest.
    """

    def __init__(
        self, channel: Any, on_all_settled: Callable[[], None], on_freed: Callable[[int], None], level: int = 0
    ) -> None:
        self.level = level
        self._channel = channel
        self._on_all_settled = on_all_settled
        self._on_freed = on_freed
        self._open: dict[int, int] = {}  # delivery tag → bytes of its body, or finished, in the order of delivery
        self._finished: list[int] = []
        self._flush_soon: asyncio.Handle | None = None
        self.last_taken = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_open(self) -> bool:
        """Whether the channel can still carry a settlement."""
        return bool(self._channel.is_open)

    def take(self, tag: int, size: int) -> None:
        """Note a delivery, with the bytes of its body that are held until it is settled."""
        self._open[tag] = size
        self.last_taken = tag

    def ack(self, tag: int) -> bool:
        """Acknowledge a delivery, together with others that finish now; False when its channel is gone."""
        if not self._channel.is_open:
            return False
        self._on_freed(self._open[tag])
        self._open[tag] = _FINISHED
        self._finished.append(tag)
        if self._flush_soon is None:
            self._flush_soon = asyncio.get_running_loop().call_soon(self.flush)
        return True

    def nack(self, tag: int, requeue: bool) -> bool:
        """Reject a delivery, into the dead-letter side or back into the queue; False when its channel is gone."""
        if not self._channel.is_open:
            return False
        self._on_freed(self._open.pop(tag))
        self._channel.basic_nack(tag, multiple=False, requeue=requeue)
        self._tell_if_all_settled()
        return True

    def flush(self) -> None:
        """Send the acknowledgements now."""
        self._flush_soon = None
        finished, self._finished = self._finished, []
        if not finished or not self._channel.is_open:
            return
        last = 0
        for tag, size in self._open.items():
            if size != _FINISHED:
                break
            last = tag
        if last:
            self._channel.basic_ack(last, multiple=True)
        for tag in finished:
            del self._open[tag]
            if tag > last:
                self._channel.basic_ack(tag)
        self._tell_if_all_settled()

    def _tell_if_all_settled(self) -> None:
        if not self._open:
            self._on_all_settled()
