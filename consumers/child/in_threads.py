"""Running plain functions side by side in threads."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import queue
import sys
import threading
import time
from typing import Any

from leveret.consumers.child.copies import copies, end_copy
from leveret.consumers.child.execute import Args, Kwargs, cancelled_in, failed, refuse_generator, within
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.returned import succeeded
from leveret.consumers.child.running import OnFinish, Running, cancelled
from leveret.consumers.tasks.errors import Cancelled, SoftTimeLimitExceeded


class TimeLimitExceeded(BaseException):
    """Raised in a thread whose task has overrun its time limit."""


class _Thread:
    """What a thread runs at the moment."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ident = 0
        self.running: Running | None = None


class InThreads:
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

    def cancel(self, handle: Any) -> None:
        """Raise what a cancel raises."""
        self._raise(handle, Cancelled)

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
            except (TimeLimitExceeded, SoftTimeLimitExceeded, Cancelled) as error:
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
            if running.is_followed:
                return succeeded(task, returned, running.started)
            return Outcome(Ending.RETURNED, task.name, time.monotonic() - running.started)
        except BaseException as error:  # noqa: BLE001 - sys.exit() and the like fail this attempt only
            return self._failed(running, error)
        finally:
            if copies.is_copy:
                end_copy(sys.exception())

    def _failed(self, running: Running, error: BaseException) -> Outcome:
        if running.is_unwanted and not isinstance(error, TimeLimitExceeded):
            return cancelled_in(running.task, error, running.started, 1)
        if isinstance(error, TimeLimitExceeded):
            return cancelled(running)
        if isinstance(error, SoftTimeLimitExceeded) and not error.args:
            error.args = ("the task overran its soft time limit",)
        return failed(running.task, error, running.started, 1)
