"""A child process that runs orders one after the other: take a token, decode, find, fit, run, and report how it ended.

An order is begun only with a token, which the parent put into a pipe beside it. The parent takes back what has
not begun by reading the remaining tokens itself: the kernel gives each token to one of the two.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import FrameType
from typing import Any

from leveret.consumers import output
from leveret.consumers.child import telling, traced
from leveret.consumers.child.board import Board
from leveret.consumers.child.copies import copies, end_copy
from leveret.consumers.child.later import seconds_until
from leveret.consumers.child.logged import Logged
from leveret.consumers.child.outcome import Ending, Failure, Outcome, cut, failure_of
from leveret.consumers.child.process import settle_in, start
from leveret.consumers.child.protocol import Lines, Order, pack_lines, read_orders
from leveret.consumers.child.reporting import Reporter
from leveret.consumers.child.returned import succeeded
from leveret.consumers.child.signals import CANCELLING
from leveret.consumers.child.surroundings import Surroundings
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.errors import Cancelled, Reject, SoftTimeLimitExceeded
from leveret.consumers.tasks.reading import Misfit
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import registry, traces
from leveret.topology.errors import MessageError
from leveret.topology.message import decode

_ALARM_AGAIN_SECONDS = 0.005
_OWN_FRAMES = 3  # _run, call and _call_function stand above the task in a traceback

_RUN_IN_LOOP = "asyncio.run() cannot be called from a running event loop"

Args = Sequence[Any]
Kwargs = Mapping[str, Any]
Call = tuple[AnyTask, Args, Kwargs]
Begin = Callable[[int, float, float, str], None]


def serve(
    parent: socket.socket,
    tokens: int,
    board: Board,
    index: int,
    message_limit_bytes: int,
    run_batch: RunBatch | None = None,
) -> None:
    """Run orders until the parent closes the connection; those that come together by `run_batch`, if it is given."""
    reporter = Reporter(parent.sendall, board, index)
    run_batch = run_batch or _run_batch
    settle_in()
    os.set_blocking(tokens, False)
    executor = Executor(
        message_limit_bytes,
        reporter.begin,
        functools.partial(board.cancelled, index),
        parent.sendall,
    )
    telling.tell_on(board, index, lambda one: (0, board.number_in(index)) if one is executor.attempt else None)
    start()
    board.enter(index)
    surroundings = Surroundings()
    stream = parent.makefile("rb")
    with contextlib.suppress(ConnectionError):  # the parent has left, perhaps without reading the last report
        while orders := read_orders(stream):
            run_batch(reporter, tokens, executor, surroundings, orders)
    traced.flush()


def _run_batch(
    reporter: Reporter, tokens: int, executor: Executor, surroundings: Surroundings, orders: list[Order]
) -> None:
    """Run the orders there are tokens for."""
    reporter.start(orders[0].number)
    for order in orders:
        if not take_tokens(tokens, 1):
            break  # the parent took the rest back
        outcome = executor.execute(order)
        surroundings.put_back(outcome.task)
        reporter.note(order.number, outcome, is_last=order is orders[-1])
    reporter.finish()


def take_tokens(tokens: int, most: int) -> int:
    """Take up to so many tokens; returns how many there were, fewer when the parent has taken them back."""
    try:
        return len(os.read(tokens, most))
    except BlockingIOError:
        return 0


def read_call(order: Order, limit_bytes: int, started: float) -> Call | Outcome:
    """Return the task that an order asks for and its arguments, or the outcome where it cannot be called like that."""
    try:
        call = decode(order.body, order.content_type, order.content_encoding, limit_bytes)
    except MessageError as error:
        return traced.refused(order, outcome_of(Ending.UNREADABLE, "", started, failure_of(error, skip_frames=99)))
    task = registry.get(call.task)
    if task is None:
        reason = f"no task {call.task!r} is known to this worker; it knows: {', '.join(registry.names())}"
        failure = Failure("UnknownTask", cut(reason))
        return traced.refused(order, outcome_of(Ending.UNKNOWN_TASK, cut(call.task), started, failure))
    try:
        args, kwargs = task.arguments.fit(call.args, call.kwargs)
    except Misfit as misfit:
        failure = Failure("WrongArguments", cut(str(misfit)))
        return traced.refused(order, outcome_of(Ending.WRONG_ARGUMENTS, task.name, started, failure))
    return task, args, kwargs


RunBatch = Callable[[Reporter, int, "Executor", Surroundings, list[Order]], None]


class Executor:
    """Runs orders one after the other; `begin` is told the number, start, deadline and task of each.

    `cancelled` says the number of the order that was begun last if that is to end, else 0; it is asked at a signal.
    `send` is given frames of what followed tasks log and print while they run; by default it goes nowhere else.
    """

    def __init__(
        self,
        limit_bytes: int,
        begin: Begin,
        cancelled: Callable[[], int] = lambda: 0,
        send: Callable[[bytes], object] | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self._begin = begin
        self._send = send
        self._is_sending = False
        self.attempt: attempt.Attempt | None = None
        """The one that runs, or ran last."""
        copies.is_copy = False
        self._runner = _runner()
        self._soft_limit_armed = False
        signal.signal(signal.SIGALRM, self._on_alarm)
        self._cancelled = cancelled
        self._told = 0  # the order that was told last to end
        self._awaited: Coroutine[Any, Any, Any] | None = None
        signal.signal(CANCELLING, self._on_cancel)

    def execute(self, order: Order) -> Outcome:
        """Run one order to its end, whatever that is."""
        started = time.monotonic()
        call = read_call(order, self.limit_bytes, started)
        if isinstance(call, Outcome):
            return call
        task, args, kwargs = call
        if task.batch is not None:
            from leveret.consumers.child.in_batches import run_together  # which imports this module

            return run_together(self, [order])[0]
        self.attempt = attempt.Attempt(order.id, order.attempt, order.queue, task.name)
        attempt.begin(self.attempt)
        self._begin(order.number, started, started + task.time_limit, task.name)
        context = contextvars.copy_context()  # what it sets there ends with it
        span = context.run(traced.begin, order, task.name) if traces.is_on() else None
        if order.is_followed or task.follow:
            logged = Logged(functools.partial(self._send_lines, order.number, task.name))
            context.run(output.listen, logged)
            outcome = context.run(self._run, task, args, kwargs, started, True)
            logged.close()  # before the outcome is sent: then no thread of it sends any more
        else:
            outcome = context.run(self._run, task, args, kwargs, started, False)
        if span:
            traced.end(span, outcome)
        return outcome

    def begin(self, number: int, task: AnyTask, its: attempt.Attempt) -> None:
        """Say that an attempt begins, which may be that of many orders, by the number of one of them."""
        self.attempt = its
        attempt.begin(its)
        started = time.monotonic()
        self._begin(number, started, started + task.time_limit, task.name)

    @property
    def was_told_to_end(self) -> bool:
        """Whether what runs was cancelled, and told so."""
        return bool(self._told) and self._told == self._cancelled()

    def _send_lines(self, number: int, task: str, lines: list[str], dropped: int) -> None:
        if self._send:
            self._is_sending = True
            try:
                self._send(pack_lines(Lines(number, task, lines, dropped)))
            finally:
                self._is_sending = False

    def _run(self, task: AnyTask, args: Args, kwargs: Kwargs, started: float, is_followed: bool) -> Outcome:
        try:
            returned = self.call(task, args, kwargs)
        except BaseException as error:  # noqa: BLE001 - sys.exit() and the like fail this attempt only
            if self._told and self._told == self._cancelled():
                return cancelled_in(task, error, started, _OWN_FRAMES)
            return failed(task, error, started, _OWN_FRAMES)
        if is_followed:
            return succeeded(task, returned, started)
        return Outcome(Ending.RETURNED, task.name, time.monotonic() - started)

    def call(self, task: AnyTask, args: Args, kwargs: Kwargs) -> Any:
        """Call the function of a task and return what comes of it; raises what it raises."""
        try:
            returned = self._call_function(task, args, kwargs)
            return returned if returned is None else self._finish(task, returned)
        finally:
            if copies.is_copy:
                end_copy(sys.exception())

    def _call_function(self, task: AnyTask, args: Args, kwargs: Kwargs) -> Any:
        if task.soft_time_limit is None:
            return task.function(*args, **kwargs)
        try:
            signal.signal(signal.SIGALRM, self._on_alarm)  # again: a task may have put its own there, or blocked it
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
            self._soft_limit_armed = True
            signal.setitimer(signal.ITIMER_REAL, task.soft_time_limit)
            return task.function(*args, **kwargs)
        finally:
            self._soft_limit_armed = False  # first: an alarm from here on must not raise
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _finish(self, task: AnyTask, returned: Any) -> Any:
        """Run what the call has only made: whatever decorators hide, a coroutine tells that its body has not run."""
        if inspect.isawaitable(returned):
            returned = self._run_async(within(task.soft_time_limit, returned))
        refuse_generator(task, returned)
        return returned

    def _run_async(self, running: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop that all attempts share, and end what it leaves there."""
        if self._runner.get_loop().is_closed():
            self._runner = _runner()
        loop = self._runner.get_loop()
        self._awaited = running
        try:
            return self._runner.run(running, context=contextvars.copy_context())  # by default it is the first attempt's
        finally:
            self._awaited = None
            _clear(loop)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._soft_limit_armed:
            if self._is_sending:  # half a frame would be garbage
                signal.setitimer(signal.ITIMER_REAL, _ALARM_AGAIN_SECONDS)
                return
            self._soft_limit_armed = False
            raise SoftTimeLimitExceeded("the task overran its soft time limit")

    def _on_cancel(self, _number: int, frame: FrameType | None) -> None:
        """Have the attempt end that is cancelled, if it is this one and its own code runs; else we are asked again."""
        number = self._cancelled()
        if not number or number == self._told or self._is_sending:  # half a frame would be garbage
            return
        if self._awaited is not None:
            loop = self._runner.get_loop()
            for one in asyncio.all_tasks(loop) if loop.is_running() else ():
                if one.get_coro() is self._awaited:
                    self._told = number
                    loop.call_soon_threadsafe(one.cancel)
        elif _is_in_task(frame):
            self._told = number
            raise Cancelled("the task was cancelled")


def _is_in_task(frame: FrameType | None) -> bool:
    """Whether a task's own code was interrupted: an exception there ends the attempt, and nothing of ours half-way."""
    if frame is None or frame.f_code.co_filename == __file__:
        return False
    while frame and frame.f_code.co_filename != __file__:
        frame = frame.f_back
    return frame is not None and frame.f_code is Executor._call_function.__code__


def _runner() -> asyncio.Runner:
    """Make a runner whose loop plain tasks do not find, for they may close the current loop."""
    return asyncio.Runner(loop_factory=asyncio.new_event_loop)


def _clear(loop: asyncio.AbstractEventLoop) -> None:
    """Run what is due, then cancel tasks and timers: all this would go on in a later attempt, which it could fail."""
    if getattr(loop, "_ready", True):  # a loop that does not say what is due may have something
        loop.call_soon(loop.stop)
        loop.run_forever()
    if left := asyncio.all_tasks(loop):
        for one in left:
            one.cancel()
        loop.run_until_complete(asyncio.wait(left))
    for handle in (*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())):
        handle.cancel()


def refuse_generator(task: AnyTask, returned: object) -> None:
    """Raise `TypeError` for a result whose body nobody would run."""
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise TypeError(
            f"task {task.name!r} returned a generator, whose body nobody runs; let it run to its end in the task, "
            "and return instead of yield"
        )


async def within(soft_time_limit: float | None, running: Awaitable[Any]) -> Any:
    """Await it, and what it returns if that is a coroutine; raises `SoftTimeLimitExceeded` after so many seconds."""
    timeout = asyncio.timeout(soft_time_limit)
    try:
        async with timeout:
            returned = await running
            while inspect.iscoroutine(returned):  # an `async def` around another that does not await it
                returned = await returned
            return returned
    except TimeoutError as error:
        if timeout.expired():
            raise SoftTimeLimitExceeded("the task overran its soft time limit") from error
        raise


def failed(task: AnyTask, error: BaseException, started: float, own_frames: int) -> Outcome:
    """Return the outcome of a task that raised this; so many frames of the traceback are ours."""
    failure = failure_of(error, own_frames)
    if (seconds := seconds_until(error)) is not None:
        return outcome_of(Ending.LATER, task.name, started, failure)._replace(result=repr(seconds))
    ending = Ending.REJECTED if isinstance(error, (Reject, *task.never)) else Ending.RAISED
    if isinstance(error, RuntimeError) and failure.message.startswith(_RUN_IN_LOOP):
        hint = f"{failure.message}: task {task.name!r} is async def and runs in a loop already; await it there instead"
        failure = failure._replace(message=cut(hint))
    return outcome_of(ending, task.name, started, failure)


def cancelled_in(task: AnyTask, error: BaseException, started: float, own_frames: int) -> Outcome:
    """Return the outcome of a cancelled task that raised this; what is not the cancel itself is told with it."""
    is_cancel = isinstance(error, (Cancelled, asyncio.CancelledError))
    failure = None if is_cancel else failure_of(error, own_frames)
    return Outcome(Ending.CANCELLED, task.name, time.monotonic() - started, failure)


def outcome_of(ending: Ending, task: str, started: float, failure: Failure) -> Outcome:
    """Return how something ended that began at `started`, a moment of `time.monotonic`."""
    return Outcome(ending, task, time.monotonic() - started, failure)
