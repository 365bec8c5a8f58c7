"""The forkserver: a process without connections and threads that forks children out of loaded task modules.

The parent starts it before it opens any connection, so no child inherits one. It forks a child for each socket
it is sent, tells how each child ended, kills on request, and takes everything with it when the parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from leveret.consumers.child.process import die_with_parent
from leveret.consumers.child.signals import CANCELLING
from leveret.consumers.running import untouched
from leveret.topology.errors import LeveretError
from leveret.topology.printable import printable_lines

_RECORD = struct.Struct("!Biq")
_PR_SET_CHILD_SUBREAPER = 36
_LEAVING_SECONDS = 5.0
_LAST_WORDS_SECONDS = 2.0  # of children that hold nothing: spans to export

Serve = Callable[[socket.socket, int, int], None]


class _Verb(enum.IntEnum):
    FORK = 0
    KILL = 1
    EXITED = 2
    CANCEL = 3


class ForkserverDied(LeveretError):
    """The forkserver is gone, and without it no child can be started."""


class Event(NamedTuple):
    """News from the forkserver: the child of slot `slot` ended with `exit_status`."""

    slot: int
    exit_status: int


class Forkserver:
    """The parent's end."""

    def __init__(self, serve: Serve) -> None:
        """Fork the server now; each child will call `serve` with its socket, its pipe of tokens and its slot."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._socket, theirs = untouched.socket_pair()
        self.pid = untouched.fork()
        if self.pid == 0:
            self._socket.close()
            _Server(theirs, serve).run()
        theirs.close()
        self._received = b""

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when there are events."""
        return self._socket.fileno()

    def fork(self, index: int, child_end: socket.socket, tokens: int) -> None:
        """Have a child forked for this slot, with its end of a socket pair and the read end of a pipe."""
        with child_end, contextlib.suppress(BrokenPipeError):  # the server has died; `events` says so
            socket.send_fds(self._socket, [_RECORD.pack(_Verb.FORK, index, 0)], [child_end.fileno(), tokens])

    def kill(self, index: int) -> None:
        """Kill the child of this slot, with its process group, if it still lives."""
        with contextlib.suppress(BrokenPipeError):  # the server has died, and its children with it
            self._socket.sendall(_RECORD.pack(_Verb.KILL, index, 0))

    def cancel(self, index: int) -> None:
        """Have the child of this slot look at the board, where it stands what it is to end."""
        with contextlib.suppress(BrokenPipeError):  # the server has died, and its children with it
            self._socket.sendall(_RECORD.pack(_Verb.CANCEL, index, 0))

    def events(self) -> list[Event]:
        """Return the news so far. Raises `ForkserverDied`."""
        is_gone = True
        with contextlib.suppress(ConnectionResetError):  # it died without reading our last request
            try:
                while data := self._socket.recv(65536, socket.MSG_DONTWAIT):
                    self._received += data
            except BlockingIOError:
                is_gone = False
        if is_gone:
            raise ForkserverDied("the process that forks children died; what was unfinished goes back to its queue")
        events = []
        while len(self._received) >= _RECORD.size:
            _, index, exit_status = _RECORD.unpack_from(self._received)
            self._received = self._received[_RECORD.size :]
            events.append(Event(index, exit_status))
        return events

    def stop(self) -> None:
        """End the forkserver and with it every child, and wait for it, also where it was stopped (SIGSTOP).

        Children whose pipes are closed have 2 seconds to end by themselves.
        """
        if self._socket.fileno() < 0:
            return  # it is gone, and its pid may be another's
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        with self._socket, contextlib.suppress(OSError):  # it is gone, or takes too long
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_LEAVING_SECONDS)
            while self._socket.recv(65536):
                pass
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # all that it had to do is done, unless it cannot do it
        with contextlib.suppress(ChildProcessError):
            untouched.waitpid(self.pid, 0)


class _Server:
    def __init__(self, parent: socket.socket, serve: Serve) -> None:
        self._parent = parent
        self._serve = serve
        self._children: dict[int, int] = {}  # pid → slot index
        self._untold = b""
        self._is_left = False  # the parent has closed its end

    def run(self) -> NoReturn:
        status = 1
        try:
            self._serve_parent()
            status = 0
        except BaseException:  # noqa: BLE001 - nobody above would print it
            print(printable_lines(traceback.format_exc().rstrip()), file=sys.stderr)
        os._exit(status)

    def _serve_parent(self) -> None:
        os.setpgid(0, 0)
        die_with_parent()
        _adopt_orphans()
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            untouched.set_handler(ignored, signal.SIG_IGN)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(reading, False)
        untouched.set_handler(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        gc.freeze()  # children share these pages as long as the collector leaves them alone
        poller = untouched.poll()  # select() knows no descriptors beyond 1023, and task modules may hold many
        poller.register(reading, select.POLLIN)
        parent = self._parent.fileno()
        while not self._is_left:
            poller.register(parent, select.POLLIN | (select.POLLOUT if self._untold else 0))
            ready = dict(poller.poll())
            if reading in ready:
                os.read(reading, 4096)
            self._reap()
            self._tell()
            if ready.get(parent, 0) & ~select.POLLOUT:
                self._obey()
        poller.unregister(parent)
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        while self._children and (left := deadline - time.monotonic()) > 0:
            if poller.poll(left * 1000):
                os.read(reading, 4096)
            self._reap()
        for pid in self._children:
            _kill(pid)

    def _obey(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._parent, _RECORD.size, 2)
        except ConnectionResetError:  # the parent left without reading our last news
            data, descriptors = b"", []
        if len(data) < _RECORD.size:
            self._is_left = True
            return
        verb, index, _ = _RECORD.unpack(data)
        if verb == _Verb.FORK:
            self._fork(index, *descriptors)
            return
        for pid in [pid for pid, its in self._children.items() if its == index]:
            if verb == _Verb.KILL:
                _kill(pid)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, CANCELLING)

    def _fork(self, index: int, descriptor: int, tokens: int) -> None:
        pid = untouched.fork()
        if pid == 0:
            self._become_child(index, descriptor, tokens)
        untouched.close(descriptor)
        untouched.close(tokens)
        with contextlib.suppress(OSError):  # the child does the same; whoever comes first
            os.setpgid(pid, pid)
        self._children[pid] = index

    def _become_child(self, index: int, descriptor: int, tokens: int) -> NoReturn:
        status = 1
        try:
            self._parent.close()
            if gevent := sys.modules.get("gevent"):
                gevent.reinit()  # as its own fork does
            with untouched.socket_of(descriptor) as parent:
                self._serve(parent, tokens, index)
            status = 0
        except BaseException:  # noqa: BLE001 - nobody above would print it
            print(printable_lines(traceback.format_exc().rstrip()), file=sys.stderr)
        os._exit(status)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):  # there is none any more
            while (ended := untouched.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                index = self._children.pop(pid, None)
                if index is not None:  # else it is an orphan that a task left behind
                    _kill_group(pid)  # what the task may have left running
                    self._untold += _RECORD.pack(_Verb.EXITED, index, os.waitstatus_to_exitcode(status))

    def _tell(self) -> None:
        """Send as much news as the parent takes now; it may be waiting for us to read, and must not wait for ever."""
        try:
            self._untold = self._untold[self._parent.send(self._untold, socket.MSG_DONTWAIT) if self._untold else 0 :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the parent is gone; the next read says so
            self._untold = b""


def _adopt_orphans() -> None:
    """Have Linux make this process the parent of what children leave behind, to reap it where there is no init."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _kill(pid: int) -> None:
    """Kill a child that was not reaped yet, so that its pid is still its own."""
    _kill_group(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
