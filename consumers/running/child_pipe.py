"""The parent's ends of what leads to a child: a socket for orders and reports, and a pipe of tokens.

An order is begun only with a token; what the child has not begun is taken back by taking the tokens for it.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable

from leveret.consumers.running import untouched

_READ_BYTES = 262_144


class ChildPipe:
    """Open from the start until `close`. `on_readable` and `on_progress` are called on the running loop."""

    def __init__(self, on_readable: Callable[[], None], on_progress: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_progress = on_progress
        self._socket, self.child_socket = untouched.socket_pair()
        self._socket.setblocking(False)
        self.child_tokens, self._tokens = os.pipe()
        os.set_blocking(self.child_tokens, False)
        self._unsent = memoryview(b"")
        self._at_end = False
        self._loop.add_reader(self._socket.fileno(), on_readable)

    def put_tokens(self, count: int) -> None:
        """Let the child begin so many orders."""
        os.write(self._tokens, b"." * count)

    def take_tokens(self, most: int) -> int:
        """Take back tokens the child has not taken, up to so many; returns how many there were."""
        try:
            return len(os.read(self.child_tokens, most)) if most else 0
        except BlockingIOError:
            return 0

    def send(self, data: bytes) -> None:
        """Send it now, or as the child reads."""
        if self._unsent:  # which goes first
            self._unsent = memoryview(b"".join((self._unsent, data)))
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died; the forkserver will say so
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._loop.add_writer(self._socket.fileno(), self._send_rest)

    def receive(self) -> bytes:
        """Return what has come, if anything."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        if not data:  # its end follows from the forkserver
            self.stop_receiving()
        return data

    def stop_receiving(self) -> None:
        """Take in nothing more."""
        self._at_end = True
        self._loop.remove_reader(self._socket.fileno())

    def has_unread(self) -> bool:
        """Whether the child has written what was not received yet."""
        if self._at_end:
            return False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Close everything."""
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for descriptor in (self.child_tokens, self._tokens):
            os.close(descriptor)

    def _send_rest(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self._on_progress()  # it still reads
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = memoryview(b"")  # it has died; the forkserver will say so
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())
