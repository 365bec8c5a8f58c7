"""A child process: reads batches of orders, runs them one by one, reports the outcomes. A task may kill it.

An order is begun only with a token, which the parent put into a pipe beside it. The parent takes back what has
not begun by reading the remaining tokens itself: the kernel gives each token to one of the two.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import signal
import socket
import sys
import time

from leveret.consumers import log, output
from leveret.consumers.child import signals
from leveret.consumers.child.board import Board
from leveret.consumers.child.execute import Executor
from leveret.consumers.child.outcome import Ending, Outcome, failure_of
from leveret.consumers.child.protocol import Order, Report, pack_report, read_orders
from leveret.consumers.child.surroundings import Surroundings
from leveret.consumers.tasks import child_start

_PR_SET_PDEATHSIG = 1
_LONGEST_SILENCE_SECONDS = 0.002


def serve(parent: socket.socket, tokens: int, board: Board, index: int, message_limit_bytes: int) -> None:
    """Run orders until the parent closes the connection."""
    settle_in()
    os.set_blocking(tokens, False)
    executor = Executor(message_limit_bytes, functools.partial(board.write, index))
    start()
    board.enter(index)
    surroundings = Surroundings()
    stream = parent.makefile("rb")
    with contextlib.suppress(ConnectionError):  # the parent has left, perhaps without reading the last report
        while orders := read_orders(stream):
            _run_batch(parent, tokens, executor, surroundings, orders)


def _run_batch(
    parent: socket.socket, tokens: int, executor: Executor, surroundings: Surroundings, orders: list[Order]
) -> None:
    """Run the orders there are tokens for. Successes are reported together, at the latest after a short silence."""
    first = orders[0].number
    outcomes: list[Outcome] = []
    reported = time.monotonic()
    for order in orders:
        if not take_tokens(tokens, 1):
            break  # the parent took the rest back
        outcome = executor.execute(order)
        surroundings.put_back(outcome.task)
        outcomes.append(outcome)
        now = time.monotonic()
        if (
            outcome.ending is not Ending.RETURNED
            or outcome.result is not None  # the parent can tell by the next one that it succeeded, but not with what
            or now - reported > _LONGEST_SILENCE_SECONDS
        ):
            parent.sendall(pack_report(Report(first, outcomes, is_last=False)))
            first, outcomes, reported = order.number + 1, [], now
    parent.sendall(pack_report(Report(first, outcomes, is_last=True)))


def take_tokens(tokens: int, most: int) -> int:
    """Take up to so many tokens; returns how many there were, fewer when the parent has taken them back."""
    try:
        return len(os.read(tokens, most))
    except BlockingIOError:
        return 0


def settle_in() -> None:
    """Own process group: Ctrl-C reaches the parent only, and what a task leaves behind can be ended with it."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signals.outlive()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    for stream in (sys.stdout, sys.__stdout__):  # a task module may have put something else over it
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # it was closed or detached
                stream.reconfigure(line_buffering=True)  # the process may be killed any time
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def start() -> None:
    """Make this process differ from its siblings where it has to, and call what task modules want called here."""
    if numpy_random := sys.modules.get("numpy.random"):  # `random` does so itself
        numpy_random.seed()
    for hook in child_start.hooks():
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - whatever user code may raise
            failure = failure_of(error, skip_frames=1)
            name = f"{hook.__module__}.{getattr(hook, '__qualname__', hook)}"
            log.event(
                logging.ERROR,
                f"on_child_start {name} failed, so this child process ends",
                error=f"{failure.type}: {failure.message}",
                traceback=failure.traceback,
            )
            output.take_over()  # what it printed
            os._exit(1)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere a closed socket has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
