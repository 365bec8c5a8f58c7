"""The forkserver: a process without connections and threads that forks children out of loaded task modules.

The parent starts it before it opens any connection, so no child inherits one. It forks a child for each socket
it is sent, tells how each child ended, kills on request, and takes everything with it when the parent is gone.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from consumers.child import die_with_parent
from topology.errors import LeveretError

_RECORD = struct.Struct("!Biq")


Serve = Callable[[socket.socket, int, int], None]


class _Verb(enum.IntEnum):
    FORK = 0
    KILL = 1
    FORKED = 2
    EXITED = 3


class ForkserverDied(LeveretError):
    """The forkserver is gone, and without it no child can be started."""


class Event(NamedTuple):
    """News from the forkserver: the child of slot `slot` was forked as `pid`, or ended with `exit_status`."""

    slot: int
    pid: int
    exit_status: int | None


class Forkserver:
    """The parent's end."""

    def __init__(self, serve: Serve) -> None:
        """Fork the server now; each child will call `serve` with its socket, its pipe of tokens and its slot."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _Server(theirs, serve).run()
        theirs.close()
        self._socket.setblocking(False)
        self._received = b""

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there are events."""
        return self._socket.fileno()

    def fork(self, index: int, child_end: socket.socket, tokens: int) -> None:
        """Have a child forked for this slot, with its end of a socket pair and the read end of a pipe."""
        descriptors = [child_end.fileno(), tokens]
        socket.send_fds(self._socket, [_RECORD.pack(_Verb.FORK, index, 0)], descriptors)
        child_end.close()

    def kill(self, index: int) -> None:
        """Kill the child of this slot, with its process group, if it still lives."""
        self._socket.send(_RECORD.pack(_Verb.KILL, index, 0))

    def events(self) -> list[Event]:
        """Return the news so far. Raises `ForkserverDied`."""
        with contextlib.suppress(BlockingIOError):
            while data := self._socket.recv(65536):
                self._received += data
            raise ForkserverDied("the process that forks children died; what was unfinished goes back to its queue")
        events = []
        while len(self._received) >= _RECORD.size:
            verb, index, value = _RECORD.unpack_from(self._received)
            self._received = self._received[_RECORD.size :]
            events.append(Event(index, value, None) if verb == _Verb.FORKED else Event(index, 0, value))
        return events

    def stop(self) -> None:
        """End the forkserver and with it every child, and wait for it."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class _Server:
    def __init__(self, parent: socket.socket, serve: Serve) -> None:
        self._parent = parent
        self._serve = serve
        self._children: dict[int, int] = {}  # pid → slot index

    def run(self) -> NoReturn:
        status = 1
        try:
            self._serve_parent()
            status = 0
        except BaseException:  # noqa: BLE001 - nobody above would print it
            traceback.print_exc()
        os._exit(status)

    def _serve_parent(self) -> None:
        os.setpgid(0, 0)
        die_with_parent()
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(reading, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        gc.freeze()  # children share these pages as long as the collector leaves them alone
        while self._parent.fileno() >= 0:
            sources: list[socket.socket | int] = [self._parent, reading]
            readable, _, _ = select.select(sources, [], [])
            if reading in readable:
                os.read(reading, 4096)
            self._reap()
            if self._parent in readable:
                self._obey()

    def _obey(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._parent, _RECORD.size, 2)
        except ConnectionResetError:  # the parent left without reading our last news
            data, descriptors = b"", []
        if len(data) < _RECORD.size:
            for pid in self._children:
                _kill(pid)
            self._parent.close()
            return
        verb, index, _ = _RECORD.unpack(data)
        if verb == _Verb.FORK:
            self._fork(index, *descriptors)
        else:
            for pid in [pid for pid, its in self._children.items() if its == index]:
                _kill(pid)

    def _fork(self, index: int, descriptor: int, tokens: int) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_child(index, descriptor, tokens)
        os.close(descriptor)
        os.close(tokens)
        with contextlib.suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        self._children[pid] = index
        self._tell(_Verb.FORKED, index, pid)

    def _become_child(self, index: int, descriptor: int, tokens: int) -> NoReturn:
        status = 1
        try:
            self._parent.close()
            self._serve(socket.socket(fileno=descriptor), tokens, index)
            status = 0
        except BaseException:  # noqa: BLE001 - nobody above would print it
            traceback.print_exc()
        os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _kill_group(pid)  # what the task may have left running
            index = self._children.pop(pid, None)
            if index is not None:
                self._tell(_Verb.EXITED, index, os.waitstatus_to_exitcode(status))

    def _tell(self, verb: _Verb, index: int, value: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent is gone; the next read says so
            self._parent.sendall(_RECORD.pack(verb, index, value))


def _kill(pid: int) -> None:
    """Kill a child that was not reaped yet, so that its pid is still its own."""
    _kill_group(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
