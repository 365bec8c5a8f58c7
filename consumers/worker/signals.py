"""What signals do to a worker's parent process before it works, whatever it inherited and task modules have set."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

from leveret.consumers import log
from leveret.consumers.child.signals import ENDING, survive_telling

EXIT_STOPPED, EXIT_INTERRUPTED = 0, 130


def take_over() -> None:
    """Let every signal come, and have those that end a worker end it at once, for it has taken nothing yet.

    To be called before task modules are imported, and again after that. Other processes of the worker inherit it.
    """
    for number in stopping():
        signal.signal(number, _end)
    survive_telling()
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # then no child's exit status could be had
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # last: one that waited is handled now


def stopping() -> list[signal.Signals]:
    """Return the signals that stop a worker: a closed terminal does not where SIGHUP is ignored, as under nohup."""
    return [one for one in ENDING if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


def _end(number: int, _frame: FrameType | None) -> None:
    try:
        log.event(logging.INFO, f"{signal.Signals(number).name} while starting: ending, for nothing was taken yet")
        log.flush()
        sys.stdout.flush()
    finally:  # at once, whatever a task module does just now and would do about an exception
        os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_STOPPED)
