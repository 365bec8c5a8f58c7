"""Define tasks: a function, the name producers use for it, its queue and its time limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

from consumers import registry
from topology.errors import TaskModuleError
from topology.message import LONGEST_NAME_BYTES, printable
from topology.queues import WorkQueue

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TIME_LIMIT_SECONDS = 1500.0
"""25 minutes: RabbitMQ takes a message back that is not acknowledged within 30 by default."""

_LONGEST_LIMIT_SECONDS = 1e9  # some 30 years; timers overflow not far beyond


class Task(Generic[P, R]):
    """A named function. Calling it runs the function here and now, as in a test."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        queue: WorkQueue,
        time_limit: float,
        soft_time_limit: float | None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.queue = queue
        self.time_limit = time_limit
        self.soft_time_limit = soft_time_limit
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        self._is_plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
        self._names = frozenset(self.signature.parameters)
        self._required = frozenset(one.name for one in parameters if one.default is one.empty)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return self.function(*args, **kwargs)

    def misfit(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Say why the function cannot be called like this; empty when it can."""
        if self._is_plain and not args and self._required <= kwargs.keys() <= self._names:
            return ""  # what binding would find out, many times faster
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            names = [f"{len(args)} positional"] if args else []
            given = ", ".join([*names, *(f"{printable(name)}=…" for name in kwargs)]) or "no arguments"
            return f"{error}; {self.name}{self.signature} was called with {given}"
        return ""

    def __repr__(self) -> str:
        return f"<task {self.name} on queue {self.queue.name}>"


def task(
    name: str,
    *,
    queue: WorkQueue,
    time_limit: float = DEFAULT_TIME_LIMIT_SECONDS,
    soft_time_limit: float | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make the decorated function, plain or `async def`, a task.

    `time_limit` is in seconds, per attempt: the process that overruns it is killed, and the attempt has failed.
    `soft_time_limit`, when given, raises `SoftTimeLimitExceeded` inside the task before that. Raises
    `TaskModuleError` when the name is taken or out of the queue's topics, when a limit is no positive number or
    beyond 1e9, and when what is decorated is no function.
    """
    if not isinstance(name, str) or not 1 <= len(name.encode(errors="replace")) <= LONGEST_NAME_BYTES:
        raise TaskModuleError(f"{name!r} cannot name a task; use @task('mail.send', queue=…)")
    if not isinstance(queue, WorkQueue):
        raise TaskModuleError(f"task {name!r}: queue is {queue!r}, not a WorkQueue")
    if not queue.takes_topic(name):
        raise TaskModuleError(
            f"task {name!r} is on queue {queue.name!r}, whose topics {', '.join(queue.topics)} do not match that "
            "name, so submitting it would not reach the queue; rename the task or add a topic"
        )
    for limit in (time_limit, time_limit if soft_time_limit is None else soft_time_limit):
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or not 0 < limit <= time_limit or limit > _LONGEST_LIMIT_SECONDS:
            raise TaskModuleError(
                f"task {name!r}: a time limit of {limit!r} is not possible; limits are seconds, more than 0 and "
                f"at most {_LONGEST_LIMIT_SECONDS:g}, the soft one not the larger"
            )

    def define(function: Callable[P, R]) -> Task[P, R]:
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise TaskModuleError(
                f"task {name!r} is {printable(repr(function))}, no function with a name of its own; "
                "define one with def that calls it"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TaskModuleError(f"task {name!r} is a generator, whose body would never run; return instead of yield")
        return registry.add(Task(function, name, queue, float(time_limit), soft_time_limit))

    return define


AnyTask = Task[Any, Any]
