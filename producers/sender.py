"""The thread that publishes for others: callers hand batches of messages over, an outbox on its loop sends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Sequence

from leveret.producers.batch import Batch
from leveret.topology.errors import PublishError
from leveret.topology.link.outbox import Outbox
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.settings import Settings


class Sender:
    """Takes batches from any thread until it is closed; belongs to the process that made it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._outbox: Outbox | None = None
        self._handed_over: list[Batch] = []
        self._lock = threading.Lock()
        self._is_told_to_close = self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="leveret publisher", daemon=True)
        self._thread.start()

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was made here, and not before a fork."""
        return self._pid == os.getpid()

    def hand_over(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        timeout_seconds: float | None = None,
        on_ended: Callable[[], None] | None = None,
    ) -> Batch:
        """Give messages to the thread, which calls `on_ended` when all their outcomes are known.

        Raises `PublishError` when this is closed, or was made before a fork.
        """
        if not self.is_of_this_process:
            raise PublishError(
                f"this Publisher was made in process {self._pid} and cannot be used in process {os.getpid()}, which "
                "was forked from it; make a new Publisher after the fork"
            )
        batch = Batch(messages, route, self._settings.message_limit_bytes, timeout_seconds, on_ended)
        with self._lock:
            if self._is_closed:
                raise PublishError("this Publisher is closed; make a new one")
            self._handed_over.append(batch)
        # Without the lock, which the thread would wake up only to wait for; and each time, for an interrupt may have
        # come in between the last time.
        with contextlib.suppress(RuntimeError):  # closed this moment, and `_finish` has taken it
            self._loop.call_soon_threadsafe(self._send_all)
        return batch

    def close(self) -> None:
        """Wait for what was handed over, then close the connection."""
        if not self.is_of_this_process:
            return
        with self._lock:
            if not self._is_told_to_close:  # a second stop would end the wait for what was handed over
                self._loop.call_soon_threadsafe(self._loop.stop)  # after what was handed over before
                self._is_told_to_close = True  # afterwards, for an interrupt may come in between
        self._thread.join()
        with self._lock:
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._finish())

    async def _finish(self) -> None:
        with self._lock:
            self._is_closed = True
        self._send_all()  # what another thread handed over before that
        if self._outbox is not None:
            await self._outbox.close(wait=True)

    def _send_all(self) -> None:
        with self._lock:
            handed, self._handed_over = self._handed_over, []
        for batch in handed:
            if self._outbox is None:
                self._outbox = Outbox(self._settings, "leveret producer")
            batch.send(self._outbox)
