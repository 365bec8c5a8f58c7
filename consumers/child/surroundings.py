"""What a task finds around it: the working directory, the environment and the like, of its whole process.

What one task changes there would fail those that follow, so it is put back, and the log says who did it. This is
done after each task: it looks only at what can be compared in some hundred nanoseconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.getsignal makes an enum of the answer, five times as slow
import functools
import logging
import os
import signal
import sys
from typing import Any

from leveret.consumers import log
from leveret.consumers.output import Output

_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE),
)
_SIGNAL_NUMBERS = tuple(map(int, _SIGNALS))


_AUDITED = frozenset({"os.chdir", "os.putenv", "os.unsetenv"})
_heard: set[str] = set()
"""What Python told of since the last look: to look at the directory and the variables would cost more than it all."""


def _hear(event: str, _arguments: object) -> None:
    if event in _AUDITED:
        _heard.add(event)


@functools.cache
def _listen() -> None:
    """Listen, once in a process, to what Python tells of itself; an audit hook cannot be taken away."""
    sys.addaudithook(_hear)


class Surroundings:
    """As they are now; `put_back` makes them so again."""

    def __init__(self) -> None:
        _listen()
        _heard.clear()
        self._directory = _directory()
        self._directory_itself = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))  # it may be renamed
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environ, self._variables = os.environ, vars(os.environb)["_data"]
        self._former_variables = dict(self._variables)
        self._path, self._former_path = sys.path, list(sys.path)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._outputs = [stream for stream in self._streams if isinstance(stream, Output)]
        self._handlers = _handlers()
        self._modules = len(sys.modules)
        self._told: set[tuple[str, str]] = set()

    def put_back(self, task: str) -> None:
        """Put back what the task that has just ended has changed, and settle what it printed."""
        if _heard:
            self._put_back_what_was_heard(task)
        if (left := os.umask(self._umask)) != self._umask:
            self._tell(task, f"the umask, to {left:04o},")
        if os.environ is not self._environ:
            self._put_back_variables(task)
        if sys.path != self._former_path or sys.path is not self._path:
            self._put_back_path(task)
        if _handlers() != self._handlers:
            self._put_back_handlers(task)
        try:
            for output in self._outputs:
                if output.raw.is_touched and (news := output.settle()):
                    log.event(logging.WARNING, news)
        except ValueError:
            self._reopen_streams(task)
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            sys.stdin, sys.stdout, sys.stderr = self._streams
            self._tell(task, "sys.stdin, sys.stdout or sys.stderr")
        self._modules = len(sys.modules)

    def _put_back_what_was_heard(self, task: str) -> None:
        if _directory() != self._directory:
            os.fchdir(self._directory_itself)
            self._tell(task, "the working directory")
        if self._variables != self._former_variables:
            self._put_back_variables(task)
        _heard.clear()

    @property
    def _has_imported(self) -> bool:
        """Whether modules were loaded. What is new then is theirs, and they count on it: they are loaded only once."""
        return len(sys.modules) > self._modules

    def _put_back_variables(self, task: str) -> None:
        is_another = os.environ is not self._environ
        os.environ = self._environ  # noqa: B003 - the very same
        now, former = self._variables, self._former_variables
        new = now.keys() - former.keys()
        if self._has_imported:
            former.update((name, now[name]) for name in new)
        changed = {name for name in now.keys() | former.keys() if now.get(name) != former.get(name)}
        for name in changed:
            if name in former:
                os.environb[name] = former[name]
            else:
                del os.environb[name]
        if changed or is_another:
            names = ", ".join(sorted(map(os.fsdecode, changed))) or "os.environ"
            self._tell(task, f"the environment ({names})")

    def _put_back_path(self, task: str) -> None:
        if self._has_imported and self._path is sys.path and set(self._former_path) <= set(sys.path):
            self._former_path = list(sys.path)
            return
        sys.path = self._path
        sys.path[:] = self._former_path
        self._tell(task, "sys.path")

    def _put_back_handlers(self, task: str) -> None:
        names = []
        for number, now, former in zip(_SIGNALS, _handlers(), self._handlers, strict=True):
            if now != former and former is not None:  # None stands for one that is not Python's
                signal.signal(number, former)
                names.append(number.name)
        self._tell(task, f"what signals do ({', '.join(names)})")

    def _reopen_streams(self, task: str) -> None:
        fresh = {id(output): output.again() for output in self._outputs if output.is_spent}
        sys.stdin, sys.stdout, sys.stderr = (fresh.get(id(stream), stream) for stream in self._streams)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._outputs = [fresh.get(id(output), output) for output in self._outputs]
        self._tell(task, "sys.stdout or sys.stderr, which it closed,")

    def _tell(self, task: str, what: str) -> None:
        """Say it once of each task and kind; the names in brackets do not make another kind."""
        kind = (task, what.partition("(")[0])
        if kind not in self._told:
            self._told.add(kind)
            log.event(logging.WARNING, f"a task has changed {what}; put back for the next one", task=task)


def _directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a path object takes far longer
    except OSError:  # it was removed
        return ""


def _handlers() -> list[Any]:
    return list(map(_signal.getsignal, _SIGNAL_NUMBERS))
