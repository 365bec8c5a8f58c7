"""Copies: processes that a task forked and that left the task as well. They end; the task's own process goes on."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from leveret.topology.printable import printable_lines


class _Copies:
    """Whether this process was forked by a task, which is cheaper to note than to ask the system each time."""

    is_copy = False

    def __init__(self) -> None:
        os.register_at_fork(after_in_child=self._note)

    def _note(self) -> None:
        self.is_copy = True


copies = _Copies()


def end_copy(error: BaseException | None) -> NoReturn:
    """End a process that a task forked and that left the task as well, with the status a script would end with.

    The task's own process goes on and reports. Nothing is flushed here: what was buffered at the fork, it writes.
    """
    status = 1
    try:
        if error is None:
            status = 0
        elif not isinstance(error, SystemExit):
            _say("".join(traceback.format_exception(error)).rstrip("\n"))
        elif error.code is None or isinstance(error.code, int):
            status = (error.code or 0) & 0xFF
        else:
            _say(error.code)
    finally:
        os._exit(status)


def _say(text: object) -> None:
    print(printable_lines(text), file=sys.stderr)
