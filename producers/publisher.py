"""The publisher: confirmed publishing from plain scripts, threads and asyncio.

Callers hand messages to its thread and wait for the broker's word. What comes back because the queue of a task that is
known here was never declared is published again once it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from leveret.producers import not_routed
from leveret.producers.batch import Batch, Batches, way_of
from leveret.producers.calls import check_timeout, check_unique, make_message, maker
from leveret.producers.following.handle import Submitted
from leveret.producers.sender import Sender, without_thread
from leveret.topology import settings
from leveret.topology.errors import LeveretError, MessageError, NotRouted, PartlySubmitted
from leveret.topology.link import daemon_thread, default_broker
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.registry import Defined


class Publisher:
    """Publishes task messages; a publish returns after the broker confirmed the message and routed it to a queue.

    Safe to share between threads. Belongs to the process that made it: after a fork make a new one. Use it as a
    context manager, or call `close`. `timeout` is how many seconds each publish may wait for the broker's confirm, by
    default the setting PUBLISH_TIMEOUT_SECONDS. Raises `SettingsError` when the settings are unusable, and
    `PublishError` when Python starts no thread for it.
    """

    def __init__(self, configured: settings.Settings | None = None, *, timeout: float | None = None) -> None:
        try:
            self.settings = default_broker.resolve(configured or settings.load())
        except RuntimeError as error:  # pika looks for the broker with a thread
            raise without_thread(error) from error
        self._timeout = check_timeout(timeout)
        self._missing = not_routed.MissingQueues(self.settings)
        self._sender = Sender(self.settings)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.close()
        else:  # Ctrl-C, or the like
            self.close_at_the_end()

    @property
    def is_of_this_process(self) -> bool:
        """Whether it was made here, and not before a fork."""
        return self._sender.is_of_this_process

    def publish(
        self, message: TaskMessage, route: Route | None = None, *, timeout: float | None = None
    ) -> Submitted[Any]:
        """Publish a message and return its id. The route is the message's own, or the task's usual one, by default.

        `timeout` is in seconds. Raises `NotRouted`, `Nacked`, `BrokerBlocked`, `ConfirmTimeout`, `BrokerUnreachable`,
        `AccessRefused`, `MessageTooLarge`, or `MessageError` for what is no message or no route.
        """
        batch = self._hand_over([message], route, timeout)  # it holds what is told of the task
        ((_, outcome),) = self._end([message], route, timeout, batch.wait())
        if outcome:
            raise outcome
        return self.handle_of(message)

    async def publish_async(
        self, message: TaskMessage, route: Route | None = None, *, timeout: float | None = None
    ) -> Submitted[Any]:
        """Do as `publish` does, awaitable on any loop."""
        loop = asyncio.get_running_loop()
        awaited: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not awaited.done():
                awaited.set_result(None)

        def on_ended() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(tell)

        if getattr(message, "follow", False) is True:
            await daemon_thread.start(self._sender.open_replies, self._seconds(timeout))
        if getattr(message, "due", None) is not None:
            await daemon_thread.start(self._missing.prepare, [way_of(message, route)])
        batch = self._hand_over([message], route, timeout, on_ended)
        try:
            await awaited
        finally:
            batch.end_trace()
        (outcome,) = batch.outcomes
        if outcome:
            ((_, outcome),) = await daemon_thread.start(self._end, [message], route, timeout, batch.outcomes)
        if outcome:
            raise outcome
        return self.handle_of(message)

    def publish_unique(
        self, message: TaskMessage, key: str, for_seconds: float | None = None, *, timeout: float | None = None
    ) -> Submitted[Any]:
        """Publish a message unless a task is there that holds this key; returns the id of the one that does then.

        Without `for_seconds` a task holds its key until it has ended, as the record knows it; so the message has to be
        one that is followed. Raises as `publish` does, and `NobodyAnswers` where no recorder answers within 2 s.
        """
        from leveret.producers.following import reserving  # most programs ask nobody

        check_unique(key, for_seconds, message.follow)
        reservation = reserving.reserve(self.settings, message, key, for_seconds)
        if not reservation.is_new:
            return Submitted.of_another(reservation.holder, message.task, self.settings)
        try:
            return self.publish(message, timeout=timeout)
        except LeveretError as error:
            reserving.release(reservation, error)
            raise

    async def publish_unique_async(
        self, message: TaskMessage, key: str, for_seconds: float | None = None, *, timeout: float | None = None
    ) -> Submitted[Any]:
        """Do as `publish_unique` does, awaitable on any loop."""
        from leveret.producers.following import reserving  # most programs ask nobody

        check_unique(key, for_seconds, message.follow)
        reservation = await reserving.reserve_async(self.settings, message, key, for_seconds)
        if not reservation.is_new:
            return Submitted.of_another(reservation.holder, message.task, self.settings)
        try:
            return await self.publish_async(message, timeout=timeout)
        except LeveretError as error:
            await reserving.release_async(reservation, error)
            raise

    def publish_many(
        self, messages: Iterable[TaskMessage], route: Route | None = None, *, timeout: float | None = None
    ) -> Iterator[tuple[TaskMessage, LeveretError | None]]:
        """Publish many messages with their confirms outstanding side by side; yields each with how it ended.

        Takes messages from the iterable in batches of up to 1,000 or 4 MiB, a batch ahead of what it yields, so a
        generator of millions stays small in memory. What the iterable raises is raised when the outcomes of all that
        came before it are told.
        """
        batches = Batches(messages)
        advice = functools.cache(not_routed.advice)  # the same for all that go the same way
        ahead: list[TaskMessage] = []
        handed_over: Batch | None = None
        while True:
            taken = batches.take()
            batch = self._hand_over(taken, route, timeout) if taken else None
            if handed_over:
                yield from self._end(ahead, route, timeout, handed_over.wait(), advice)
            if not taken:
                break
            ahead, handed_over = taken, batch
        if batches.failure:
            raise batches.failure

    def submit(self, task: str | Defined, /, *args: Any, **kwargs: Any) -> Submitted[Any]:
        """Publish one task with these arguments and return its id.

        Raises as `publish` does, and `MessageError` where what is loaded here shows that no worker could run it.
        """
        return self.publish(make_message(task, args, kwargs))

    async def submit_async(self, task: str | Defined, /, *args: Any, **kwargs: Any) -> Submitted[Any]:
        """Publish one task with these arguments and return its id, awaitable; raises as `submit` does."""
        return await self.publish_async(make_message(task, args, kwargs))

    @overload
    def submit_many(
        self, messages: Iterable[TaskMessage], /, *, timeout: float | None = None
    ) -> list[Submitted[Any]]: ...
    @overload
    def submit_many(
        self,
        task: str | Defined,
        calls: Iterable[Mapping[str, Any]],
        /,
        route: Route | None = None,
        *,
        timeout: float | None = None,
    ) -> list[Submitted[Any]]: ...
    def submit_many(
        self, first: Any, calls: Any = None, /, route: Route | None = None, *, timeout: float | None = None
    ) -> list[Submitted[Any]]:
        """Publish messages, or a task once for each mapping of keyword arguments, and return the ids, in order.

        Raises `PartlySubmitted`, with every id (empty for a call that is no message) and every failure, when some
        could not be submitted. An error of the iterable itself counts as the failure of the call that did not come.
        """
        make: Callable[[Any], TaskMessage]
        if calls is None:
            make, remaining = _as_message, _iterate(first, "messages", "send.message(to=…)")
        else:
            make = maker(first, route)
            remaining = _iterate(calls, f"the calls of task {first!r}", "{'to': …}")
        ids: list[Submitted[Any]] = []
        of_nobody = Submitted.of_nobody
        nobody = of_nobody("", "")
        failures: list[tuple[int, LeveretError]] = []
        on_the_way: deque[int] = deque()  # positions, in the order of publishing

        def messages() -> Iterator[TaskMessage]:
            for position in itertools.count():
                try:
                    message = make(next(remaining))
                except StopIteration:
                    return
                except MessageError as error:
                    failures.append((position, error))
                    ids.append(nobody)
                except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
                    failure = MessageError(f"no more calls could be taken: {type(error).__name__}: {error}")
                    failure.__cause__ = error
                    failures.append((position, failure))
                    ids.append(nobody)
                    return
                else:
                    on_the_way.append(position)
                    ids.append(of_nobody(message.id, message.task))
                    yield message

        for message, outcome in self.publish_many(messages(), route, timeout=timeout):
            position = on_the_way.popleft()
            if message.follow is True:
                ids[position] = self.handle_of(message)  # what is told of it is held as long as its batch, or by this
            if outcome:
                failures.append((position, outcome))
        if failures:
            raise PartlySubmitted(ids, sorted(failures, key=lambda failure: failure[0]))
        return ids

    def handle_of(self, message: TaskMessage) -> Submitted[Any]:
        """Return the handle of a message that `publish_many` has just yielded."""
        replies = self._sender.replies if message.follow is True else None
        return Submitted(message.id, message.task, self.settings, replies.get(message.id) if replies else None)

    def close(self) -> None:
        """Wait for what was handed over, then close the connection."""
        self._sender.close()

    def close_at_the_end(self) -> None:
        """Do as `close` does in a program that ends: say on stderr what it waits for, give up what cannot arrive."""
        self._sender.close(program_ends=True)

    def _hand_over(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        timeout: float | None,
        on_ended: Callable[[], None] | None = None,
    ) -> Batch:
        if not (route is None or (isinstance(route, (tuple, list)) and len(route) == 2)):
            raise MessageError(f"{route!r} is no Route; write Route.direct('mail'), or Route.topic('mail.send')")
        seconds = self._seconds(timeout)
        try:
            replies = self._sender.open_replies(seconds) if any(one.follow is True for one in messages) else None
            if later := [way_of(one, route) for one in messages if one.due is not None]:
                self._missing.prepare(later)
            return self._sender.hand_over(messages, route, seconds, on_ended, replies)
        except AttributeError as error:
            other = next((one for one in messages if not isinstance(one, TaskMessage)), None)
            if other is None:
                raise
            what = f"{other!r:.60} is no TaskMessage"
            raise MessageError(f"{what}; make one: send.message(…), TaskMessage.create(…)") from error

    def _seconds(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else check_timeout(timeout)

    def _end(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        timeout: float | None,
        outcomes: Sequence[LeveretError | None],
        advice: Callable[[settings.Settings, str, Route], str] = not_routed.advice,
    ) -> Iterable[tuple[TaskMessage, LeveretError | None]]:
        """Publish again what was not routed for want of a queue that is known here; say what to do about the rest."""
        if not any(outcomes):
            return zip(messages, outcomes, strict=True)
        ended = list(outcomes)
        unrouted: dict[tuple[Route, bool], list[int]] = {}
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, NotRouted):
                message = messages[number]
                unrouted.setdefault((way_of(message, route), message.due is not None), []).append(number)
        for (way, is_delayed), numbers in unrouted.items():
            if is_delayed:
                self._missing.forget_prepared()  # what was there is gone
            again = [messages[number] for number in numbers], [outcomes[number] for number in numbers]
            for number, outcome in zip(numbers, self._publish_again(*again, way, timeout, advice), strict=True):
                ended[number] = outcome
        return zip(messages, ended, strict=True)

    def _publish_again(
        self,
        messages: Sequence[TaskMessage],
        outcomes: Sequence[LeveretError | None],
        way: Route,
        timeout: float | None,
        advice: Callable[[settings.Settings, str, Route], str],
    ) -> list[LeveretError | None]:
        """Declare the queue of messages that were not routed this way, if it is known; return how they end then."""
        try:
            if messages[0].due is not None or self._missing.declare(way):
                outcomes = self._hand_over(messages, way, timeout).wait()
        except LeveretError as error:
            return [
                NotRouted(f"{outcome}; and its queue cannot be declared: {error}", message.id)
                for message, outcome in zip(messages, outcomes, strict=True)
            ]
        return [
            NotRouted(f"{outcome}; {advice(self.settings, message.task, way)}", message.id)
            if isinstance(outcome, NotRouted)
            else outcome
            for message, outcome in zip(messages, outcomes, strict=True)
        ]


def _iterate(given: Any, what: str, example: str) -> Iterator[Any]:
    if isinstance(given, (Mapping, str, bytes, TaskMessage)) or not isinstance(given, Iterable):
        raise MessageError(
            f"{what} are to be a list, or anything else to iterate over, not {given!r:.60}; write [{example}]"
        )
    return iter(given)


def _as_message(message: Any) -> TaskMessage:
    if not isinstance(message, TaskMessage):
        raise MessageError(f"{message!r:.60} is no message; make one: send.message(to=…)")
    return message
