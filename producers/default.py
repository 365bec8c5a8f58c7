"""This process's own publisher, made when first used, and the functions that use it.

Importing this costs nothing; the first message loads what publishing takes.
"""

from __future__ import annotations

import atexit
import logging  # noqa: F401 - see at the fork
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, overload

from leveret.topology.link import daemon_thread
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.registry import Defined

if TYPE_CHECKING:
    from leveret.producers.following.handle import Submitted
    from leveret.producers.publisher import Publisher

_default: Publisher | None = None
_lock = threading.Lock()
"""Held while the publisher is made, and by a fork: a module that is being imported cannot be imported in the child."""


def default_publisher() -> Publisher:
    """Return this process's own publisher, making it when first used and again after a fork."""
    publisher = _default
    if publisher is None or not publisher.is_of_this_process:
        daemon_thread.refuse_at_the_end()
        # In a thread, for the lock and the imports are not to be held by one that a signal handler may interrupt.
        publisher = daemon_thread.call(_make)
    return publisher


async def default_publisher_async() -> Publisher:
    """Return the same without blocking the loop, for looking for the broker can take a while."""
    publisher = _default
    if publisher is None or not publisher.is_of_this_process:
        publisher = await daemon_thread.start(_make)
    return publisher


def _make() -> Publisher:
    global _default
    with _lock:
        if _default is None or not _default.is_of_this_process:
            from leveret.producers.publisher import Publisher

            _default = Publisher()
        return _default


def _close_default() -> None:
    global _default
    publisher, _default = _default, None  # what is called after this may still submit, by another
    if publisher:
        publisher.close_at_the_end()


# When this is imported, so that what is registered later may still submit: the last registered is called first.
atexit.register(_close_default)


def _start_anew_after_fork() -> None:
    global _default, _lock
    _default, _lock = None, threading.Lock()


# A fork calls first who registered last. Imports take the lock of logging, so ours has to be taken before that one.
os.register_at_fork(
    before=lambda: _lock.acquire(),  # the lock of that moment
    after_in_parent=lambda: _lock.release(),
    after_in_child=_start_anew_after_fork,
)


def submit(task: str | Defined, /, *args: Any, **kwargs: Any) -> Submitted[Any]:
    """Submit one task with its arguments and return the id, once the broker confirmed it.

    `task` is a name, or a task that is at hand. It goes to the topic exchange with the task's name as routing key; for
    another way, or an id or a timeout of one's own, see `Task.options`. Raises as `Publisher.submit` does.
    """
    return default_publisher().submit(task, *args, **kwargs)


@overload
def submit_many(messages: Iterable[TaskMessage], /, *, timeout: float | None = None) -> list[Submitted[Any]]: ...
@overload
def submit_many(
    task: str | Defined,
    calls: Iterable[Mapping[str, Any]],
    /,
    route: Route | None = None,
    *,
    timeout: float | None = None,
) -> list[Submitted[Any]]: ...
def submit_many(first: Any, calls: Any = None, /, route: Route | None = None, *, timeout: float | None = None) -> Any:
    """Submit many messages, or a task once for each mapping of keyword arguments; see `Publisher.submit_many`."""
    return default_publisher().submit_many(first, calls, route, timeout=timeout)


async def submit_async(task: str | Defined, /, *args: Any, **kwargs: Any) -> Submitted[Any]:
    """Do as `submit` does, awaitable."""
    return await (await default_publisher_async()).submit_async(task, *args, **kwargs)


def publish(message: TaskMessage, route: Route | None = None, *, timeout: float | None = None) -> Submitted[Any]:
    """Publish a message by any route and return its id; see `Publisher.publish`."""
    return default_publisher().publish(message, route, timeout=timeout)
