"""JSON Schemas of the types that arguments are read by, as strict as reading is.

msgspec says what the types are. Its own schemas are not used: they take any text for a datetime, and any key for a
dictionary of numbers. Where a type has several spellings in JSON, the schema asks for the usual one.
"""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Sequence
from typing import Any

from msgspec import inspect

from leveret.topology.message.plain import is_pydantic

Schema = dict[str, Any]

_DATE = "(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
_ZONE = "([Zz]|[+-]([01][0-9]|2[0-3]):?[0-5][0-9])"
_ZONES = {None: f"{_ZONE}?", True: _ZONE, False: ""}
_DURATION = (
    r"^[+-]?P(?=[0-9T])([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?)?$"  # no weeks, months and years
)
_UUID = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_DECIMAL = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_INTEGER_KEY = "^-?(0|[1-9][0-9]*)$"
_NUMBER_KEY = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_JSON_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}


class NoSchemaError(Exception):
    """A type that no schema can describe."""


class Types:
    """Makes schemas; those of classes are collected in `defined`, and referred to by `prefix` and their name."""

    def __init__(self, prefix: str) -> None:
        self.defined: dict[str, Schema] = {}
        self._prefix = prefix
        self._names: dict[Any, str] = {}

    def of(self, hint: Any) -> Schema:
        """Return the schema of what an annotation takes. Raises `NoSchemaError`."""
        return self._of(inspect.type_info(hint))

    def _of(self, kind: Any) -> Schema:
        match kind:
            case inspect.Metadata():
                return {**self._of(kind.type), **(kind.extra_json_schema or {})}
            case inspect.AnyType():
                return {}
            case inspect.NoneType():
                return {"type": "null"}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.IntType() | inspect.FloatType():
                name = "integer" if isinstance(kind, inspect.IntType) else "number"
                return {"type": name, **_given({shown: getattr(kind, bound) for bound, shown in _BOUNDS.items()})}
            case inspect.LiteralType():
                return {"enum": list(kind.values)}
            case inspect.EnumType():
                if issubclass(kind.cls, enum.Flag):
                    return {"type": "integer"}
                return {"enum": [member.value for member in kind.cls]}
            case inspect.UnionType():
                return {"anyOf": [_told_apart(one, kind.types, self._of(one)) for one in kind.types]}
            case inspect.TupleType():
                made: Schema = {"type": "array", "minItems": len(kind.item_types), "maxItems": len(kind.item_types)}
                return {**made, "prefixItems": [self._of(one) for one in kind.item_types]} if kind.item_types else made
            case inspect.CollectionType():
                made = {"type": "array", "items": self._of(kind.item_type)}
                return {**made, **_given({"minItems": kind.min_length, "maxItems": kind.max_length})}
            case inspect.DictType() | inspect.FrozenDictType():
                return self._of_dictionary(kind)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                return self._named(kind.cls, lambda name: self._of_fields(kind, name))
            case inspect.CustomType():
                return self._of_class(kind.cls)
        return _of_text(kind)

    def _of_dictionary(self, kind: Any) -> Schema:
        key = kind.key_type
        names: Schema = {}
        if isinstance(key, (inspect.IntType, inspect.FloatType)):
            names = {"pattern": _INTEGER_KEY if isinstance(key, inspect.IntType) else _NUMBER_KEY}
        elif isinstance(key, (inspect.LiteralType, inspect.EnumType)):
            names = {"enum": [str(value) for value in self._of(key).get("enum", ())]}
        else:
            names = {name: value for name, value in self._of(key).items() if name != "type"}
        made = {"type": "object", "additionalProperties": self._of(kind.value_type)}
        bounds = _given({"minProperties": kind.min_length, "maxProperties": kind.max_length})
        return {**made, **({"propertyNames": names} if names else {}), **bounds}

    def _of_fields(self, kind: Any, name: str) -> Schema:
        required = [field.encode_name for field in kind.fields if field.required]
        fields = {field.encode_name: self._of(field.type) for field in kind.fields}
        tag = getattr(kind, "tag", None)
        forbids = getattr(kind, "forbid_unknown_fields", False)
        if isinstance(kind, inspect.NamedTupleType) or getattr(kind, "array_like", False):
            items = [*([] if tag is None else [{"const": tag}]), *fields.values()]
            least = max((n for n, field in enumerate(kind.fields, 1) if field.required), default=0) + (tag is not None)
            made: Schema = {"title": name, "type": "array", "prefixItems": items, "minItems": least}
            return {**made, "maxItems": len(items)} if forbids or isinstance(kind, inspect.NamedTupleType) else made
        if tag is not None:
            fields = {kind.tag_field: {"const": tag}, **fields}
        made = {"title": name, "type": "object", "properties": fields, "required": required}
        return {**made, "additionalProperties": False} if forbids else made

    def _of_class(self, kind: Any) -> Schema:
        if is_pydantic(typing.get_origin(kind) or kind):
            return self._named(kind, lambda name: self._of_model(kind, name))
        try:
            fitting = [shown for one, shown in _JSON_TYPES.items() if issubclass(one, typing.get_origin(kind) or kind)]
        except TypeError as error:  # a protocol that looks at attributes
            raise NoSchemaError(f"{kind!r} is known by its attributes only") from error
        return {"type": fitting} if fitting else {"not": {}}

    def _of_model(self, kind: Any, name: str) -> Schema:
        """Have pydantic describe a model; classes within it are defined beside it, under names of its own."""
        try:
            made: Schema = kind.model_json_schema(ref_template=f"{self._prefix}{name}-{{model}}")
        except Exception as error:
            raise NoSchemaError(" ".join(str(error).split("\n")[0].split())) from error
        for inner, schema in made.pop("$defs", {}).items():
            self.defined[f"{name}-{inner}"] = schema
        return made

    def _named(self, kind: Any, make: typing.Callable[[str], Schema]) -> Schema:
        """Define a class once, which may be within itself, and refer to it."""
        if kind not in self._names:
            shown = str(kind) if typing.get_origin(kind) else kind.__name__
            name = base = re.sub(r"[^A-Za-z0-9_]+", "_", shown).strip("_") or "Type"
            number = 1
            while name in self._names.values():
                number += 1
                name = f"{base}_{number}"
            self._names[kind] = name
            try:
                self.defined[name] = make(name)
            except NoSchemaError:
                del self._names[kind]
                raise
        return {"$ref": f"{self._prefix}{self._names[kind]}"}


def _told_apart(kind: Any, union: Sequence[Any], schema: Schema) -> Schema:
    """Return the schema of one of several types: a struct needs its tag, which it does only beside others."""
    structs = [one for one in union if isinstance(one, inspect.StructType) and not one.array_like]
    return {"allOf": [schema], "required": [kind.tag_field]} if kind in structs and len(structs) > 1 else schema


def _of_text(kind: Any) -> Schema:
    """Return the schema of what JSON has as text, or as text too."""
    match kind:
        case inspect.StrType():
            bounds = {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern}
            return {"type": "string", **_given(bounds)}
        case inspect.BytesType() | inspect.ByteArrayType() | inspect.MemoryViewType():
            lengths = {"minLength": _in_base64(kind.min_length), "maxLength": _in_base64(kind.max_length)}
            return {"type": "string", "contentEncoding": "base64", "pattern": _BASE64, **_given(lengths)}
        case inspect.DateTimeType():
            zoned = {"format": "date-time"} if kind.tz else {}
            return {"type": "string", **zoned, "pattern": f"^{_DATE}[Tt ]{_TIME}{_ZONES[kind.tz]}$"}
        case inspect.DateType():
            return {"type": "string", "format": "date", "pattern": f"^{_DATE}$"}
        case inspect.TimeType():
            return {"type": "string", "pattern": f"^{_TIME}{_ZONES[kind.tz]}$"}
        case inspect.TimeDeltaType():
            return {"type": "string", "format": "duration", "pattern": _DURATION}
        case inspect.UUIDType():
            return {"type": "string", "format": "uuid", "pattern": _UUID}
        case inspect.DecimalType():
            return {"type": ["string", "number"], "pattern": _DECIMAL}
    raise NoSchemaError(f"JSON has no word for {type(kind).__name__.removesuffix('Type').lower()}")


def _in_base64(length: int | None) -> int | None:
    return None if length is None else (length + 2) // 3 * 4


def _given(values: dict[str, Any]) -> Schema:
    return {name: value for name, value in values.items() if value is not None}


def draft_7(schema: Any, names: Sequence[str] = ("enum", "const", "default", "examples")) -> Any:
    """Return a schema in the words of draft 7, in which tuples are spelt differently. Values in it stay as they are."""
    if isinstance(schema, list):
        return [draft_7(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: value if name in names else draft_7(value) for name, value in schema.items()}
    if isinstance(made.get("prefixItems"), list):
        rest = made.pop("items", True)
        made["items"], made["additionalItems"] = made.pop("prefixItems"), rest
    return made
