"""How a child process begins, whatever it runs then: apart from its siblings, and gone with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import signal
import sys

from leveret.consumers import log, output
from leveret.consumers.child import signals
from leveret.consumers.child.outcome import failure_of
from leveret.consumers.tasks import child_start

_PR_SET_PDEATHSIG = 1


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
