"""Reading values by annotations: what msgspec does, what pydantic does, and saying what did not fit.

msgspec is imported when something is read.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from leveret.topology.message.plain import floats_in, is_pydantic, plain
from leveret.topology.printable import printable

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode
_JSON_TYPES = (str, int, float, bool, list, dict, type(None))
_HUGE = re.compile(r"\d{309}")  # more digits than the largest float has
_INFINITIES = (float("inf"), float("-inf"))
_PLACE = re.compile(r"(.*) - at `(key` in `)?\$([^`]*)`", re.DOTALL)  # how msgspec says where


class Misfit(ValueError):
    """Arguments that a function does not take: `path` says where, as in `items[2].price`, and `problem` what."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


def takes_anything(hint: Any) -> bool:
    """Say whether a hint leaves the value as it came."""
    return hint is Any or hint is object or isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs))


def shape_of(hints: Mapping[str, Any]) -> type:
    """Make a type with a field for each hint, any of which may be missing."""
    import msgspec

    fields = [(field_of(name), hint, msgspec.UNSET) for name, hint in hints.items()]
    return msgspec.defstruct("Arguments", fields, kw_only=True, rename={field_of(name): name for name in hints})


def field_of(name: str) -> str:
    """Return the name of a parameter's field; not its own, for a class mangles some and gives others a meaning."""
    return f"of_{name}"


def types_in(kind: Any, seen: set[int]) -> Iterator[Any]:
    """Yield one of msgspec's descriptions of types and all that are in it, each once: a class may hold itself."""
    import msgspec.inspect

    if isinstance(kind, tuple):
        for one in kind:
            yield from types_in(one, seen)
    elif isinstance(kind, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(kind) not in seen:
        seen.add(id(kind))
        yield kind
        for name in kind.__struct_fields__:
            yield from types_in(getattr(kind, name), seen)


def is_text(kind: Any) -> bool:
    """Say whether one of msgspec's descriptions is of text."""
    import msgspec.inspect

    return isinstance(kind, (msgspec.inspect.StrType, msgspec.inspect.AnyType))


def can_be_read(kind: Any) -> bool:
    """Say whether what JSON brings can be, or become, an instance of the class."""
    if is_pydantic(kind):
        return True
    try:
        return any(issubclass(one, kind) for one in _JSON_TYPES)
    except TypeError:  # a protocol that looks at attributes
        return True


def made_by_class(kind: Any, value: Any) -> Any:
    """Make what msgspec leaves to us: pydantic's models. It looks itself whether anything else is of the type."""
    if not is_pydantic(kind):
        return value
    text = _encode(value)  # as JSON, for that is what a strict model and one that sets val_json_bytes take text from
    try:
        made = kind.model_validate_json(text)
    except sys.modules["pydantic"].ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
        raise Misfit(path, first["msg"]) from error
    if _HUGE.search(text) and any(one in _INFINITIES for one in floats_in(made.model_dump())):
        raise Misfit("", "number out of range")  # of an integer that no float can hold, pydantic makes infinity
    return made


def misfit_of(path: str, error: Exception) -> Misfit:
    """Say what msgspec, or a class that it made, said, in words that name no library."""
    import msgspec

    if not isinstance(error, msgspec.ValidationError):
        return Misfit(path, printable(traceback.format_exception_only(error)[-1].strip()))
    said, in_key, inner = str(error), None, ""
    if place := _PLACE.fullmatch(said):
        said, in_key, inner = place.groups()
    path += inner
    if isinstance(error.__cause__, Misfit):
        path, said = path + error.__cause__.path, error.__cause__.problem
    elif error.__cause__ is None:  # its own words
        said = said.replace("`", "" if said.startswith("Expected") else "'")
    said = said[:1].lower() + said[1:] + (" for a key" if in_key else "")
    return Misfit(printable(path), printable(said))
