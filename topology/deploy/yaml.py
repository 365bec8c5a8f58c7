"""Writing YAML. Every string stands in quotes, so that no value can be read as something else or break out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Yaml: TypeAlias = "str | int | bool | Sequence[Yaml] | Mapping[str, Yaml]"

_PLAIN_KEY = re.compile(r"[A-Za-z][\w./-]*", re.ASCII)
_OTHER_MEANING = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_INDENT = "  "


def render(document: Mapping[str, Yaml]) -> str:
    """Return a mapping as a document."""
    return "".join(f"{line}\n" for line in _mapping(document))


def _mapping(value: Mapping[str, Yaml]) -> list[str]:
    lines = []
    for key, held in value.items():
        block = _block(held)
        shown = key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _OTHER_MEANING else _scalar(key)
        lines += [f"{shown}:", *(_INDENT + line for line in block)] if block else [f"{shown}: {_flow(held)}"]
    return lines


def _block(value: Yaml) -> list[str]:
    """Return the lines of what does not fit into one line; none for anything else."""
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, str | int) or not any(isinstance(one, Mapping) for one in value):
        return []
    lines = []
    for one in value:
        first, *others = _block(one) or [_flow(one)]
        lines += [f"- {first}", *(_INDENT + line for line in others)]
    return lines


def _flow(value: Yaml) -> str:
    if isinstance(value, Mapping):
        return "{}"  # an empty one, for others are blocks
    if isinstance(value, str | int):
        return _scalar(value)
    return f"[{', '.join(map(_flow, value))}]"


def _scalar(value: str | int) -> str:
    """Return a value as JSON has it, which is YAML too."""
    return json.dumps(value, ensure_ascii=not str(value).isprintable())
