"""A small HTTP server for a few pages, in a thread of its own, so that it answers when the main loop does not turn.

Nobody who asks can hurt: a request has one deadline for all of it, its head has a size, there are only so many
connections, of which the oldest gives way to another, and no body is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from leveret.consumers.log import event
from leveret.topology.settings.addresses import Address, CannotListen

_REQUEST_SECONDS = 10.0
_LARGEST_HEAD_BYTES = 16 * 1024
_MOST_CONNECTIONS = 64
_BACKLOG = 64
_ENDING_SECONDS = 2.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 500: "Internal Server Error"}
_TEXT = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: str = _TEXT


def page_of(status: int, text: str) -> Page:
    """Return a page of one line."""
    return Page(status, f"{text}\n".encode())


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""By path. Each is asked in the server's thread, and may take as long as a request may."""


class Door:
    """A port that is ours from now on. Raises `CannotListen` where it cannot be."""

    def __init__(self, address: Address) -> None:
        try:
            self.socket = _listen(address)
        except (OSError, UnicodeError) as error:
            code = error.errno if isinstance(error, OSError) else None
            said = os.strerror(code) if code and code > 0 else str(error)  # a name that is not found has none
            raise CannotListen(
                f"cannot listen at {address}: {said}; name another address or port, or end what listens there"
            ) from error
        self.port: int = self.socket.getsockname()[1]


def _listen(address: Address) -> socket.socket:
    if not address.host and socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 may be turned off; of a port that is taken IPv4 says so, too
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)


class Server:
    """Serves pages at doors from `start` until `stop`, which closes the doors."""

    def __init__(self, doors: Sequence[tuple[Door, Pages]]) -> None:
        self._doors = doors
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="leveret pages", daemon=True)
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # the oldest first

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing more."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_ENDING_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        servers = [
            await asyncio.start_server(self._on_connect(pages), sock=door.socket, limit=_LARGEST_HEAD_BYTES)
            for door, pages in self._doors
        ]
        await self._stop.wait()
        for server in servers:
            server.close()

    def _on_connect(self, pages: Pages) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            if len(self._open) >= _MOST_CONNECTIONS:
                self._open.pop(next(iter(self._open))).transport.abort()
            self._open[task] = writer
            try:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    writer.write(await _answer(reader, pages))
                    writer.close()
                    await writer.wait_closed()
            except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):  # whoever asked is slow, or has left
                pass
            finally:
                self._open.pop(task, None)
                writer.transport.abort()

        return answer


async def _answer(reader: asyncio.StreamReader, pages: Pages) -> bytes:
    """Read the head of a request, and return the whole answer."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return _written(page_of(400, f"the head of a request has at most {_LARGEST_HEAD_BYTES} bytes"))
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _written(page_of(400, "this is no request of HTTP/1"))
    method, target, _ = words
    page = pages.get(target.split("?", 1)[0])
    if page is None:
        return _written(page_of(404, f"there is {' and '.join(pages)}"))
    if method not in ("GET", "HEAD"):
        return _written(page_of(405, "a page can be read only: GET"), "Allow: GET, HEAD\r\n")
    return _written(await _made(target, page), is_head=method == "HEAD")


async def _made(target: str, page: Callable[[], Awaitable[Page]]) -> Page:
    try:
        return await page()
    except Exception as error:  # noqa: BLE001 - the work goes on without the page, and who asks hears of it
        event(logging.ERROR, f"page {target} could not be made: {type(error).__name__}: {error}")
        return page_of(500, "the page could not be made; the log says why")


def _written(page: Page, headers: str = "", is_head: bool = False) -> bytes:
    reason = _REASONS.get(page.status, "Service Unavailable")
    head = (
        f"HTTP/1.1 {page.status} {reason}\r\nContent-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n"
        f"Cache-Control: no-store\r\n{headers}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if is_head else page.body)
