"""How pika's connections look up the host of a broker: an address at once, a name in a thread of its own.

A fork waits until that has ended. The C library keeps a lock meanwhile, which nobody would ever give back in the child,
so that each look-up hung there (seen with glibc 2.36: in 6 of 120 programs that forked while they connected).
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from _thread import allocate_lock  # whatever modules of tasks put into its place, for each child is forked with it
from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter

from leveret.topology.link import daemon_thread

_MOST_WAIT_SECONDS = 10.0
"""A look-up may take for ever, and a signal handler that submits may interrupt a fork."""


class _Fork(threading.local):
    """What a thread that forks knows. It may have begun that before this was loaded."""

    has_lock = False


class _Turn:
    """Taken by who looks up a name, and by who forks."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._fork = _Fork()
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._begin_anew)

    def look_up(self, *wanted: Any) -> Any:
        """Do as `socket.getaddrinfo` does."""
        has_lock = self._lock.acquire(timeout=_MOST_WAIT_SECONDS)
        try:
            return socket.getaddrinfo(*wanted)
        finally:
            if has_lock:
                self._lock.release()

    def _before_fork(self) -> None:
        self._fork.has_lock = self._lock.acquire(timeout=_MOST_WAIT_SECONDS)

    def _after_fork(self) -> None:
        if self._fork.has_lock:
            self._fork.has_lock = False
            self._lock.release()

    def _begin_anew(self) -> None:
        self._fork.has_lock = False
        self._lock = allocate_lock()


_turn = _Turn()


class LoopServices(_AsyncioIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """What pika wants of an asyncio loop. asyncio's own look-up needs an executor; see `daemon_thread`."""

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Look up a host; `on_done` is told its addresses, or why there are none."""
        wanted = (host, port, family, socktype, proto)
        try:
            addresses = socket.getaddrinfo(*wanted, flags | socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):  # it is a name
            found = daemon_thread.start(_turn.look_up, *wanted, flags)
        else:
            found = asyncio.get_running_loop().create_future()
            found.set_result(addresses)
        return self._schedule_and_wrap_in_io_ref(found, on_done)
