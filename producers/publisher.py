"""The publisher: confirmed publishing from plain scripts, threads and asyncio.

One background thread runs an outbox; callers hand messages over and wait for the broker's word. A module-level
publisher, made when first used, serves `submit`, `submit_many` and `submit_async`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pika

from producers.not_routed import with_nearest_binding
from topology import broker, settings
from topology.errors import LeveretError, MessageError, NotRouted, PartlySubmitted, PublishError
from topology.message import CONTENT_ENCODING, CONTENT_TYPE, TaskMessage, check_size
from topology.names import Route
from topology.outbox import Outbox, Outgoing

_CHUNK = 1000
_PERSISTENT = pika.DeliveryMode.Persistent.value

Outcome = LeveretError | None


class Publisher:
    """Publishes task messages; a publish returns after the broker confirmed the message and routed it to a queue.

    Safe to share between threads. Belongs to the process that made it: after a fork make a new one. Use it as a
    context manager, or call `close`. Raises `SettingsError` when the settings are unusable.
    """

    def __init__(self, configured: settings.Settings | None = None) -> None:
        self.settings = broker.resolve(configured or settings.load())
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._outbox: Outbox | None = None
        self._handed_over: list[_Handover] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="leveret publisher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, message: TaskMessage, route: Route | None = None) -> str:
        """Publish a message and return its id. The route is the topic exchange with the task's name by default.

        Raises `NotRouted`, `Nacked`, `BrokerBlocked`, `ConfirmTimeout`, `BrokerUnreachable`, `AccessRefused` or
        `MessageTooLarge`.
        """
        (outcome,) = self._hand_over([message], route).wait()
        if outcome:
            raise self._explain(outcome, message, route)
        return message.id

    async def publish_async(self, message: TaskMessage, route: Route | None = None) -> str:
        """Do as `publish` does, awaitable on any loop."""
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not awaited.done():
                awaited.set_result(None)

        def on_ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(tell)

        handover = self._hand_over([message], route, on_ended)
        await awaited
        (outcome,) = handover.outcomes
        if outcome:
            raise await asyncio.to_thread(self._explain, outcome, message, route)
        return message.id

    def publish_many(
        self, messages: Iterable[TaskMessage], route: Route | None = None
    ) -> Iterator[tuple[TaskMessage, Outcome]]:
        """Publish many messages with their confirms outstanding side by side; yields each with how it ended.

        Takes messages from the iterable as they leave, so a generator of millions stays small in memory.
        """
        remaining = iter(messages)
        ahead: list[TaskMessage] = []
        handed_over: _Handover | None = None
        while True:
            chunk = list(itertools.islice(remaining, _CHUNK))
            handover = self._hand_over(chunk, route) if chunk else None
            if handed_over:
                for message, outcome in zip(ahead, handed_over.wait(), strict=True):
                    yield message, outcome and self._explain(outcome, message, route)
            if not chunk:
                return
            ahead, handed_over = chunk, handover

    def submit(self, task: str, /, *args: Any, **kwargs: Any) -> str:
        """Publish one task with these arguments and return its id; raises as `publish` does."""
        return self.publish(TaskMessage.create(task, args, kwargs))

    def submit_many(self, task: str, calls: Iterable[Mapping[str, Any]], route: Route | None = None) -> list[str]:
        """Publish a task once for each mapping of keyword arguments and return the ids, in order.

        Raises `PartlySubmitted`, with every id (empty for a call that is no message) and every failure, when some
        could not be submitted.
        """
        ids: list[str] = []
        failures: list[tuple[int, LeveretError]] = []
        on_the_way: deque[int] = deque()  # positions, in the order of publishing

        def messages() -> Iterator[TaskMessage]:
            for position, kwargs in enumerate(calls):
                try:
                    message = TaskMessage.create(task, kwargs=kwargs)
                except MessageError as error:
                    failures.append((position, error))
                    ids.append("")
                else:
                    on_the_way.append(position)
                    ids.append(message.id)
                    yield message

        for _, outcome in self.publish_many(messages(), route):
            position = on_the_way.popleft()
            if outcome:
                failures.append((position, outcome))
        if failures:
            raise PartlySubmitted(ids, sorted(failures, key=lambda failure: failure[0]))
        return ids

    async def submit_async(self, task: str, /, *args: Any, **kwargs: Any) -> str:
        """Publish one task with these arguments and return its id, awaitable; raises as `publish` does."""
        return await self.publish_async(TaskMessage.create(task, args, kwargs))

    def close(self) -> None:
        """Wait for what was handed over, then close the connection."""
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)  # after what was handed over before
        self._thread.join()
        self._loop.close()

    def _hand_over(
        self, messages: Sequence[TaskMessage], route: Route | None, on_ended: Callable[[], None] | None = None
    ) -> _Handover:
        """Give messages to the publisher's thread, which calls `on_ended` when all their outcomes are known."""
        if self._pid != os.getpid():
            raise PublishError(
                f"this Publisher was made in process {self._pid} and cannot be used in process {os.getpid()}, which "
                "was forked from it; make a new Publisher after the fork"
            )
        handover = _Handover(messages, route, self.settings.message_limit_bytes, on_ended)
        with self._lock:
            if self._is_closed:
                raise PublishError("this Publisher is closed; make a new one")
            self._handed_over.append(handover)
        # Without the lock, which the thread would wake up only to wait for; and each time, for an interrupt may have
        # come in between the last time.
        with contextlib.suppress(RuntimeError):  # closed this moment, and `_finish` has taken it
            self._loop.call_soon_threadsafe(self._send_all)
        return handover

    def _explain(self, outcome: LeveretError, message: TaskMessage, route: Route | None) -> LeveretError:
        if isinstance(outcome, NotRouted):
            return with_nearest_binding(outcome, self.settings, route or Route.topic(message.task))
        return outcome

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
        for handover in handed:
            if self._outbox is None:
                self._outbox = Outbox(self.settings, "leveret producer")
            handover.send(self._outbox)


class _Handover:
    """Messages on their way from a caller to the outbox; their outcomes become known all at once."""

    def __init__(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        limit_bytes: int,
        on_ended: Callable[[], None] | None,
    ) -> None:
        self._outgoing = [_outgoing(message, route) for message in messages]
        self.outcomes: list[Outcome] = [_too_large(message, limit_bytes) for message in messages]
        self._missing = len(messages)
        self._ended = threading.Lock()  # held until then; the quickest way from thread to thread
        self._ended.acquire()
        self._on_ended = on_ended or self._ended.release

    def wait(self) -> list[Outcome]:
        """Wait until all ended; returns how, in the order of the messages. Call it once."""
        self._ended.acquire()
        return self.outcomes

    def send(self, outbox: Outbox) -> None:
        """Pass on what is not refused already."""
        for position, outgoing in enumerate(self._outgoing):
            if self.outcomes[position]:
                self._end(position, self.outcomes[position])
            else:
                outbox.send(outgoing, functools.partial(self._end, position))

    def _end(self, position: int, outcome: Outcome) -> None:
        self.outcomes[position] = outcome
        self._missing -= 1
        if not self._missing:
            self._on_ended()


def _too_large(message: TaskMessage, limit_bytes: int) -> Outcome:
    try:
        check_size(message.body, limit_bytes, f"message of task {message.task!r}")
    except MessageError as error:
        return error
    return None


def _outgoing(message: TaskMessage, route: Route | None) -> Outgoing:
    return Outgoing(
        route or Route.topic(message.task),
        message.body,
        pika.BasicProperties(
            message_id=message.id,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            delivery_mode=_PERSISTENT,
        ),
    )


_default: Publisher | None = None
_default_lock = threading.Lock()


def default_publisher() -> Publisher:
    """Return this process's own publisher, making it when first used and again after a fork."""
    global _default
    with _default_lock:
        if _default is None or _default._pid != os.getpid():
            _default = Publisher()
            atexit.register(_default.close)
        return _default


def _start_anew_after_fork() -> None:
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_start_anew_after_fork)


def submit(task: str, /, *args: Any, **kwargs: Any) -> str:
    """Submit one task with its arguments and return the id, once the broker confirmed it.

    It goes to the topic exchange with the task's name as routing key. For another way, publish
    `TaskMessage.create(…)` with a `Route`. Raises as `Publisher.publish` does.
    """
    return default_publisher().submit(task, *args, **kwargs)


def submit_many(task: str, calls: Iterable[Mapping[str, Any]], route: Route | None = None) -> list[str]:
    """Submit a task once for each mapping of keyword arguments; see `Publisher.submit_many`."""
    return default_publisher().submit_many(task, calls, route)


async def submit_async(task: str, /, *args: Any, **kwargs: Any) -> str:
    """Do as `submit` does, awaitable."""
    return await default_publisher().submit_async(task, *args, **kwargs)


def publish(message: TaskMessage, route: Route | None = None) -> str:
    """Publish a message by any route and return its id; see `Publisher.publish`."""
    return default_publisher().publish(message, route)
