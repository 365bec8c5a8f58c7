"""A child process that runs many orders at once: `async def` tasks in one event loop, or plain ones in threads.

Each attempt has a context of its own, by which it is known whose a call, a log line or a print is. An order is begun
only with a token, as in a child that runs one after the other; here tokens are taken for a whole batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import inspect
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from leveret.consumers import log, output
from leveret.consumers.child.board import CANCELLED, Board
from leveret.consumers.child.execute import (
    Args,
    Kwargs,
    copies,
    end_copy,
    failed,
    outcome_of,
    read_call,
    refuse_generator,
    within,
)
from leveret.consumers.child.outcome import Ending, Failure, Outcome, overran
from leveret.consumers.child.protocol import Order, pack_shared_report, unpack_shared_orders
from leveret.consumers.child.serve import settle_in, start, take_tokens
from leveret.consumers.child.surroundings import Surroundings
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.errors import SoftTimeLimitExceeded
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.task import AnyTask

_READ_BYTES = 262_144
_BEAT_SECONDS = 1.0
_BLOCKED_SECONDS = 5.0

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class TimeLimitExceeded(BaseException):
    """Raised in a thread whose task has overrun its time limit."""


class Running:
    """An attempt that has begun."""

    __slots__ = ("deadline", "is_cancelled", "number", "place", "printed", "soft_at", "started", "subtasks", "task")

    def __init__(self, place: int, number: int, task: AnyTask, started: float) -> None:
        self.place = place
        self.number = number
        self.task = task
        self.started = started
        self.deadline = started + task.time_limit
        self.soft_at = started + task.soft_time_limit if task.soft_time_limit else None
        self.is_cancelled = False
        self.subtasks: set[asyncio.Future[Any]] | None = None
        self.printed: output.OpenLines = {}


_running: contextvars.ContextVar[Running | None] = contextvars.ContextVar("running", default=None)


def serve_side_by_side(
    parent: socket.socket,
    tokens: int,
    board: Board,
    index: int,
    message_limit_bytes: int,
    kind: Kind,
    places: int,
    new_loop: LoopFactory,
) -> None:
    """Run orders until the parent closes the connection."""
    settle_in()
    os.set_blocking(tokens, False)
    start()
    copies.is_copy = False  # of the forkserver, it is
    loop = new_loop()
    asyncio.set_event_loop(loop)
    runs = _InLoop(loop, places) if kind is Kind.ASYNC else _InThreads(loop)
    program = _Program(loop, parent, tokens, board, index, message_limit_bytes, kind, runs)
    board.enter(index)
    while not program.has_ended:
        with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised in what a task has started; who awaits it
            loop.run_forever()  # has it as well, and asyncio lets it through to here, too


class _Program:
    """Takes orders in, has them run, watches their limits and reports how they ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parent: socket.socket,
        tokens: int,
        board: Board,
        index: int,
        limit_bytes: int,
        kind: Kind,
        runs: _InLoop | _InThreads,
    ) -> None:
        self._loop = loop
        self._parent = parent
        self._tokens = tokens
        self._board = board
        self._index = index
        self._limit_bytes = limit_bytes
        self._kind = kind
        self._runs = runs
        self._received = bytearray()
        self._running: dict[Running, object] = {}  # with what can be told to end
        self._outcomes: list[tuple[int, Outcome]] = []
        self._misplaced: list[int] = []
        self._skipped: list[int] = []
        self._report_soon: asyncio.Handle | None = None
        self._sweep_at = 0.0
        self._sweep_then: asyncio.TimerHandle | None = None
        self.has_ended = False
        """Whether the parent has closed the connection."""
        self._watch = _Watch(loop, self._look_for_unstarted) if kind is Kind.ASYNC else None
        self._surroundings = Surroundings()
        loop.add_reader(parent.fileno(), self._take_in)

    def _take_in(self) -> None:
        try:
            data = self._parent.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._end()
            return
        self._received += data
        for batch in unpack_shared_orders(self._received):
            count = take_tokens(self._tokens, len(batch))
            for place, order in batch[:count]:
                self._begin(place, order)
            if count < len(batch):
                self._skipped += [order.number for _, order in batch[count:]]
                self._report_later()

    def _end(self) -> None:
        self._loop.remove_reader(self._parent.fileno())
        self.has_ended = True
        self._loop.stop()

    def _begin(self, place: int, order: Order) -> None:
        started = time.monotonic()
        call = read_call(order, self._limit_bytes, started)
        if isinstance(call, Outcome):
            self._tell(order.number, call)
            return
        task, args, kwargs = call
        if task.kind is not self._kind:
            self._misplaced.append(order.number)
            self._report_later()
            return
        running = Running(place, order.number, task, started)
        self._board.write(self._index, order.number, started, running.deadline, task.name, place)
        context = contextvars.copy_context()
        context.run(_enter, running, attempt.Attempt(order.id, order.attempt, order.queue, task.name))
        self._running[running] = self._runs.begin(running, args, kwargs, context, self._finish)
        if self._watch:
            self._watch.begin()
        earliest = running.deadline if self._runs.has_soft_limits or not running.soft_at else running.soft_at
        if self._sweep_then is None or earliest < self._sweep_at:
            self._sweep_by(earliest)

    def _finish(self, running: Running, outcome: Outcome) -> None:
        if self._running.pop(running, None) is None:
            return
        self._tell(running.number, outcome)
        output.end_lines(running.printed)
        if not self._running:
            if self._sweep_then:
                self._sweep_then.cancel()
                self._sweep_then = None
            if self._watch:
                self._watch.end()
            self._surroundings.put_back(running.task.name)

    def _look_for_unstarted(self) -> None:
        """Finish what another task of this process has cancelled before its first step, for it cannot do so itself."""
        for running, handle in list(self._running.items()):
            if isinstance(handle, asyncio.Task) and handle.done():
                self._finish(running, cancelled(running))

    def _tell(self, number: int, outcome: Outcome) -> None:
        self._outcomes.append((number, outcome))
        self._report_later()

    def _report_later(self) -> None:
        if self._report_soon is None:
            self._report_soon = self._loop.call_soon(self._report)

    def _report(self) -> None:
        """Report what has ended in one turn of the loop."""
        self._report_soon = None
        report = pack_shared_report(self._outcomes, self._skipped, self._misplaced)
        self._outcomes, self._skipped, self._misplaced = [], [], []
        try:
            self._parent.sendall(report)
        except ConnectionError:  # the parent has left
            self._end()

    def _sweep_by(self, moment: float) -> None:
        if self._sweep_then:
            self._sweep_then.cancel()
        self._sweep_at = moment
        self._sweep_then = self._loop.call_later(max(0.0, moment - time.monotonic()), self._sweep)

    def _sweep(self) -> None:
        """Tell those to end that have passed a limit, and look again when the next one does."""
        self._sweep_then = None
        now, limits = time.monotonic(), []
        for running, handle in list(self._running.items()):
            if running.soft_at and not self._runs.has_soft_limits:
                if running.soft_at <= now:
                    running.soft_at = None
                    self._runs.end_softly(handle)
                else:
                    limits.append(running.soft_at)
            if running.is_cancelled:
                continue
            if running.deadline <= now:
                running.is_cancelled = True
                self._board.write(
                    self._index, running.number, running.started, CANCELLED, running.task.name, running.place
                )
                self._runs.end(handle)
            else:
                limits.append(running.deadline)
        if limits:
            self._sweep_by(min(limits))


def _enter(running: Running, current: attempt.Attempt) -> None:
    _running.set(running)
    attempt.begin(current)
    output.keep_open_lines(running.printed)


OnFinish = Callable[[Running, Outcome], None]


class _InLoop:
    """Runs coroutines, each as a task of the loop."""

    has_soft_limits = True
    """Whether what it runs watches its soft limit itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop, places: int) -> None:
        self._loop = loop
        loop.set_task_factory(_remembered)  # type: ignore[arg-type]  # typeshed knows fewer options
        loop.set_default_executor(ThreadPoolExecutor(places, "to_thread"))

    def begin(
        self, running: Running, args: Args, kwargs: Kwargs, context: contextvars.Context, on_finish: OnFinish
    ) -> object:
        """Begin an attempt; returns what ends it."""
        return asyncio.Task(self._run(running, args, kwargs, on_finish), loop=self._loop, context=context)

    def end(self, handle: Any) -> None:
        """Tell an attempt to end."""
        handle.cancel()

    def end_softly(self, handle: Any) -> None:
        """Tell an attempt that its soft limit has passed."""
        raise NotImplementedError

    async def _run(self, running: Running, args: Args, kwargs: Kwargs, on_finish: OnFinish) -> None:
        outcome = await self._call(running, args, kwargs)
        for subtask in running.subtasks or ():  # what the attempt has left behind
            subtask.cancel()
        on_finish(running, outcome)

    async def _call(self, running: Running, args: Args, kwargs: Kwargs) -> Outcome:
        task = running.task
        try:
            if task.soft_time_limit is None:
                returned = await task.function(*args, **kwargs)
            else:
                returned = await within(task.soft_time_limit, task.function(*args, **kwargs))
            if returned is not None:
                refuse_generator(task, returned)
        except asyncio.CancelledError as error:
            return cancelled(running) if running.is_cancelled else failed(task, error, running.started, 1)
        except BaseException as error:  # noqa: BLE001 - sys.exit() and the like fail this attempt only
            return failed(task, error, running.started, 1 if task.soft_time_limit is None else 2)
        finally:
            if copies.is_copy:
                end_copy(sys.exception())
        return Outcome(Ending.RETURNED, task.name, time.monotonic() - running.started)


def cancelled(running: Running) -> Outcome:
    """Return the outcome of an attempt that was cancelled: for its time limit, or by another task of the process."""
    name, seconds = running.task.name, time.monotonic() - running.started
    if not running.is_cancelled:
        failure = Failure(
            "CancelledError", "another task of its process has cancelled it", "", f"CancelledError@{name}"
        )
        return outcome_of(Ending.RAISED, name, running.started, failure)
    return overran(name, seconds, "cancelled")


def _remembered(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Make a task of the loop, and note it for the attempt that makes it."""
    made = asyncio.Task(coroutine, loop=loop, **options)
    if running := _running.get():
        if running.subtasks is None:
            running.subtasks = set()
        running.subtasks.add(made)
        made.add_done_callback(running.subtasks.discard)
    return made


class _Thread:
    """What a thread runs at the moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ident = 0
        self.running: Running | None = None


class _InThreads:
    """Runs plain functions in threads, which stay for the next ones."""

    has_soft_limits = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._threads = self._busy = 0

    def begin(
        self, running: Running, args: Args, kwargs: Kwargs, context: contextvars.Context, on_finish: OnFinish
    ) -> object:
        """Begin an attempt in a thread; returns what ends it."""
        handle = _Thread()
        self._busy += 1
        self._waiting.put((handle, running, args, kwargs, context, on_finish))
        if self._busy > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name=f"task {self._threads}", daemon=True).start()
        return handle

    def end(self, handle: Any) -> None:
        """Raise in the thread; code that does not return from C sees it when it does."""
        self._raise(handle, TimeLimitExceeded)

    def end_softly(self, handle: Any) -> None:
        """Raise what a soft limit raises."""
        self._raise(handle, SoftTimeLimitExceeded)

    def _raise(self, handle: _Thread, error: type[BaseException]) -> None:
        with handle.lock:
            if handle.running:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(handle.ident), ctypes.py_object(error))

    def _work(self) -> None:
        while True:
            handle, running, args, kwargs, context, on_finish = self._waiting.get()
            handle.ident = threading.get_ident()
            outcome = context.run(self._run, handle, running, args, kwargs)
            self._loop.call_soon_threadsafe(self._on_end, on_finish, running, outcome)

    def _on_end(self, on_finish: OnFinish, running: Running, outcome: Outcome) -> None:
        self._busy -= 1
        on_finish(running, outcome)

    def _run(self, handle: _Thread, running: Running, args: Args, kwargs: Kwargs) -> Outcome:
        outcome = None
        while True:  # an exception of a limit may come at any moment until it cannot any more
            try:
                if outcome is None:
                    outcome = self._call(handle, running, args, kwargs)
                with handle.lock:
                    handle.running = None
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(handle.ident), None)
            except (TimeLimitExceeded, SoftTimeLimitExceeded) as error:
                if outcome is None:
                    outcome = self._failed(running, error)
            else:
                return outcome

    def _call(self, handle: _Thread, running: Running, args: Args, kwargs: Kwargs) -> Outcome:
        task = running.task
        try:
            with handle.lock:
                handle.running = running
            returned = task.function(*args, **kwargs)
            if returned is not None:
                if inspect.isawaitable(returned):
                    returned = asyncio.run(within(None, returned))
                refuse_generator(task, returned)
            return Outcome(Ending.RETURNED, task.name, time.monotonic() - running.started)
        except BaseException as error:  # noqa: BLE001 - sys.exit() and the like fail this attempt only
            return self._failed(running, error)
        finally:
            if copies.is_copy:
                end_copy(sys.exception())

    def _failed(self, running: Running, error: BaseException) -> Outcome:
        if isinstance(error, TimeLimitExceeded):
            return cancelled(running)
        if isinstance(error, SoftTimeLimitExceeded) and not error.args:
            error.args = ("the task overran its soft time limit",)
        return failed(running.task, error, running.started, 1)


def _place_of(frame: FrameType | None) -> str:
    """Return where a task is: the calls below the one that began it."""
    calls: list[str] = []
    for called in reversed(traceback.extract_stack(frame)):
        if called.filename == __file__:
            break
        calls.insert(0, f"{called.filename}:{called.lineno} in {called.name}")
    return " → ".join(calls)


class _Watch:
    """Says who keeps the loop from turning while it does, by a signal, for nothing else runs then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_beat: Callable[[], None]) -> None:
        self._loop = loop
        self._on_beat = on_beat
        self._beat: asyncio.TimerHandle | None = None
        signal.signal(signal.SIGALRM, self._on_alarm)

    def begin(self) -> None:
        """Watch from now on, if it does not already."""
        if self._beat is None:
            self._turn()

    def end(self) -> None:
        """Watch no more, for nothing runs."""
        if self._beat:
            self._beat.cancel()
            self._beat = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _turn(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, _BLOCKED_SECONDS)
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._turn)
        self._on_beat()

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        running = _running.get()  # a handler runs in the context of what it interrupts
        if running:
            log.event(
                logging.WARNING,
                f"a task has kept the event loop of its process for {_BLOCKED_SECONDS:g} s, and all that run beside it "
                "wait; await what takes long, hand it to asyncio.to_thread, or make it a plain function",
                task=running.task.name,
                id=attempt.current_attempt().id,
                at=_place_of(frame),
            )
            log.flush()
