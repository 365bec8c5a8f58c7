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

from producers import not_routed
from producers.handover import Handover, Outcome, Pieces
from topology import broker, settings
from topology.errors import LeveretError, MessageError, NotRouted, PartlySubmitted, PublishError
from topology.message import TaskMessage
from topology.names import Route
from topology.outbox import Outbox


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
        self._handed_over: list[Handover] = []
        self._lock = threading.Lock()
        self._is_told_to_close = self._is_closed = False
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

        Takes messages from the iterable in pieces of up to 1,000 or 4 MiB, a piece ahead of what it yields, so a
        generator of millions stays small in memory. What the iterable raises is raised when the outcomes of all that
        came before it are told.
        """
        pieces = Pieces(messages)
        advice = functools.cache(not_routed.advice)  # the same for all that go the same way
        ahead: list[TaskMessage] = []
        handed_over: Handover | None = None
        while True:
            piece = pieces.take()
            handover = self._hand_over(piece, route) if piece else None
            if handed_over:
                for message, outcome in zip(ahead, handed_over.wait(), strict=True):
                    yield message, outcome and self._explain(outcome, message, route, advice)
            if not piece:
                break
            ahead, handed_over = piece, handover
        if pieces.failure:
            raise pieces.failure

    def submit(self, task: str, /, *args: Any, **kwargs: Any) -> str:
        """Publish one task with these arguments and return its id; raises as `publish` does."""
        return self.publish(TaskMessage.create(task, args, kwargs))

    def submit_many(self, task: str, calls: Iterable[Mapping[str, Any]], route: Route | None = None) -> list[str]:
        """Publish a task once for each mapping of keyword arguments and return the ids, in order.

        Raises `PartlySubmitted`, with every id (empty for a call that is no message) and every failure, when some
        could not be submitted. An error of the iterable itself counts as the failure of the call that did not come.
        """
        remaining = iter(calls)
        ids: list[str] = []
        failures: list[tuple[int, LeveretError]] = []
        on_the_way: deque[int] = deque()  # positions, in the order of publishing

        def messages() -> Iterator[TaskMessage]:
            for position in itertools.count():
                try:
                    message = TaskMessage.create(task, kwargs=next(remaining))
                except StopIteration:
                    return
                except MessageError as error:
                    failures.append((position, error))
                    ids.append("")
                except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
                    failure = MessageError(f"no more calls could be taken: {type(error).__name__}: {error}")
                    failure.__cause__ = error
                    failures.append((position, failure))
                    ids.append("")
                    return
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
        if self._pid != os.getpid():
            return
        with self._lock:
            if not self._is_told_to_close:  # a second stop would end the wait for what was handed over
                self._loop.call_soon_threadsafe(self._loop.stop)  # after what was handed over before
                self._is_told_to_close = True  # afterwards, for an interrupt may come in between
        self._thread.join()
        with self._lock:
            self._loop.close()

    def _hand_over(
        self, messages: Sequence[TaskMessage], route: Route | None, on_ended: Callable[[], None] | None = None
    ) -> Handover:
        """Give messages to the publisher's thread, which calls `on_ended` when all their outcomes are known."""
        if self._pid != os.getpid():
            raise PublishError(
                f"this Publisher was made in process {self._pid} and cannot be used in process {os.getpid()}, which "
                "was forked from it; make a new Publisher after the fork"
            )
        handover = Handover(messages, route, self.settings.message_limit_bytes, on_ended)
        with self._lock:
            if self._is_closed:
                raise PublishError("this Publisher is closed; make a new one")
            self._handed_over.append(handover)
        # Without the lock, which the thread would wake up only to wait for; and each time, for an interrupt may have
        # come in between the last time.
        with contextlib.suppress(RuntimeError):  # closed this moment, and `_finish` has taken it
            self._loop.call_soon_threadsafe(self._send_all)
        return handover

    def _explain(
        self,
        outcome: LeveretError,
        message: TaskMessage,
        route: Route | None,
        advice: Callable[[settings.Settings, Route], str] = not_routed.advice,
    ) -> LeveretError:
        if isinstance(outcome, NotRouted):
            told = advice(self.settings, Route(*route) if route else Route.topic(message.task))
            return NotRouted(f"{outcome}; {told}", outcome.task_id)
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


_default: Publisher | None = None
_default_lock = threading.Lock()


def default_publisher() -> Publisher:
    """Return this process's own publisher, making it when first used and again after a fork."""
    global _default
    with _default_lock:
        if _default is None or _default._pid != os.getpid():
            _default = Publisher()
        return _default


def _close_default() -> None:
    if _default:
        _default.close()


# When this is imported, so that what is registered later may still submit: the last registered is called first.
atexit.register(_close_default)


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
    publisher = _default
    if publisher is None or publisher._pid != os.getpid():
        publisher = await asyncio.to_thread(default_publisher)  # looking for the broker can take a while
    return await publisher.submit_async(task, *args, **kwargs)


def publish(message: TaskMessage, route: Route | None = None) -> str:
    """Publish a message by any route and return its id; see `Publisher.publish`."""
    return default_publisher().publish(message, route)
