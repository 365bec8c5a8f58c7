"""The tasks of this process, by name. A message's task is looked up here, never imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from topology.errors import TaskModuleError

if TYPE_CHECKING:
    from consumers.task import AnyTask

    T = TypeVar("T", bound=AnyTask)

_tasks: dict[str, AnyTask] = {}


def add(task: T) -> T:
    """Enter a task. Raises `TaskModuleError` when another function has its name."""
    other = _tasks.setdefault(task.name, task)
    if _place(other) != _place(task):
        raise TaskModuleError(
            f"task {task.name!r} is defined twice, by {_place(other)} and by {_place(task)}; rename one of them"
        )
    _tasks[task.name] = task
    return task


def get(name: str) -> AnyTask | None:
    """Return the task of this name, if there is one."""
    return _tasks.get(name)


def names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(_tasks)


def longest_time_limit(queues: Iterable[str]) -> AnyTask | None:
    """Return the task of these queues that may run longest; None when they have no task here."""
    ours = set(queues)
    return max((task for task in _tasks.values() if task.queue.name in ours), key=_time_limit, default=None)


def forget() -> None:
    """Empty the registry, for tests that define their own tasks."""
    _tasks.clear()


def _time_limit(task: AnyTask) -> float:
    return task.time_limit


def _place(task: AnyTask) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"
