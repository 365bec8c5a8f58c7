"""The tasks of this process, by name: producers check their calls against them, workers run them.

A message's task is looked up here, never imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from leveret.topology import limits
from leveret.topology.errors import TaskModuleError
from leveret.topology.limits import Limit, Tokens
from leveret.topology.queues import WorkQueue


class Defined(Protocol):
    """A task as its module defines it."""

    function: Callable[..., Any]
    name: str
    queue: WorkQueue
    time_limit: float
    follow: bool
    limit: Limit | None
    result: Any

    @property
    def is_typed(self) -> bool:
        """Whether its annotations say what arguments are to be. Raises `TaskModuleError` for impossible ones."""

    def prepare(self) -> None:
        """Find out what its annotations mean, before anything runs. Raises `TaskModuleError` for impossible ones."""

    def check(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise `MessageError` unless it takes these arguments, as a message brings them."""


T = TypeVar("T", bound=Defined)

_tasks: dict[str, Defined] = {}


def add(task: T) -> T:
    """Enter a task. Raises `TaskModuleError` when another function has its name."""
    other = _tasks.setdefault(task.name, task)
    if _place(other) != _place(task):
        raise TaskModuleError(
            f"task {task.name!r} is defined twice, by {_place(other)} and by {_place(task)}; rename one of them"
        )
    _tasks[task.name] = task
    return task


def get(name: str) -> Any:
    """Return the task of this name; None when there is none."""
    return _tasks.get(name)


def has_any() -> bool:
    """Whether any task is loaded."""
    return bool(_tasks)


def prepare() -> None:
    """Have every task find out what its annotations mean. Raises `TaskModuleError` for impossible ones."""
    for task in _tasks.values():
        task.prepare()


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(_tasks)


def of_queue(queue: WorkQueue) -> list[Any]:
    """Return the tasks of a work queue."""
    return [task for task in _tasks.values() if task.queue.name == queue.name]


def limits_of(queue: WorkQueue) -> list[Limit]:
    """Return the limits of a queue and of its tasks, each once."""
    found = [queue.limit, *(task.limit for task in of_queue(queue))]
    return list(dict.fromkeys(limit for limit in found if limit))


def tokens_of(queues: Iterable[WorkQueue]) -> list[Tokens]:
    """Return the tokens of these queues and their tasks; those of keys are made when they are first needed."""
    of_all = [limit for queue in queues for limit in limits_of(queue) if not limit.key]
    return list(dict.fromkeys(tokens for limit in of_all for tokens in limits.tokens_of(limit)))


def followed_tasks() -> list[str]:
    """Return the names of the tasks that are followed whatever their messages say."""
    return [task.name for task in _tasks.values() if task.follow]


def nearest(name: str) -> str | None:
    """Return the task whose name is the most like this one, if any is."""
    near = difflib.get_close_matches(name, _tasks, n=1)
    return near[0] if near else None


def longest_time_limit(queues: Iterable[str]) -> Defined | None:
    """Return the task of these queues that may run longest; None when they have no task here."""
    ours = set(queues)
    return max((task for task in _tasks.values() if task.queue.name in ours), key=_time_limit, default=None)


def forget() -> None:
    """Empty the registry, for tests that define their own tasks."""
    _tasks.clear()
    limits.forget()


def _time_limit(task: Defined) -> float:
    return task.time_limit


def _place(task: Defined) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"
