"""The standard library as it was before task modules were loaded, for the processes that run beside tasks.

A module may change it for its whole process, as `socket.setdefaulttimeout` does, or gevent and eventlet that make it
cooperative. That is for the tasks to have; who times them and forks their processes must not wait in their ways. What
is imported here is bound before any task module is loaded.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from types import ModuleType

fork, waitpid, close = os.fork, os.waitpid, os.close
poll, set_handler = select.poll, signal.signal
_Socket = socket.socket
_PATCHED = (
    "_thread",
    "os",
    "queue",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
)
"""What gevent and eventlet change."""
_before = {module: dict(vars(module)) for name in _PATCHED if (module := sys.modules.get(name))}
_default_timeout = socket.getdefaulttimeout()
_MISSING = object()
was_changed = False
"""Whether something was put back. Python's own way to end waits for what is not there any more then."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that wait as long as it takes."""
    one, other = _socket.socketpair()
    return socket_of(one.detach()), socket_of(other.detach())


def socket_of(descriptor: int) -> socket.socket:
    """Return the socket of this file descriptor, which waits as long as it takes."""
    made = _Socket(fileno=descriptor)
    made.settimeout(None)
    return made


def put_back() -> Callable[[], None]:
    """Make the standard library in this process again what it was; returns what changes it once more, for a fork."""
    global was_changed
    patched: list[tuple[ModuleType, str, object]] = []
    for module, names in _before.items():
        for name, value in names.items():
            now = vars(module).get(name, _MISSING)
            if now is not value:
                patched.append((module, name, now))
                setattr(module, name, value)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_default_timeout)
    was_changed = was_changed or bool(patched)

    def change_again() -> None:
        for module, name, value in patched:
            if value is _MISSING:
                delattr(module, name)
            else:
                setattr(module, name, value)
        socket.setdefaulttimeout(timeout)

    return change_again
