"""What JSON has no word for, as what it has: dates as ISO 8601 text, bytes as base64, objects as their fields.

`plain` is what the JSON encoder calls for such a value, one level at a time: what is inside goes back to the encoder,
which refuses NaN and half characters and keeps every integer exact. What it makes is what the worker's side, msgspec
and pydantic, reads back into the same value; neither of them is imported here.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

_MICROSECOND = timedelta(microseconds=1)
_MISSING = object()


def plain(value: object) -> Any:
    """Return what JSON is to write for a value that it does not know, as `default` of an encoder.

    Takes dates, times and durations, `UUID`, `Decimal`, enums, bytes, sets, dataclasses, attrs classes, msgspec's
    structs and pydantic's models; named tuples and typed dictionaries are JSON's own arrays and objects. A datetime
    without a zone is sent without one, one with a zone with its offset. A pydantic model is sent as its own JSON form
    says, so that a `SecretStr` is asterisks unless a serializer says otherwise. Raises `TypeError` naming the type of
    anything else, or a key that is not text, and `ValueError` for a number that is none.
    """
    made = _made(value)
    check_keys(made)
    return made


def check_keys(value: object) -> None:
    """Refuse keys that json would quietly turn into text, where 1 and "1" would fall together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object is not text")
            if isinstance(inner, (dict, list, tuple)):
                check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if isinstance(inner, (dict, list, tuple)):
                check_keys(inner)


def _made(value: object) -> Any:
    match value:
        case Enum():
            return value.value
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case UUID():
            return str(value)
        case Decimal():
            if not value.is_finite():
                raise ValueError(f"{value} is no number that JSON has")
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case set() | frozenset():
            return list(value)
    return _of_object(value)


def _duration(value: timedelta) -> str:
    seconds, microseconds = divmod(abs(value // _MICROSECOND), 1_000_000)
    return f"{'-' if value < timedelta() else ''}PT{seconds}.{microseconds:06}S"


def _of_object(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "__struct_fields__"):
        return _of_struct(value)
    if is_pydantic(kind) and hasattr(kind, "model_dump"):
        for number in floats_in(value.model_dump(by_alias=True, round_trip=True), check_keys=True):
            if not math.isfinite(number):  # pydantic makes null of some
                raise ValueError(f"{number} is no number that JSON has")
        return value.model_dump(mode="json", by_alias=True, round_trip=True)
    if dataclasses.is_dataclass(kind):
        return _fields(value, [field.name for field in dataclasses.fields(kind)])
    if hasattr(kind, "__attrs_attrs__"):
        return _fields(value, [field.name for field in kind.__attrs_attrs__])
    raise TypeError(f"JSON has no word for a value of type {kind.__module__}.{kind.__qualname__}")


def is_pydantic(kind: object) -> bool:
    """Say whether a type is a model or a dataclass of pydantic, without importing it."""
    return isinstance(kind, type) and hasattr(kind, "__pydantic_validator__")


def _fields(value: object, names: list[str]) -> dict[str, Any]:
    """Return the fields that have a value; msgspec's UNSET is none."""
    unset = getattr(sys.modules.get("msgspec"), "UNSET", _MISSING)
    fields = {name: getattr(value, name, _MISSING) for name in names}
    return {name: inner for name, inner in fields.items() if inner is not _MISSING and inner is not unset}


def _of_struct(value: Any) -> Any:
    config, names = value.__struct_config__, value.__struct_fields__
    if config.array_like:
        return [*([] if config.tag is None else [config.tag]), *(getattr(value, name) for name in names)]
    renamed = dict(zip(names, value.__struct_encode_fields__, strict=True))
    tag = {} if config.tag is None else {config.tag_field: config.tag}
    return {**tag, **{renamed[name]: inner for name, inner in _fields(value, list(names)).items()}}


def floats_in(value: object, *, check_keys: bool = False) -> Iterator[float]:
    """Yield the floats anywhere in a dumped model. Raises `TypeError` for a key that is not text, if asked to."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if check_keys and not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object is not text")
            yield from floats_in(inner, check_keys=check_keys)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from floats_in(inner, check_keys=check_keys)
