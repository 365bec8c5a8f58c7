"""What a task returns, as JSON text for who follows it, and read back by the function's return annotation.

An annotation that msgspec cannot read, or that names what is not known when the task runs, is left alone: the result is
then what JSON has of it.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from leveret.consumers.tasks.reading import can_be_read, made_by_class, misfit_of, takes_anything, types_in
from leveret.topology.message import read_json
from leveret.topology.message.bounds import excess
from leveret.topology.message.plain import check_keys, is_pydantic, plain

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode


class UnusableResult(ValueError):
    """A result that cannot be told to who waits for it."""


class Result:
    """What the function of a task returns."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._hint: Any = None
        self._is_prepared = False
        self._may_be_none = False  # once that was seen

    def text(self, value: Any) -> str:
        """Return it as JSON. Raises `UnusableResult` for what JSON, or the annotation, does not allow."""
        if value is None and self._may_be_none:
            return "null"
        try:
            check_keys(value)
            text = _encode(value)
            text.encode()
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, cycles, half characters
            raise UnusableResult(f"the result cannot be written as JSON: {error}") from error
        if too_much := excess(text.encode()):
            raise UnusableResult(f"the result cannot be written as JSON: {too_much}")
        if self._typed_hint() is not None:
            try:
                self.read(text)
            except ValueError as misfit:
                shown = inspect.formatannotation(self._hint)
                raise UnusableResult(f"the result is not what '-> {shown}' says: {misfit}") from misfit
        self._may_be_none = self._may_be_none or value is None
        return text

    def read(self, text: str) -> Any:
        """Return what the function has returned. Raises `Misfit`, a `ValueError`, where that is another type now."""
        document = read_json(text)
        if (hint := self._typed_hint()) is None:
            return document
        import msgspec

        try:
            return msgspec.convert(document, hint, str_keys=True, dec_hook=made_by_class)
        except Exception as error:
            raise misfit_of("", error) from error

    def _typed_hint(self) -> Any:
        if not self._is_prepared:
            self._hint = self._find_hint()
            self._is_prepared = True
        return self._hint

    def _find_hint(self) -> Any:
        function = inspect.unwrap(self._function)
        said = getattr(function, "__annotations__", {}).get("return", Any)
        one = types.SimpleNamespace(
            __annotations__={"return": said}, __type_params__=getattr(function, "__type_params__", ())
        )
        try:
            known = getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])
            hint = typing.get_type_hints(one, known, include_extras=True)["return"]
            return hint if not takes_anything(hint) and _can_be_read(hint) else None
        except Exception:  # noqa: BLE001 - names that are not known here; said above what follows
            return None


def _can_be_read(hint: Any) -> bool:
    from msgspec import inspect as described

    kinds = list(types_in(described.type_info(hint), set()))
    classes = [typing.get_origin(kind.cls) or kind.cls for kind in kinds if isinstance(kind, described.CustomType)]
    pydantic = any(isinstance(kind, described.DataclassType) and is_pydantic(kind.cls) for kind in kinds)
    return not pydantic and all(can_be_read(kind) for kind in classes)
