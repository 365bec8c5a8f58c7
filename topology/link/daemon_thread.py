"""Calls in a daemon thread of their own: for what blocks, and for what a signal must not interrupt half-way.

An executor would not do: Python's take no work once the main thread has ended, though other threads may go on.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from leveret.topology.errors import PublishError

if TYPE_CHECKING:
    import asyncio

THREAD_NAMES = "leveret "
"""How the names of leveret's own threads begin."""

P = ParamSpec("P")
T = TypeVar("T")


class _Call(Generic[T]):
    """A call that runs, and how it ended once `on_ended` was called."""

    def __init__(self, function: Callable[[], T], on_ended: Callable[[], None]) -> None:
        self._function = function
        self._on_ended = on_ended
        self.error: BaseException | None = None
        self.result: T
        try:
            if sys.is_finalizing():  # the thread would be frozen before its first line
                raise RuntimeError("can't create new thread at interpreter shutdown")
            threading.Thread(target=self._run, name=f"{THREAD_NAMES}call", daemon=True).start()
        except RuntimeError:  # Python 3.12 starts no thread any more in a program that ends
            self._run()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self.error = error
        self._on_ended()


def refuse_at_the_end() -> None:
    """Raise `PublishError` when the interpreter is being taken down: no thread runs then but the one that does it."""
    if sys.is_finalizing():
        raise PublishError("the interpreter is shutting down, and no thread can publish any more")


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function and wait for it; returns what it returns, and raises what it raises.

    A signal handler that runs meanwhile may do the same: it interrupts the wait, and not the function.
    """
    ended = threading.Lock()
    ended.acquire()
    made = _Call(lambda: function(*args, **kwargs), ended.release)
    ended.acquire()
    if made.error:
        raise made.error
    return made.result


def start(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Call the function, and return a future of the running loop for how that ends."""
    import asyncio  # who has a loop has loaded it; who has none need not

    loop = asyncio.get_running_loop()
    awaited: asyncio.Future[T] = loop.create_future()

    def tell() -> None:
        if awaited.done():
            return
        if made.error:
            awaited.set_exception(made.error)
        else:
            awaited.set_result(made.result)

    def on_ended() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(tell)

    made = _Call(lambda: function(*args, **kwargs), on_ended)
    return awaited
