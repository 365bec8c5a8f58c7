"""What a worker knows of cancels and pauses: all that was said before it started, and what is said while it lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from leveret.consumers.control.stream import StreamReader
from leveret.consumers.log import event
from leveret.consumers.settling.delivery import Delivery
from leveret.topology.control import Command, is_older, read_cancel, read_pause
from leveret.topology.errors import LeveretError
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import is_internal_error
from leveret.topology.objects import CANCELS_LIVE_SECONDS, control_streams
from leveret.topology.settings import Settings

MOST_CANCELS = 100_000
"""Of those that are remembered; the oldest are forgotten first."""
_MOST_PAUSES = 1000
_SILENCE_SECONDS = 5.0
"""A worker that reads no cancel and no pause for so long takes deliveries, though it may not know all of them."""
_SOON_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 15.0
"""Before a stream is read over another connection of its own: each that ends so leaves much in the broker's log."""


class Control:
    """Reads the streams; `on_cancel` is told of ids that were cancelled, `on_pause` of queues, whether they are paused.

    `cancels` are by the id of the task, and `pauses` by the name of the queue.

    RabbitMQ 4.3 closes the connection of who reads a stream that its coordinator does not know, or while most of the
    coordinator's nodes are down. So after an internal error each stream is read over a connection of its own.
    """

    def __init__(
        self,
        settings: Settings,
        may_declare: bool,
        on_cancel: Callable[[Collection[str]], None],
        on_pause: Callable[[str, bool, Command], None],
    ) -> None:
        self.cancels: dict[str, Command] = {}
        self.pauses: dict[str, Command] = {}
        self.is_apart = False
        """Whether the streams are read over connections of their own."""
        self._settings = settings
        self._on_cancel = on_cancel
        self._on_pause = on_pause
        streams = control_streams()
        take = (self._take_cancel, self._take_pause)
        self._readers = [
            StreamReader(queue, binding, may_declare, taker)
            for queue, binding, taker in zip(streams.queues, streams.bindings, take, strict=True)
        ]
        self._reading: list[asyncio.Task[None]] = []
        self._news: set[str] = set()
        self._tell_soon: asyncio.Handle | None = None

    async def read(self, connection: Any) -> None:
        """Read both streams over this connection from now on; returns once all is known, or after some silence."""
        self.stop()
        connection.add_on_close_callback(self._on_closed)
        loop = asyncio.get_running_loop()
        ends = [asyncio.Event() for _ in self._readers]
        self._reading = [
            loop.create_task(self._read_apart(reader, end) if self.is_apart else reader.follow(connection, end))
            for reader, end in zip(self._readers, ends, strict=True)
        ]
        known = loop.create_task(self._know(ends, self._reading))
        before = -1
        try:
            while not known.done() and before != (before := sum(reader.position for reader in self._readers)):
                await asyncio.wait((known,), timeout=_SILENCE_SECONDS)
        finally:
            is_known = not known.cancel()
        if not is_known:
            event(
                logging.WARNING,
                f"not all cancels and pauses are known, and none came for {_SILENCE_SECONDS:g} s; taking tasks, and "
                "reading on",
            )

    async def _know(self, ends: Collection[asyncio.Event], reading: Collection[asyncio.Task[None]]) -> None:
        """Wait until the end of each stream was reached, or the connection is lost."""
        for end, task in zip(ends, reading, strict=True):
            reached = asyncio.ensure_future(end.wait())
            try:
                await asyncio.wait((reached, task), return_when=asyncio.FIRST_COMPLETED)
            finally:
                reached.cancel()

    async def _read_apart(self, reader: StreamReader, end: asyncio.Event) -> None:
        """Read a stream over one connection of its own after the other."""
        pause_seconds = _SOON_SECONDS
        while True:
            began = time.monotonic()
            try:
                connection = await connect(self._settings, f"leveret worker, reading {reader.name}", lambda *_: None)
            except LeveretError as error:
                reader.tell(error)
            else:
                try:
                    await reader.follow(connection, end)
                finally:
                    await close(connection)
            if time.monotonic() - began > _LONGEST_PAUSE_SECONDS:
                pause_seconds = _SOON_SECONDS
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * pause_seconds)

    def _on_closed(self, _connection: Any, reason: BaseException) -> None:
        if is_internal_error(reason) and not self.is_apart:
            self.is_apart = True
            event(
                logging.WARNING,
                "the broker closed the connection with an internal error, as RabbitMQ does where a stream is broken; "
                "cancels and pauses are read over other connections from now on",
            )

    def stop(self) -> None:
        """Read no more."""
        for reading in self._reading:
            reading.cancel()
        self._reading = []

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether a delivery was cancelled after it was submitted, or redriven; notes that in it."""
        command = self.cancels.get(delivery.id)
        if command is None or time.time() - command.at > CANCELS_LIVE_SECONDS:
            return False
        if not is_older(delivery.properties, command):
            return False
        delivery.cancel = command
        return True

    def _take_cancel(self, body: bytes) -> None:
        ids, command = read_cancel(body)
        now = time.time()
        command = command._replace(at=min(command.at, now))  # a clock that is ahead cancels nothing of later
        cancels = self.cancels
        for task_id in ids:
            cancels.pop(task_id, None)
            cancels[task_id] = command
        while cancels:
            oldest = next(iter(cancels))
            if len(cancels) <= MOST_CANCELS and now - cancels[oldest].at <= CANCELS_LIVE_SECONDS:
                break
            del cancels[oldest]
        self._news.update(ids)
        if self._tell_soon is None:  # of all that come in one turn of the loop together
            self._tell_soon = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._tell_soon = None
        news, self._news = self._news, set()
        self._on_cancel(news)

    def _take_pause(self, body: bytes) -> None:
        queue, is_paused, command = read_pause(body)
        self.pauses.pop(queue, None)
        if is_paused:
            self.pauses[queue] = command
            if len(self.pauses) > _MOST_PAUSES:
                del self.pauses[next(iter(self.pauses))]
        self._on_pause(queue, is_paused, command)
