"""Tasks that take many calls at once: a function of one list, each item of which is what one message asks for."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

from leveret.consumers.tasks.arguments import Arguments
from leveret.consumers.tasks.reading import Misfit, takes_anything
from leveret.consumers.tasks.result import Result
from leveret.consumers.tasks.task import Task
from leveret.topology.errors import TaskModuleError

X = TypeVar("X")
T = TypeVar("T")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class BatchTask(Task[[X], T], Generic[X, T]):
    """A task whose function takes a list of calls. It is submitted call by call: `load.submit(row)`."""

    def __init__(self, function: Callable[..., Any], name: str, *how: Any) -> None:
        super().__init__(function, name, *how)
        self.arguments = Calls(function, name)
        self.result = EachResult(function)

    def __call__(self, calls: list[X]) -> Any:  # type: ignore[override]
        """Run the function here and now, with a list of calls."""
        return self.function(calls)  # type: ignore[arg-type]


class DefinesBatchTask(Protocol):
    """What `@task(…, batch=…)` makes of a function. A result of one call is an item of the list that it returns."""

    @overload
    def __call__(self, function: Callable[[list[X]], Coroutine[Any, Any, list[T]]], /) -> BatchTask[X, T]: ...
    @overload
    def __call__(self, function: Callable[[list[X]], Coroutine[Any, Any, None]], /) -> BatchTask[X, None]: ...
    @overload
    def __call__(self, function: Callable[[list[X]], list[T]], /) -> BatchTask[X, T]: ...
    @overload
    def __call__(self, function: Callable[[list[X]], None], /) -> BatchTask[X, None]: ...
    def __call__(self, function: Callable[[list[X]], Any], /) -> BatchTask[X, Any]:
        """Make it a task."""


class Calls(Arguments):
    """What one message brings: one argument, or named ones that make it together, read as an item of the list."""

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        super().__init__(function, task)
        parameters = list(self.signature.parameters.values())
        if len(parameters) != 1 or parameters[0].kind not in _POSITIONAL:
            raise TaskModuleError(
                f"task {task!r}{self.signature} has a batch, so its function is to have one parameter, which takes "
                "the list of calls, as in def load(rows: list[Row])"
            )
        self._calls = parameters[0].name

    def fit(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the call that a message brings, as the only argument. Raises `Misfit`."""
        if len(args) + bool(kwargs) != 1:
            raise Misfit(
                "",
                f"a message to {self._task}{self.signature} brings one call: one argument, or named ones that make it; "
                f"this one brings {len(args)} arguments and {len(kwargs)} named ones",
            )
        try:
            (call,) = self._read({self._calls: [args[0] if args else kwargs]})[self._calls]
        except Misfit as misfit:
            raise Misfit(misfit.path.removeprefix(f"{self._calls}[0]").lstrip("."), misfit.problem) from misfit
        return (call,), {}

    def _resolve(self, parameter: inspect.Parameter) -> Any:
        hint = super()._resolve(parameter)
        if not takes_anything(hint) and (typing.get_origin(hint) or hint) not in (list, Sequence):
            shown = inspect.formatannotation(hint)
            raise TaskModuleError(
                f"task {self._task!r} has a batch, so its parameter {parameter.name!r} takes a list of calls, and not "
                f"{shown}; write list[{shown}]"
            )
        return hint


class EachResult(Result):
    """What the function returns for one call: an item of its list."""

    def _find_hint(self) -> Any:
        hint = super()._find_hint()
        if typing.get_origin(hint) not in (list, Sequence):
            return None
        (each,) = typing.get_args(hint)
        return None if takes_anything(each) else each
