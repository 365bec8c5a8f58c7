"""A child process: reads orders, runs them one by one, reports each outcome. A task may kill it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

from consumers.execute import Executor
from consumers.slots import Slots
from consumers.wire import pack_outcome, read_order

_PR_SET_PDEATHSIG = 1


def serve(parent: socket.socket, slots: Slots, index: int, message_limit_bytes: int) -> None:
    """Run orders until the parent closes the connection."""
    _settle_in()
    executor = Executor(message_limit_bytes, lambda number, deadline, task: slots.write(index, number, deadline, task))
    stream = parent.makefile("rb")
    while order := read_order(stream):
        parent.sendall(pack_outcome(order.number, executor.execute(order)))


def _settle_in() -> None:
    """Own process group: Ctrl-C reaches the parent only, and what a task leaves behind can be ended with it."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # the process may be killed any time
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere a closed socket has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
