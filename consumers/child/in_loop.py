"""Running coroutines side by side, each as a task of the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import time
import traceback
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from leveret.consumers.child import running as attempts
from leveret.consumers.child.copies import copies, end_copy
from leveret.consumers.child.execute import Args, Kwargs, cancelled_in, failed, refuse_generator, within
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.returned import succeeded
from leveret.consumers.child.running import OnFinish, Running, cancelled


class InLoop:
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

    def cancel(self, handle: Any) -> None:
        """Tell an attempt to end that somebody has cancelled."""
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
            if running.is_unwanted:
                return cancelled_in(task, error, running.started, 1)
            return failed(task, error, running.started, 1 if task.soft_time_limit is None else 2)
        finally:
            if copies.is_copy:
                end_copy(sys.exception())
        if running.is_followed:
            return succeeded(task, returned, running.started)
        return Outcome(Ending.RETURNED, task.name, time.monotonic() - running.started)


def place_of(frame: FrameType | None) -> str:
    """Return where a task is: the calls below the one that began it."""
    calls: list[str] = []
    for called in reversed(traceback.extract_stack(frame)):
        if called.filename == __file__:
            break
        calls.insert(0, f"{called.filename}:{called.lineno} in {called.name}")
    return " → ".join(calls)


def _remembered(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Make a task of the loop, and note it for the attempt that makes it."""
    made = asyncio.Task(coroutine, loop=loop, **options)
    if running := attempts.current.get():
        if running.subtasks is None:
            running.subtasks = set()
        running.subtasks.add(made)
        made.add_done_callback(running.subtasks.discard)
    return made
