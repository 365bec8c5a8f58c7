"""What signals do to a child, and to what its tasks start.

A service manager or a terminal may send them to all processes of a worker, and only the parent decides what follows.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those by which a process is told to end."""
TELLING = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)
"""Those by which a worker is asked what it runs."""

CANCELLING = signal.SIGURG
"""By which a child is told to look what it is to end. Who does not listen to it is not ended by it."""


def survive_telling() -> None:
    """Have the signals that ask a worker end nothing. Whoever has a handler of their own for one keeps it."""
    for number in TELLING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _do_nothing)


def outlive() -> None:
    """Leave it to the parent when this process ends, even if all of a service's processes are told to.

    What tasks start is ended by such signals as anywhere: exec resets a handler, where an ignored signal would stay
    ignored, and forked processes put the system's default back. From before the fork until then a signal has to wait.
    """
    for number in ENDING:
        signal.signal(number, _do_nothing)
    survive_telling()
    masks = threading.local()

    def hold_signals() -> None:
        masks.former = signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, *TELLING))

    def let_signals_come() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.former)

    def become_ordinary() -> None:
        for number in (*ENDING, *TELLING):
            if signal.getsignal(number) is _do_nothing:
                signal.signal(number, signal.SIG_DFL)
        let_signals_come()

    os.register_at_fork(before=hold_signals, after_in_parent=let_signals_come, after_in_child=become_ordinary)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass
