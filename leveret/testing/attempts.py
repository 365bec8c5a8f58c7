"""One attempt in the process of the test: read, checked and told as in a child of a worker, with what differs here.

A worker's child has its process for itself; here the test goes on in it. So nothing of the process is put back, what
only a child can do (`on_child_start`) is not done, and a time limit can end nothing but Python code.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

from leveret.consumers.child import traced
from leveret.consumers.child.copies import end_copy
from leveret.consumers.child.execute import Args, Call, Kwargs, failed, read_call, refuse_generator, within
from leveret.consumers.child.in_batches import endings_of, successes_of, what_is_wrong
from leveret.consumers.child.in_threads import TimeLimitExceeded
from leveret.consumers.child.outcome import Ending, Outcome, overran
from leveret.consumers.child.protocol import Order
from leveret.consumers.child.returned import succeeded
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.errors import BatchFailed, Cancelled, SoftTimeLimitExceeded
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import traces

_OF_A_TASK = (Exception, SystemExit, asyncio.CancelledError, Cancelled, TimeLimitExceeded)
"""What fails an attempt. In a child everything does; here Ctrl-C, or the end of a test, is meant for the test."""


Ended = tuple[Outcome, BaseException | None]
T = TypeVar("T")
R = TypeVar("R")


class Attempts:
    """Runs attempts one after the other: in the thread that asks for it, or beside one where an event loop runs."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def close(self) -> None:
        """Close the event loop of async tasks."""
        self._runner.close()

    def run(self, order: Order) -> Ended:
        """Run one order to its end; returns how it ended, and what the task raised."""
        return _apart(self._run, order)

    def run_together(self, orders: Sequence[Order]) -> list[Ended]:
        """Run orders of one task as a batch; returns for each how it ended, and what the task raised."""
        return _apart(self._run_together, orders)

    def _run_together(self, orders: Sequence[Order]) -> list[Ended]:
        started = time.monotonic()
        calls = [read_call(order, self._limit_bytes, started) for order in orders]
        readable = [(order, call) for order, call in zip(orders, calls, strict=True) if not isinstance(call, Outcome)]
        endings = iter(self._in_context(readable, started) if readable else ())
        return [(call, None) if isinstance(call, Outcome) else next(endings) for call in calls]

    def _in_context(self, readable: Sequence[tuple[Order, Call]], started: float) -> list[Ended]:
        context = contextvars.Context()
        orders, task = [order for order, _ in readable], readable[0][1][0]
        span = context.run(traced.begin_batch, orders, task.name) if traces.is_on() else None
        ended = context.run(self._batch, readable, started)
        if span:
            traced.end_batch(span, [outcome for outcome, _ in ended])
        return ended

    def _batch(self, readable: Sequence[tuple[Order, Call]], started: float) -> list[Ended]:
        task = readable[0][1][0]
        orders = [order for order, _ in readable]
        attempt.begin(attempt.together([attempt.Attempt(one.id, one.attempt, one.queue, task.name) for one in orders]))
        count = len(orders)
        try:
            returned = self._call(task, ([argument for _, (_, (argument,), _) in readable],), {})
        except BatchFailed as error:
            if wrong := what_is_wrong(error, count):
                return [(failed(task, wrong, started, 0), wrong)] * count
            outcomes = endings_of(task, error.failures, count, started)
            return [(outcome, error.failures.get(place)) for place, outcome in enumerate(outcomes)]
        except _OF_A_TASK as error:
            return [(self._failed(task, error, started), error)] * count
        if (seconds := time.monotonic() - started) > task.time_limit:
            return [(overran(task.name, seconds, "cancelled"), None)] * count
        return [(one, None) for one in successes_of(task, returned, [one.is_followed for one in orders], started)]

    def _run(self, order: Order) -> Ended:
        started = time.monotonic()
        call = read_call(order, self._limit_bytes, started)
        if isinstance(call, Outcome):
            return call, None
        context = contextvars.Context()  # of what the test has in its own nothing travels with a message
        span = context.run(traced.begin, order, call[0].name) if traces.is_on() else None
        ended = context.run(self._attempt, order, *call, started)
        if span:
            traced.end(span, ended[0])
        return ended

    def _attempt(self, order: Order, task: AnyTask, args: Args, kwargs: Kwargs, started: float) -> Ended:
        attempt.begin(attempt.Attempt(order.id, order.attempt, order.queue, task.name))
        try:
            returned = self._call(task, args, kwargs)
        except _OF_A_TASK as error:
            return self._failed(task, error, started), error
        if (seconds := time.monotonic() - started) > task.time_limit:  # a worker would have ended it
            return overran(task.name, seconds, "cancelled"), None
        if order.is_followed or task.follow:
            return succeeded(task, returned, started), None
        return Outcome(Ending.RETURNED, task.name, seconds), None

    def _failed(self, task: AnyTask, error: BaseException, started: float) -> Outcome:
        seconds = time.monotonic() - started
        if isinstance(error, TimeLimitExceeded) or seconds > task.time_limit:
            return overran(task.name, seconds, "cancelled")
        return failed(task, error, started, 2)

    def _call(self, task: AnyTask, args: Args, kwargs: Kwargs) -> Any:
        process = os.getpid()
        try:
            with _limits(task):
                returned = task.function(*args, **kwargs)
            if inspect.isawaitable(returned):
                returned = self._run_async(_limited(task, returned))
            refuse_generator(task, returned)
            return returned
        finally:
            if os.getpid() != process:
                end_copy(sys.exception())

    def _run_async(self, running: Any) -> Any:
        """Run a coroutine in the loop of all attempts, or in another where that one waits for this attempt."""
        if not self._runner.get_loop().is_running():
            return _run_in(self._runner, running)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return _run_in(runner, running)


def _run_in(runner: asyncio.Runner, running: Any) -> Any:
    loop = runner.get_loop()
    try:
        return runner.run(running, context=contextvars.copy_context())
    finally:
        if left := asyncio.all_tasks(loop):
            for one in left:
                one.cancel()
            loop.run_until_complete(asyncio.wait(left))


async def _limited(task: AnyTask, returned: Awaitable[Any]) -> Any:
    timeout = asyncio.timeout(task.time_limit)
    try:
        async with timeout:
            return await within(task.soft_time_limit, returned)
    except TimeoutError as error:
        if timeout.expired():
            raise TimeLimitExceeded from error
        raise


@contextlib.contextmanager
def _limits(task: AnyTask) -> Iterator[None]:
    """Have the limits raised in what runs, by the alarm, which only the main thread has."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    alarm = _Alarm(task)
    alarm.set()
    try:
        yield
    finally:
        alarm.put_back()


class _Alarm:
    """Rings at the soft limit, then at the time limit. Where somebody else's is earlier, it is theirs."""

    def __init__(self, task: AnyTask) -> None:
        started = time.monotonic()
        limits: list[tuple[float, BaseException]] = [(task.time_limit, TimeLimitExceeded())]
        if task.soft_time_limit is not None:
            limits.append((task.soft_time_limit, SoftTimeLimitExceeded("the task overran its soft time limit")))
        self._limits = [(started + seconds, error) for seconds, error in limits]
        seconds, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._theirs = started + seconds if seconds else None
        self._handler = signal.getsignal(signal.SIGALRM)

    def set(self) -> None:
        """Ring at the next limit."""
        if not self._limits or (self._theirs and self._theirs <= self._limits[-1][0]):
            self.put_back()
            return
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self._limits[-1][0] - time.monotonic()))

    def put_back(self) -> None:
        """Ring no more, and let theirs ring."""
        self._limits.clear()  # first: what comes from here on must not raise
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        if self._theirs:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, self._theirs - time.monotonic()), self._interval)

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if self._limits:
            _, error = self._limits.pop()
            if self._limits:
                self.set()
            raise error


def _apart(run: Callable[[T], R], what: T) -> R:
    """Run it here, or in a thread where a loop runs: a task may run one, too, and must not find another."""
    if not _is_in_loop():
        return run(what)
    with ThreadPoolExecutor(1, "leveret attempt") as beside:
        return beside.submit(run, what).result()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
