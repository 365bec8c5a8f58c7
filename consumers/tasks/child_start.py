"""What a task module wants done in each child process before its first task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from leveret.topology.errors import TaskModuleError
from leveret.topology.printable import printable

F = TypeVar("F", bound=Callable[[], object])

_hooks: list[Callable[[], object]] = []


def on_child_start(function: F) -> F:
    """Have the decorated function called, without arguments, in each child process before its first task.

    It is for what processes must not share: connections, seeds, threads. When it raises, the child process ends, and
    the worker starts another. Give it less than 10 seconds. Raises `TaskModuleError` for what cannot be called so.
    """
    name = printable(getattr(function, "__qualname__", repr(function)))
    if inspect.iscoroutinefunction(function):
        raise TaskModuleError(f"on_child_start {name} is async, and no loop runs then; make it a plain function")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TaskModuleError(
            f"on_child_start {name} cannot be called without arguments: {error}; define a function that takes none"
        ) from error
    _hooks.append(function)
    return function


def hooks() -> Sequence[Callable[[], Any]]:
    """Return the functions to call, in the order of their definition."""
    return tuple(_hooks)
