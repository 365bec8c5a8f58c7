"""How pika's connections look up the host of a broker: an address at once, a name in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter

from leveret.topology.link import daemon_thread


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
            found = daemon_thread.start(socket.getaddrinfo, *wanted, flags)
        else:
            found = asyncio.get_running_loop().create_future()
            found.set_result(addresses)
        return self._schedule_and_wrap_in_io_ref(found, on_done)
