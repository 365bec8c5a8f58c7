"""The JSON Schema of a task's message: its body as it is published, with the arguments that the function takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from leveret.consumers.describing.types import NoSchemaError, Schema, Types
from leveret.consumers.tasks.batch_task import BatchTask
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import queues as work_queues
from leveret.topology import registry
from leveret.topology.errors import TaskModuleError
from leveret.topology.message import envelope
from leveret.topology.queues import WorkQueue

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MESSAGE = Path(envelope.__file__).with_name("task-message.schema.json")
_NONE: Schema = {"type": ["array", "object", "null"], "maxItems": 0, "maxProperties": 0}
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class Described(NamedTuple):
    """A document, and what could not be described in it: a line for each, with the task and the argument."""

    document: dict[str, Any]
    problems: tuple[str, ...]


def tasks_of(queues: Sequence[WorkQueue] | None) -> list[AnyTask]:
    """Return the tasks of these work queues, by default of all, by name."""
    chosen = work_queues.known() if queues is None else queues
    return sorted((task for queue in chosen for task in registry.of_queue(queue)), key=lambda task: task.name)


def schemas_of(queues: Sequence[WorkQueue] | None = None) -> Described:
    """Return a JSON Schema (2020-12) of the message of each task of these work queues, by the task's name.

    An argument whose type has no schema may be anything there. A task whose annotations can never work is left out.
    """
    made: dict[str, Any] = {}
    problems: list[str] = []
    for task in tasks_of(queues):
        types = Types("#/$defs/")
        try:
            schema = message_schema(task, types, problems)
        except TaskModuleError as error:
            problems.append(f"{error}; it is left out")
            continue
        made[task.name] = {"$schema": _DRAFT, **schema, **({"$defs": types.defined} if types.defined else {})}
    return Described(made, tuple(problems))


def message_schema(task: AnyTask, types: Types, problems: list[str]) -> Schema:
    """Return the schema of the message of a task; adds to the problems what has none.

    Raises `TaskModuleError` for annotations that can never work.
    """
    base = json.loads(_MESSAGE.read_text(encoding="utf-8"))
    arguments = _of_batch(task, types, problems) if isinstance(task, BatchTask) else _of(task, types, problems)
    own = arguments.pop("properties")
    celery = {name: {"type": "null"} for name, value in base["properties"].items() if "$ref" in value}
    text = (inspect.getdoc(task.function) or "").strip()
    return {
        "title": task.name,
        **({"description": text} if text else {}),
        "type": "object",
        "properties": {**base["properties"], **celery, "task": {"const": task.name}, **own},
        "required": ["task", *arguments.pop("required")],
        **arguments,
    }


def _of(task: AnyTask, types: Types, problems: list[str]) -> Schema:
    """Return what the arguments add to the schema: each may come by position or by name, but not both."""
    parameters = list(task.arguments.signature.parameters.values())
    hints = task.arguments.hints
    shapes = {one.name: _shape(task, one.name, hints, types, problems) for one in parameters}
    positional = [one for one in parameters if one.kind in _POSITIONAL]
    named = {one.name: shapes[one.name] for one in parameters if one.kind in (*_POSITIONAL[1:], Parameter.KEYWORD_ONLY)}
    rest = next((one.name for one in parameters if one.kind is Parameter.VAR_POSITIONAL), None)
    others = next((one.name for one in parameters if one.kind is Parameter.VAR_KEYWORD), None)
    least = sum(one.kind is Parameter.POSITIONAL_ONLY and one.default is one.empty for one in parameters)
    required = [one.name for one in parameters if one.kind is Parameter.KEYWORD_ONLY and one.default is one.empty]

    args: Schema = {"type": ["array", "null"]}
    if positional:
        args["prefixItems"] = [shapes[one.name] for one in positional]
    if rest is None:
        args["maxItems"] = len(positional)
    else:
        args["items"] = shapes[rest].get("items", {})
    if least:
        args |= {"type": "array", "minItems": least}
    kwargs: Schema = {"type": ["object", "array", "null"], "maxItems": 0, "properties": named}
    kwargs["additionalProperties"] = False if others is None else shapes[others].get("additionalProperties", {})
    if required:
        kwargs |= {"type": "object", "required": required}
    either = [_either(number, one) for number, one in enumerate(positional, 1) if one.kind is _POSITIONAL[1]]
    return {
        "properties": {"args": args, "kwargs": kwargs},
        "required": [*(["args"] if least else []), *(["kwargs"] if required else [])],
        **({"allOf": either} if either else {}),
    }


def _either(number: int, parameter: Parameter) -> Schema:
    """Say that a parameter does not come by name where it has come by position; and if it has to come, that it does."""
    name = parameter.name
    by_name = {"type": "object", "required": [name]}
    made: Schema = {
        "if": {"properties": {"args": {"type": "array", "minItems": number}}, "required": ["args"]},
        "then": {"properties": {"kwargs": {"not": by_name}}},
    }
    if parameter.default is parameter.empty:
        made["else"] = {"properties": {"kwargs": by_name}, "required": ["kwargs"]}
    return made


def _of_batch(task: AnyTask, types: Types, problems: list[str]) -> Schema:
    """Return what one call adds to the schema: one argument, or named ones that make it."""
    (name,) = task.arguments.names
    item = _shape(task, name, task.arguments.hints, types, problems).get("items", {})
    return {
        "properties": {"args": {"type": ["array", "null"]}, "kwargs": {"type": ["object", "array", "null"]}},
        "required": [],
        "oneOf": [
            {
                "properties": {"args": {"type": "array", "items": item, "minItems": 1, "maxItems": 1}, "kwargs": _NONE},
                "required": ["args"],
            },
            {
                "properties": {"args": _NONE, "kwargs": {"allOf": [{"type": "object", "minProperties": 1}, item]}},
                "required": ["kwargs"],
            },
        ],
    }


def _shape(task: AnyTask, name: str, hints: dict[str, Any], types: Types, problems: list[str]) -> Schema:
    if name not in hints:
        return {}
    try:
        return types.of(hints[name])
    except NoSchemaError as error:
        problems.append(
            f"task {task.name!r}, argument {name!r}: no schema describes its type, so it says anything: {error}"
        )
        return {}
