"""What a function's annotations say about its arguments, and reading a message's arguments by it.

A parameter without an annotation, or with `Any` or `object`, takes whatever JSON brought. Any other is read strictly
by msgspec: "3" is no `int`, a `datetime` comes out of ISO text, a dataclass out of an object. Making `Arguments`
costs no more than `inspect.signature`: what the annotations mean is found out at `prepare`, or at the first call.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from leveret.consumers.tasks.reading import (
    Misfit,
    can_be_read,
    field_of,
    is_text,
    made_by_class,
    misfit_of,
    shape_of,
    takes_anything,
    types_in,
)
from leveret.topology.errors import TaskModuleError
from leveret.topology.message.plain import is_pydantic
from leveret.topology.printable import printable

_SHOWN_NAME_CHARACTERS = 60


def _as_it_is(named: dict[str, Any]) -> dict[str, Any]:
    return named


class Arguments:
    """The parameters of a task's function, and what they take."""

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        self.signature = inspect.signature(function)
        self._function = function
        self._task = task
        parameters = self.signature.parameters.values()
        self._is_plain = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
        self._names = frozenset(self.signature.parameters)
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._required = frozenset(p.name for p in parameters if p.default is p.empty and p.kind not in variable)
        self._positional = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
        self._by_name = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self._rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
        self._others = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
        self._hints: dict[str, Any] = {}
        self._is_prepared = all(p.annotation is p.empty for p in parameters)
        self._read: Callable[[dict[str, Any]], dict[str, Any]] = _as_it_is if self._is_prepared else self._read_first

    def prepare(self) -> None:
        """Find out what the annotations mean, once; without any, nothing is to do and msgspec is not imported.

        Raises `TaskModuleError` for an annotation with a name that is not known when the worker runs, as one that is
        imported only under `TYPE_CHECKING`, and for one that no message can meet: a union that JSON cannot tell
        apart, or a class that only Python code can make. The latter may stand where there is a default, which it
        then always is.
        """
        if self._is_prepared:
            return
        hints = {one.name: self._resolve(one) for one in self.signature.parameters.values()}
        hints = {name: hint for name, hint in hints.items() if not takes_anything(hint)}
        if hints:
            self._build(hints)
        else:
            self._read = _as_it_is
        self._is_prepared = True

    @property
    def names(self) -> list[str]:
        """The parameters that a call gives one value each."""
        return list(dict.fromkeys([*self._positional, *self._by_name]))

    @property
    def is_typed(self) -> bool:
        """Whether any annotation says what an argument is to be. Raises as `prepare` does."""
        self.prepare()
        return self._read is not _as_it_is

    @property
    def hints(self) -> dict[str, Any]:
        """What parameters are read by, those as a whole that take a rest; none for one that takes anything.

        Raises as `prepare` does.
        """
        self.prepare()
        return self._hints

    def wants_text(self, parameter: str) -> bool:
        """Whether the annotation of a parameter is `str`. Raises as `prepare` does."""
        self.prepare()
        return self._hints.get(parameter) is str

    def fit(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of a message as what the annotations ask for, to call the function with.

        What is not given stays ungiven, so that the function's own defaults hold. Raises `Misfit`.
        """
        if self._is_plain and not args and self._required <= kwargs.keys() <= self._names:
            return args, self._read(kwargs)  # what binding would find out, many times faster
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Misfit("", self._explain(str(error), args, kwargs)) from error
        return (args, kwargs) if self._read is _as_it_is else self._fit_bound(args, kwargs)

    def _fit_bound(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Read arguments that are known to bind, and give each back the way it came: by position or by name."""
        positional = self._positional[: len(args)]
        named = dict(zip(positional, args, strict=False))
        others = {}
        for name, value in kwargs.items():
            if name in self._by_name:
                named[name] = value
            else:
                others[name] = value
        if self._rest:
            named[self._rest] = args[len(positional) :]
        if self._others:
            named[self._others] = others
        made = self._read(named)
        made_args = [*(made[name] for name in positional), *(made[self._rest] if self._rest else ())]
        made_others = made[self._others] if self._others else {}
        return made_args, {name: made_others[name] if name in others else made[name] for name in kwargs}

    def _explain(self, said: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        """Say why a call does not bind; `said` is what binding said, which knows nothing of similar names."""
        unknown = next((name for name in kwargs if name not in self._by_name), None)
        if unknown is not None and not self._others:
            other = f"{said}; " if said.startswith(("missing", "too many", "multiple")) else ""
            said = other + self._explain_name(unknown, {*self._positional[: len(args)], *kwargs})
        names = [f"{len(args)} positional"] if args else []
        given = ", ".join([*names, *(f"{printable(name)}=…" for name in kwargs)]) or "no arguments"
        return f"{said}; {self._task}{self.signature} was called with {given}"

    def _explain_name(self, unknown: str, given: set[str]) -> str:
        import difflib

        if unknown in self._positional:
            return f"argument '{unknown}' is taken by its position only"
        free = [name for name in self._by_name if name not in given]
        begin = unknown[:_SHOWN_NAME_CHARACTERS]  # comparing takes time
        near = difflib.get_close_matches(begin, free, n=1, cutoff=0.5)
        return f"unexpected argument '{printable(begin)}'" + (f"; did you mean '{near[0]}'?" if near else "")

    def _refuse(self, named: dict[str, Any], error: Exception) -> NoReturn:
        """Raise the `Misfit` for what could not be read, by reading again one by one to know which it was."""
        import msgspec

        for path, value, hint in self._each(named):
            try:
                msgspec.convert(value, hint, str_keys=True, dec_hook=made_by_class)
            except Exception as found:
                raise misfit_of(path, found) from found
        raise misfit_of("", error) from error

    def _each(self, named: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        for name, value in named.items():
            if name == self._others and name in self._hints:
                (_, hint) = typing.get_args(self._hints[name])
                yield from ((other[:_SHOWN_NAME_CHARACTERS], inner, hint) for other, inner in value.items())
            elif name in self._hints:
                yield name, value, self._hints[name]

    def _read_first(self, named: dict[str, Any]) -> dict[str, Any]:
        self.prepare()
        return self._read(named)

    def _resolve(self, parameter: inspect.Parameter) -> Any:
        if parameter.annotation is parameter.empty:
            return Any
        function = inspect.unwrap(self._function)
        one = types.SimpleNamespace(
            __annotations__={parameter.name: parameter.annotation},
            __type_params__=getattr(function, "__type_params__", ()),
        )
        try:
            known = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
            return typing.get_type_hints(one, known, include_extras=True)[parameter.name]
        except Exception as error:
            raise TaskModuleError(
                f"task {self._task!r}: the annotation {parameter.annotation!r} of parameter {parameter.name!r} cannot "
                f"be resolved: {error}; define or import what it names at the top of the module, and not only under "
                "TYPE_CHECKING: arguments are read by it"
            ) from error

    def _build(self, hints: dict[str, Any]) -> None:
        """Make one converter for all parameters: a struct costs far less than a `TypedDict`, or each alone."""
        import msgspec

        options: dict[str, Any] = {}  # only what is needed: each costs a call a third more
        for name, hint in hints.items():
            options |= self._check_hint(self.signature.parameters[name], hint)
        if self._rest in hints:
            hints[self._rest] = types.GenericAlias(list, hints[self._rest])
        if self._others in hints:
            hints[self._others] = types.GenericAlias(dict, (str, hints[self._others]))
        shape, convert, fields = shape_of(hints), msgspec.convert, {name: field_of(name) for name in hints}

        def read(named: dict[str, Any]) -> dict[str, Any]:
            try:
                made: Any = convert(named, shape, **options)
            except Exception as error:  # noqa: BLE001 - a class among the annotations may raise anything
                self._refuse(named, error)
            return {name: getattr(made, fields[name]) if name in fields else value for name, value in named.items()}

        self._hints, self._read = hints, read

    def _check_hint(self, parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
        """Return the options that reading the hint takes. Raises `TaskModuleError` when nothing can be read by it."""
        from msgspec import inspect as described

        try:
            kinds = list(types_in(described.type_info(hint), set()))
        except Exception as error:
            raise self._impossible(parameter, str(error)) from error
        classes = [typing.get_origin(kind.cls) or kind.cls for kind in kinds if isinstance(kind, described.CustomType)]
        for kind in kinds:
            if isinstance(kind, described.DataclassType) and is_pydantic(kind.cls):
                shown = inspect.formatannotation(kind.cls)
                reason = f"{shown} is a dataclass of pydantic, which nothing would validate; make it a model"
                raise self._impossible(parameter, reason)
        never = next((kind for kind in classes if not can_be_read(kind)), None)
        if never and parameter.name in self._required:
            raise self._impossible(parameter, f"no message can bring a {inspect.formatannotation(never)}")
        options: dict[str, Any] = {"dec_hook": made_by_class} if classes else {}
        if any(isinstance(kind, described.DictType) and not is_text(kind.key_type) for kind in kinds):
            options["str_keys"] = True  # JSON has no others
        return options

    def _impossible(self, parameter: inspect.Parameter, reason: str) -> TaskModuleError:
        said = parameter.annotation
        shown = said if isinstance(said, str) else inspect.formatannotation(said)
        return TaskModuleError(
            f"task {self._task!r}: the annotation {shown!r} of parameter {parameter.name!r} can never work: {reason}"
        )
