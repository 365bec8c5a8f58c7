"""The thread that publishes for others: callers hand batches of messages over, an outbox on its loop sends them.

No lock is taken on the way, for a signal handler may submit amid a submit of its own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence

from leveret.producers.batch import Batch
from leveret.producers.following.replies import Replies
from leveret.producers.submissions import Submissions
from leveret.topology.errors import BrokerUnreachable, PublishError
from leveret.topology.link import daemon_thread, pika_log
from leveret.topology.link.outbox import Outbox
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, mask

_SAY_SECONDS = 1.0
"""So long a program that ends waits in silence for what it has handed over."""


class Sender:
    """Takes batches from any thread until it is closed; belongs to the process that made it.

    Raises `PublishError` when Python starts no thread for it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        pika_log.silence()
        self._loop = asyncio.new_event_loop()
        self._outbox: Outbox | None = None
        self._submissions: Submissions
        self._replies: Replies | None = None
        self._handed_over: deque[Batch] = deque()
        self._told_to_close = asyncio.Event()
        self._is_closed = self._program_ends = False
        self._thread = threading.Thread(target=self._run, name=f"{daemon_thread.THREAD_NAMES}publisher", daemon=True)
        try:
            daemon_thread.refuse_at_the_end()  # where a thread would be frozen before its first line
            self._thread.start()
        except (RuntimeError, PublishError) as error:
            self._loop.close()
            raise without_thread(error) from error

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
        replies: Replies | None = None,
    ) -> Batch:
        """Give messages to the thread, which calls `on_ended` when all their outcomes are known.

        Raises `PublishError` when this is closed, was made before a fork, or cannot publish any more.
        """
        self._check_usable()
        batch = Batch(messages, route, self._settings.message_limit_bytes, timeout_seconds, on_ended, replies)
        self._handed_over.append(batch)
        if self._is_closed and self._takes_back(batch):
            raise PublishError("this Publisher is closed; make a new one")
        # Each time, for an interrupt may have come in between the last time.
        with contextlib.suppress(RuntimeError):  # closed this moment, and `_serve` has taken it
            self._loop.call_soon_threadsafe(self._send_all)
        return batch

    @property
    def replies(self) -> Replies | None:
        """Where this process waits for results, once it does."""
        return self._replies

    def open_replies(self, timeout_seconds: float | None) -> Replies:
        """Return where results are waited for, which has to be there before what leads to them is published.

        Blocks the first time. Raises `BrokerUnreachable`, `AccessRefused` or `TopologyError` when it cannot be.
        """
        if (replies := self._replies) is not None and replies.is_open:
            return replies
        self._check_usable()
        if self._is_closed:
            raise PublishError("this Publisher is closed; make a new one")
        seconds = self._settings.publish_timeout_seconds if timeout_seconds is None else timeout_seconds
        opening = asyncio.run_coroutine_threadsafe(self._open_replies(), self._loop)
        try:
            return daemon_thread.call(opening.result, seconds)  # a signal handler may do the same meanwhile
        except TimeoutError as error:
            raise BrokerUnreachable(
                f"nothing at {mask(self._settings.amqp_url)} has let this process wait for results within {seconds:g} s"
            ) from error

    async def _open_replies(self) -> Replies:
        if self._replies is None or self._replies.is_refused:
            self._replies = Replies(self._settings)
        replies = self._replies
        await replies.open()
        return replies

    def _check_usable(self) -> None:
        if not self.is_of_this_process:
            raise PublishError(
                f"this Publisher was made in process {self._pid} and cannot be used in process {os.getpid()}, which "
                "was forked from it; make a new Publisher after the fork"
            )
        daemon_thread.refuse_at_the_end()

    def close(self, program_ends: bool = False) -> None:
        """Wait for what was handed over, then close the connection.

        When the program ends, say on stderr what is waited for, and give up what cannot arrive as things are.
        """
        if not self.is_of_this_process or sys.is_finalizing():  # its thread does not run here, or not any more
            return
        self._program_ends = self._program_ends or program_ends
        with contextlib.suppress(RuntimeError):  # it is closed already
            self._loop.call_soon_threadsafe(self._told_to_close.set)  # after what was handed over before
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        await self._told_to_close.wait()
        self._is_closed = True
        self._send_all()  # what another thread handed over before that
        if self._outbox is not None:
            self._submissions.close()
            await self._close(self._outbox)
        if self._replies is not None:
            await self._replies.close()

    async def _close(self, outbox: Outbox) -> None:
        closing = self._loop.create_task(outbox.close(wait=True))
        has_said = False
        while not (await asyncio.wait([closing], timeout=_SAY_SECONDS))[0]:
            if not self._program_ends:
                continue
            if because := outbox.stuck_because:
                _say(f"gave up {len(outbox)} message(s) that were not confirmed: {because}")
                outbox.give_up()
            elif not has_said:
                has_said = True
                where, seconds = mask(self._settings.amqp_url), outbox.longest_seconds
                _say(f"waiting for the broker at {where} to confirm {len(outbox)} message(s), at most {seconds:.0f} s")
        await closing

    def _send_all(self) -> None:
        for _ in range(len(self._handed_over)):
            try:
                batch = self._handed_over.popleft()
            except IndexError:  # its caller has taken it back
                return
            if self._outbox is None:
                self._outbox = Outbox(self._settings, "leveret producer")
                self._submissions = Submissions(self._outbox)
            batch.send(self._outbox, self._submissions)

    def _takes_back(self, batch: Batch) -> bool:
        """Whether a batch is still here, and from now on not any more."""
        try:
            self._handed_over.remove(batch)
        except ValueError:
            return False
        return True


def without_thread(error: Exception) -> PublishError:
    """Say that no publisher can be made, for Python starts no thread."""
    return PublishError(
        f"no Publisher can be made, for it needs a thread: {error}; in a program that ends, make it or submit the "
        "first message before that"
    )


def _say(text: str) -> None:
    if sys.stderr is not None:  # a program may have none
        print(f"leveret: {printable(text)}", file=sys.stderr, flush=True)
