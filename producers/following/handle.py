"""What submitting returns: the id of the task, and the way to what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from leveret.producers.following.entry import Entry, Listener
from leveret.topology import registry
from leveret.topology.errors import (
    BrokerError,
    MessageError,
    NobodyAnswers,
    NotFollowed,
    ResultError,
    ResultMissed,
    ResultTimeout,
    TaskCancelled,
    TaskFailed,
)
from leveret.topology.events import CLOSING, Event, Kind
from leveret.topology.link import daemon_thread
from leveret.topology.printable import printable
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status

R = TypeVar("R")


class Submitted(str, Generic[R]):
    """The id of a submitted task, which is text like any other, and what may be asked about it.

    Results, statuses and events need the task to be followed: `send.options(follow=True)`, or `@task(…, follow=True)`.
    They come to the process that has submitted it, as long as it lives.
    """

    task: str = ""
    """The name of the task."""
    was_already_there: bool = False
    """Whether it is a unique task that somebody else had submitted before, so that nothing was submitted now."""
    _settings: Settings | None = None
    _entry: Entry | None = None

    def __new__(
        cls, task_id: str, task: str, settings: Settings | None = None, entry: Entry | None = None
    ) -> Submitted[R]:
        """Make one; `entry` is what this process is told of the task."""
        made = str.__new__(cls, task_id)
        made.task, made._settings, made._entry = task, settings, entry
        return made

    @classmethod
    def of_another(cls, task_id: str, task: str, settings: Settings) -> Submitted[Any]:
        """Make one of a task that was already there."""
        made: Submitted[Any] = cls(task_id, task, settings)
        made.was_already_there = True
        return made

    @classmethod
    def of_nobody(cls, task_id: str, task: str) -> Submitted[Any]:
        """Make one of a task that nobody follows here; there may be millions of them."""
        made = str.__new__(cls, task_id)
        made.task = task
        return made

    def __reduce__(self) -> Any:
        """Copy or pickle the id and the task's name: what is told here cannot be told elsewhere."""
        return Submitted, (str(self), self.task)

    @property
    def id(self) -> str:
        """The id, as plain text."""
        return str.__str__(self)

    def __str__(self) -> str:
        return str.__str__(self)

    def status(self) -> Status:
        """Return what this process was told of the task; where it is told nothing, what the record knows.

        Raises `NobodyAnswers` where that has to be asked and no recorder runs, `BrokerUnreachable` and the like.
        """
        if self._entry and not self._entry.missed_because:
            return self._entry.status
        from leveret.producers.following.record import statuses  # which imports this module

        (status,) = statuses(self.id, configured=self._settings)
        return status

    async def status_async(self) -> Status:
        """Do as `status` does, awaitable on any loop."""
        return await daemon_thread.start(self.status)

    def cancel(self, reason: str = "") -> None:
        """Cancel the task, see `leveret.cancel`; what has ended by then stays as it is."""
        from leveret.producers.following.cancelling import cancel

        cancel(self.id, reason=reason, configured=self._settings)

    async def cancel_async(self, reason: str = "") -> None:
        """Do as `cancel` does, awaitable on any loop."""
        await daemon_thread.start(self.cancel, reason)

    def result(self, timeout: float | None = None) -> R:
        """Wait until the task has ended, at most `timeout` seconds, and return what it returned.

        What it is follows from the function's return annotation, where the task is loaded here. Raises `TaskFailed`,
        `TaskCancelled`, `ResultTimeout`, `ResultMissed`, `NotFollowed`, or `MessageError` for what is no timeout.
        """
        entry = self._followed()
        if not entry.wait(_limit(timeout)):
            raise self._late(timeout)
        return self._recorded(entry) if entry.missed_because else self._end(entry)

    async def result_async(self, timeout: float | None = None) -> R:
        """Do as `result` does, awaitable on any loop."""
        entry = self._followed()
        async with _told(entry) as changed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_limit(timeout)):
                    while not entry.is_over:
                        await changed()
        if not entry.is_over:
            raise self._late(timeout)
        if entry.missed_because:
            return await daemon_thread.start(self._recorded, entry)
        return self._end(entry)

    def events(self, timeout: float | None = None) -> Iterator[tuple[Kind, Event]]:
        """Yield what was told of the task so far, and all that follows, up to how it ends.

        Raises `ResultTimeout` when it has not ended after `timeout` seconds, `ResultMissed`, or `NotFollowed`.
        """
        entry = self._followed()
        told: queue.SimpleQueue[tuple[Kind | None, Event]] = queue.SimpleQueue()
        listener = _putting(told)
        left = _counting_down(timeout)
        entry.listen(listener)
        past = entry.history  # the listener may be told the last of it, too
        try:
            yield from past
            while not (entry.is_over and told.empty()):
                try:
                    kind, event = told.get(timeout=left())
                except queue.Empty:
                    raise self._late(timeout) from None
                if kind is None:
                    raise self._missed(entry)
                if not any(event is former for _, former in past):
                    yield kind, event
                if kind in CLOSING:
                    return
        finally:
            entry.leave(listener)

    async def events_async(self, timeout: float | None = None) -> AsyncIterator[tuple[Kind, Event]]:
        """Do as `events` does, on any loop."""
        entry, limit = self._followed(), _limit(timeout)
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[tuple[Kind | None, Event]] = asyncio.Queue()

        def listener(kind: Kind | None, event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(told.put_nowait, (kind, event))

        entry.listen(listener)
        past = entry.history
        try:
            for one in past:
                yield one
            async with asyncio.timeout(limit):
                while not (entry.is_over and told.empty()):
                    kind, event = await told.get()
                    if kind is None:
                        raise self._missed(entry)
                    if not any(event is former for _, former in past):
                        yield kind, event
                    if kind in CLOSING:
                        return
        except TimeoutError:
            raise self._late(timeout) from None
        finally:
            entry.leave(listener)

    def _followed(self) -> Entry:
        if self.was_already_there:
            raise NotFollowed(
                f"task {self.task!r} with id {printable(self.id)} was already there, so what becomes of it is told to "
                "who has submitted it; ask the record: leveret.result_of(id)",
                self.id,
            )
        if self._entry is None:
            raise NotFollowed(
                f"nobody tells this process what becomes of task {self.task!r} with id {printable(self.id)}; submit it "
                "with options(follow=True), and wait in the process that does",
                self.id,
            )
        if self._entry.is_deaf:
            raise NotFollowed(
                f"what becomes of task {self.task!r} with id {printable(self.id)} is told to the process that has "
                "submitted it, and this one was forked from that; wait there, or submit after the fork",
                self.id,
            )
        return self._entry

    def _late(self, timeout: float | None) -> ResultTimeout:
        state = self._followed().status.state
        return ResultTimeout(f"task {self.task!r} has not ended within {timeout:g} s; it is {state}", self.id)

    def _recorded(self, entry: Entry) -> R:
        """Return the result as the record has it, of what this process was not told; not that of another task."""
        from leveret.producers.following.record import result_from, with_result

        try:
            status = with_result(self.id, self._settings)
            if status.task not in ("", self.task):
                raise self._missed(entry)
            result: R = result_from(status)
        except (NobodyAnswers, BrokerError, ResultMissed, ResultTimeout) as error:
            raise self._missed(entry) from error
        return result

    def _missed(self, entry: Entry) -> ResultMissed:
        return ResultMissed(
            f"how task {self.task!r} ended may have been told and was missed: {entry.missed_because}", self.id
        )

    def _end(self, entry: Entry) -> R:
        result: R
        if entry.success is not None:
            result = _read(self.task, entry.success.get("result"))
            return result
        status = entry.status
        if status.state is State.SUCCEEDED:
            result = _read(self.task, status.result)
            return result
        if status.state is State.FAILED:
            raise _failed(status)
        if status.state is State.CANCELLED:
            raise TaskCancelled(f"task {self.task!r} was cancelled: {printable(status.reason) or 'no reason'}", self.id)
        raise self._missed(entry)


def gather(handles: Iterable[Submitted[R]], *, timeout: float | None = None) -> list[R]:
    """Wait until all have ended, at most `timeout` seconds for all of it, and return their results in order.

    Raises what `Submitted.result` raises for the first that has none.
    """
    left, results = _counting_down(timeout), []
    for one in list(handles):
        try:
            results.append(one.result(left()))
        except ResultTimeout:
            raise one._late(timeout) from None  # of all the time there was
    return results


async def gather_async(handles: Iterable[Submitted[R]], *, timeout: float | None = None) -> list[R]:
    """Do as `gather` does, awaitable on any loop."""
    left, results = _counting_down(timeout), []
    for one in list(handles):
        try:
            results.append(await one.result_async(left()))
        except ResultTimeout:
            raise one._late(timeout) from None
    return results


def as_completed(handles: Iterable[Submitted[R]], *, timeout: float | None = None) -> Iterator[Submitted[R]]:
    """Yield each as soon as it has ended, however it has; its `result` then returns or raises at once.

    Raises `ResultTimeout` when not all have after `timeout` seconds, and `NotFollowed` for one that is not followed.
    """
    left = _counting_down(timeout)
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()  # positions; one may come twice
    waiting: dict[int, tuple[Submitted[R], Entry, Listener]] = {}
    try:
        for position, one in enumerate(handles):
            entry = one._followed()
            listener = _noting_end(entry, ended, position)
            waiting[position] = (one, entry, listener)
            entry.listen(listener)
            if entry.is_over:
                ended.put(position)
        while waiting:
            try:
                position = ended.get(timeout=left())
            except queue.Empty:
                raise ResultTimeout(f"{len(waiting)} task(s) have not ended within {timeout:g} s") from None
            if position in waiting:
                one, entry, listener = waiting.pop(position)
                entry.leave(listener)
                yield one
    finally:
        for _, entry, listener in waiting.values():
            entry.leave(listener)


def _limit(timeout: float | None) -> float | None:
    """Return the seconds to wait at most; None for as long as it takes. Raises `MessageError` for what is no number."""
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and (not is_number or math.isnan(timeout)):
        raise MessageError(f"a timeout of {timeout!r} is not possible; give seconds, or None for as long as it takes")
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else max(0.0, timeout)


def _counting_down(timeout: float | None) -> Callable[[], float | None]:
    """Return what tells how much of the time is left; raises as `_limit` does."""
    limit, began = _limit(timeout), time.monotonic()
    return lambda: None if limit is None else max(0.0, limit - (time.monotonic() - began))


def _noting_end(entry: Entry, ended: queue.SimpleQueue[int], position: int) -> Listener:
    def listener(_kind: Kind | None, _event: Event) -> None:
        if entry.is_over:
            ended.put(position)

    return listener


def _read(task: str, text: str | None) -> Any:
    """Return a result as the task's function returned it, where that is known here."""
    if text is None:
        return None
    if known := registry.get(task):
        return known.result.read(text)
    from leveret.topology.message import read_json

    return read_json(text)


def _failed(status: Status) -> ResultError:
    failure = status.failure or {}
    said = printable(f"{failure.get('type', 'it failed')}: {failure.get('message', '')}".rstrip(": "))
    where = f"; its message lies in {printable(status.lies_in)}" if status.lies_in else ""
    text = f"task {status.task!r} failed in attempt {status.attempt} of {status.of}: {said}{where}"
    return TaskFailed(text, status.id, failure, status.lies_in)


def _putting(told: queue.SimpleQueue[tuple[Kind | None, Event]]) -> Listener:
    def listener(kind: Kind | None, event: Event) -> None:
        told.put((kind, event))

    return listener


@contextlib.asynccontextmanager
async def _told(entry: Entry) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Give what waits for the next event."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def listener(_kind: Kind | None, _event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(changed.set)

    async def wait() -> None:
        await changed.wait()
        changed.clear()

    entry.listen(listener)
    try:
        yield wait
    finally:
        entry.leave(listener)
