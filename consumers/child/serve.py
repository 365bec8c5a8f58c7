"""A child process: reads batches of orders, runs them one by one, reports the outcomes. A task may kill it.

An order is begun only with a token, which the parent put into a pipe beside it. The parent takes back what has
not begun by reading the remaining tokens itself: the kernel gives each token to one of the two.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

from leveret.consumers.child.board import Board
from leveret.consumers.child.execute import Executor
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import Order, Report, pack_report, read_orders

_PR_SET_PDEATHSIG = 1
_LONGEST_SILENCE_SECONDS = 0.002
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(parent: socket.socket, tokens: int, board: Board, index: int, message_limit_bytes: int) -> None:
    """Run orders until the parent closes the connection."""
    _settle_in()
    os.set_blocking(tokens, False)
    executor = Executor(message_limit_bytes, functools.partial(board.write, index))
    stream = parent.makefile("rb")
    with contextlib.suppress(ConnectionError):  # the parent has left, perhaps without reading the last report
        while orders := read_orders(stream):
            _run_batch(parent, tokens, executor, orders)


def _run_batch(parent: socket.socket, tokens: int, executor: Executor, orders: list[Order]) -> None:
    """Run the orders there are tokens for. Successes are reported together, at the latest after a short silence."""
    first = orders[0].number
    outcomes: list[Outcome] = []
    reported = time.monotonic()
    for order in orders:
        if not _take_token(tokens):
            break  # the parent took the rest back
        outcome = executor.execute(order)
        outcomes.append(outcome)
        now = time.monotonic()
        if outcome.ending is not Ending.RETURNED or now - reported > _LONGEST_SILENCE_SECONDS:
            parent.sendall(pack_report(Report(first, outcomes, is_last=False)))
            first, outcomes, reported = order.number + 1, [], now
    parent.sendall(pack_report(Report(first, outcomes, is_last=True)))


def _take_token(tokens: int) -> bool:
    try:
        return bool(os.read(tokens, 1))
    except BlockingIOError:
        return False


def _settle_in() -> None:
    """Own process group: Ctrl-C reaches the parent only, and what a task leaves behind can be ended with it."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    _outlive_ending_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    for stream in (sys.stdout, sys.__stdout__):  # a task module may have put something else over it
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # it was closed or detached
                stream.reconfigure(line_buffering=True)  # the process may be killed any time
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _outlive_ending_signals() -> None:
    """Leave it to the parent when this process ends, even if all of a service's processes are told to.

    What tasks start is ended by such signals as anywhere: exec resets a handler, where an ignored signal would stay
    ignored, and forked processes put the system's default back. From before the fork until then a signal has to wait.
    """
    for number in _ENDING_SIGNALS:
        signal.signal(number, _do_nothing)
    masks = threading.local()

    def hold_signals() -> None:
        masks.former = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING_SIGNALS)

    def let_signals_come() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.former)

    def become_ordinary() -> None:
        for number in _ENDING_SIGNALS:
            if signal.getsignal(number) is _do_nothing:
                signal.signal(number, signal.SIG_DFL)
        let_signals_come()

    os.register_at_fork(before=hold_signals, after_in_parent=let_signals_come, after_in_child=become_ordinary)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere a closed socket has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
