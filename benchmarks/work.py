"""What the tasks of every system do: the same functions for all, with nothing but the standard library.

What waits has a coroutine function too, for systems with an event loop. To fetch there needs more, an HTTP client.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from typing import Any

Calls = Iterable[tuple[str, dict[str, Any]]]
"""Tasks to send, each a name and keyword arguments."""
TREASURE = "treasure"
RECORD = struct.Struct("=ii")
STEP = struct.Struct("=idiB")
"""A line of a log of steps: the number of a task, the monotonic time in seconds, the process, and one of these:"""
STARTED, FINISHED, CONFIRMED = range(3)
DELAY_SECONDS = 5
"""Of tasks that are to run later."""
_TOP = 20
_HTTP_TIMEOUT_SECONDS = 60.0


def noop() -> None:
    """Do nothing."""


def echo(number: int) -> int:
    """Return the number."""
    return number


def stamp(sent: float, path: str) -> None:
    """Append how long ago the task was sent."""
    _append(path, f"{time.time() - sent:.6f}\n".encode())


def meet(number: int, path: str) -> None:
    """Take a moment, so that every process gets one, and append which process it was."""
    time.sleep(0.02)
    _append(path, RECORD.pack(number, os.getpid()))


def tick(number: int, path: str) -> None:
    """Append that this task ran."""
    _append(path, RECORD.pack(number, 0))


def slow(number: int, path: str, seconds: float) -> None:
    """Wait, then append that this task ran."""
    time.sleep(seconds)
    _append(path, RECORD.pack(number, 0))


def hold(number: int, path: str, seconds: float) -> None:
    """Append that this task runs, then wait."""
    tick(number, path)
    time.sleep(seconds)


def fetch(number: int, path: str, port: int) -> None:
    """GET from the server of the benchmark, on a connection that stays open, then append that this task ran."""
    try:
        connection = _unused.pop()  # not one a thread: gevent has a new greenlet for every task
    except IndexError:
        connection = HTTPConnection("127.0.0.1", port, timeout=_HTTP_TIMEOUT_SECONDS)
    connection.request("GET", "/")
    connection.getresponse().read()
    _unused.append(connection)
    tick(number, path)


def count(book: str, result: str) -> None:
    """Count the words of a book and save the most frequent."""
    words = Counter(Path(book).read_text(encoding="utf-8").split())
    unfinished = Path(f"{result}.part")
    unfinished.write_text(json.dumps(words.most_common(_TOP)), encoding="utf-8")
    unfinished.replace(result)


def hunt(number: int, folder: str, path: str) -> None:
    """Look for the treasure in one file, and append that this task ran."""
    with open(f"{folder}/{number:06d}.txt", encoding="utf-8") as file:  # noqa: PTH123 - a third of it would be pathlib
        found = TREASURE in file.read()
    if found:
        Path(folder, "found").write_text(str(number), encoding="utf-8")
    _append(path, RECORD.pack(number, 0))


def step(number: int, path: str, seconds: float) -> None:
    """Append that this task began, wait, and append that it ended."""
    log_step(path, number, STARTED)
    time.sleep(seconds)
    log_step(path, number, FINISHED)


def log_step(path: str, number: int, what: int) -> None:
    """Append to a log of steps. Whole even if the process dies the moment after."""
    _append(path, STEP.pack(number, time.monotonic(), os.getpid(), what))


def _append(path: str, line: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
    finally:
        os.close(file)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (noop, echo, stamp, meet, tick, slow, step, count, hunt, hold, fetch)
}


async def _slow(number: int, path: str, seconds: float) -> None:
    await asyncio.sleep(seconds)
    tick(number, path)


async def _hold(number: int, path: str, seconds: float) -> None:
    tick(number, path)
    await asyncio.sleep(seconds)


async def _fetch(number: int, path: str, port: int) -> None:
    global _session
    if _session is None:
        aiohttp = import_module("aiohttp")  # only systems that fetch on an event loop have it
        _session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    async with _session.get(f"http://127.0.0.1:{port}/") as answer:
        await answer.read()
    tick(number, path)


COROUTINES: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"slow": _slow, "hold": _hold, "fetch": _fetch}
"""The same on an event loop."""

_session: Any = None
_unused: deque[HTTPConnection] = deque()
