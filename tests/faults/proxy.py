"""A TCP proxy on loopback that can be told to misbehave, to stand between a client and a broker.

Every connection has two directions. In each, bytes pass, are held (kept back, in order, until `heal`), are
dropped (read and thrown away) or trickle. The proxy's thread owns all sockets; the methods may be called from
any other thread and return once the fault is in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

_READ_BYTES = 65_536
_LINGER_0 = struct.pack("ii", 1, 0)

T = TypeVar("T")


class Direction(enum.Enum):
    """Which way bytes flow."""

    TO_BROKER = "to the broker"
    TO_CLIENT = "to the client"


BOTH = (Direction.TO_BROKER, Direction.TO_CLIENT)


@dataclass(frozen=True)
class Rule:
    """What happens to the bytes of one direction."""

    held: bool = False
    dropped: bool = False
    piece_bytes: int = _READ_BYTES
    pause_seconds: float = 0.0
    """After each piece."""


PASS = Rule()


class Proxy:
    """Forwards to the target from a free port of its own. Close it, or use it as a context manager."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._rules = dict.fromkeys(BOTH, PASS)  # of new connections
        self._links: set[_Link] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def before(cls, amqp_url: str) -> Proxy:
        """Make a proxy to the broker of a URL."""
        place = urlsplit(amqp_url)
        return cls(place.hostname or "localhost", place.port or 5672)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._port

    def url(self, amqp_url: str) -> str:
        """Return the URL of the target as it reads for a client of the proxy."""
        place = urlsplit(amqp_url)
        credentials, at, _ = place.netloc.rpartition("@")
        return place._replace(netloc=f"{credentials}{at}127.0.0.1:{self._port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def hold(self, *directions: Direction, new: bool = True) -> None:
        """Keep bytes back until `heal`, in both directions unless some are named; sockets stay open.

        This is a stalled link: neither bytes nor the end of a connection come through. With `new=False` only
        the connections of this moment are stalled.
        """
        self._impose(Rule(held=True), directions, new)

    def drop(self, *directions: Direction, new: bool = True) -> None:
        """Throw bytes away. What was dropped is gone, so `heal` resets the connections that lost some."""
        self._impose(Rule(dropped=True), directions, new)

    def throttle(self, piece_bytes: int, pause_seconds: float, *directions: Direction, new: bool = True) -> None:
        """Forward so few bytes at a time, each piece as a write of its own, with a pause after each."""
        self._impose(Rule(piece_bytes=piece_bytes, pause_seconds=pause_seconds), directions, new)

    def reset(self) -> int:
        """End all connections with a RST on both sides; return how many there were. New ones are accepted."""

        async def reset_all() -> int:
            links = list(self._links)
            for link in links:
                link.reset()
            await asyncio.gather(*(link.task for link in links if link.task), return_exceptions=True)
            return len(links)

        return self._do(reset_all())

    def lead_to(self, amqp_url: str) -> None:
        """Take new connections to another broker."""
        place = urlsplit(amqp_url)

        async def lead() -> None:
            self._target = (place.hostname or "localhost", place.port or 5672)

        self._do(lead())

    def refuse(self) -> None:
        """Refuse new connections, as a port nobody listens on; the open ones go on."""
        self._do(self._stop_listening())

    def heal(self) -> None:
        """Forward everything again, what was held first, and accept new connections."""

        async def heal_all() -> None:
            self._rules = dict.fromkeys(BOTH, PASS)
            for link in list(self._links):
                link.heal()
            if self._accepting is None:
                await self._listen()

        self._do(heal_all())

    def close(self) -> None:
        """Reset what is open and listen no more."""
        if self._loop.is_closed():
            return
        self.reset()
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, action: Coroutine[Any, Any, T]) -> T:
        """Run something on the proxy's thread and return what it returns."""
        return asyncio.run_coroutine_threadsafe(action, self._loop).result()

    def _impose(self, rule: Rule, directions: tuple[Direction, ...], new: bool) -> None:
        async def impose() -> None:
            for direction in directions or BOTH:
                if new:
                    self._rules[direction] = rule
                for link in self._links:
                    link.impose(direction, rule)

        self._do(impose())

    async def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        self._accepting = self._loop.create_task(self._accept(listener))

    async def _stop_listening(self) -> None:
        if self._accepting:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                client, _ = await self._loop.sock_accept(listener)
                link = _Link(client, dict(self._rules), self._links.discard)
                self._links.add(link)
                link.start(self._target)


class _Link:
    """One client's connection and its counterpart to the target."""

    def __init__(self, client: socket.socket, rules: dict[Direction, Rule], on_end: Callable[[_Link], object]) -> None:
        self._client = client
        self._target = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._rules = rules
        self._changed = asyncio.Event()
        self._lost_bytes = False
        self._on_end = on_end
        self.task: asyncio.Task[None] | None = None

    def start(self, address: tuple[str, int]) -> None:
        self.task = asyncio.get_running_loop().create_task(self._run(address))

    def impose(self, direction: Direction, rule: Rule) -> None:
        self._rules[direction] = rule
        self._wake()

    def heal(self) -> None:
        self._rules = dict.fromkeys(BOTH, PASS)
        if self._lost_bytes:
            self.reset()
        else:
            self._wake()

    def reset(self) -> None:
        for end in (self._client, self._target):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        if self.task:
            self.task.cancel()
        self._on_end(self)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with self._client, self._target:
            try:
                for end in (self._client, self._target):
                    end.setblocking(False)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(self._target, address)
                await _together(
                    self._forward(self._client, self._target, Direction.TO_BROKER),
                    self._forward(self._target, self._client, Direction.TO_CLIENT),
                )
            except* OSError:  # one side has reset the connection, or the target refused it: the other side learns it
                self.reset()
            finally:
                self._on_end(self)

    async def _forward(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._released(direction)
            data = await loop.sock_recv(source, _READ_BYTES)
            if not data:
                await self._released(direction)
                with contextlib.suppress(OSError):  # the other side may have left for good
                    sink.shutdown(socket.SHUT_WR)
                return
            while data:
                await self._released(direction)
                rule = self._rules[direction]
                if rule.dropped:
                    self._lost_bytes = True
                    break
                await loop.sock_sendall(sink, data[: rule.piece_bytes])
                data = data[rule.piece_bytes :]
                if rule.pause_seconds:
                    await asyncio.sleep(rule.pause_seconds)

    async def _released(self, direction: Direction) -> None:
        """Wait while this direction is held."""
        while self._rules[direction].held:
            await self._changed.wait()


async def _together(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run side by side until all have ended or one fails, which ends the others."""
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)
