"""The message's JSON Schema, which producers in other languages write by, agrees with what workers read."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from leveret.topology.errors import UnreadableMessage
from leveret.topology.message import TaskMessage, decode
from leveret.topology.settings import CHECKOUT

SCHEMA = json.loads((CHECKOUT / "topology/message/task-message.schema.json").read_text(encoding="utf-8"))


def fits_schema(document: object) -> bool:
    """Whether the schema accepts a document."""
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(document))


def is_readable(document: object) -> bool:
    """Whether a worker can read a document."""
    try:
        decode(json.dumps(document).encode(), None, None, 1024 * 1024)
    except UnreadableMessage:
        return False
    return True


def test_the_schema_is_one() -> None:
    """The file is a valid schema of the draft it names."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    ("task", "args", "kwargs"),
    [
        ("words.count", (), None),
        ("words.count", ("dracula.txt", 5), {"tokenizer": "split"}),
        ("é" * 127, ([{"deep": [None, True]}],), {"": 1.5}),
    ],
)
def test_what_python_makes_fits_the_schema(task: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """A message made by `TaskMessage.create` is one by the schema."""

    assert fits_schema(json.loads(TaskMessage.create(task, args, kwargs).body))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"task": "a"}, True),
        ({"task": "a" * 255}, True),
        ({"task": "a", "version": 1}, True),
        ({"task": "a", "version": 1.0}, True),
        ({"task": "a", "args": [1, None], "kwargs": {"b": []}}, True),
        ({"task": "a", "priority": "high", "id": 5}, True),
        ({"task": ""}, False),
        ({"task": "a" * 256}, False),
        ({"task": None}, False),
        ({"task": 1}, False),
        ({}, False),
        ({"args": []}, False),
        ({"task": "a", "version": 2}, False),
        ({"task": "a", "version": "1"}, False),
        ({"task": "a", "version": True}, False),
        ({"task": "a", "version": None}, False),
        ({"task": "a", "args": {}}, False),
        ({"task": "a", "args": None}, True),
        ({"task": "a", "args": "abc"}, False),
        ({"task": "a", "kwargs": []}, True),
        ({"task": "a", "kwargs": None}, True),
        ({"task": "a", "kwargs": [1]}, False),
        ({"task": "a", "kwargs": "abc"}, False),
        ({"task": "a", "eta": "2099-01-01T00:00:00"}, False),
        ({"task": "a", "eta": None, "expires": None, "callbacks": None}, True),
        ([], False),
        ("a", False),
        (None, False),
        (True, False),
    ],
)
def test_schema_and_worker_agree(document: object, expected: bool) -> None:
    """A document fits the schema exactly if a worker can read it."""

    assert (fits_schema(document), is_readable(document)) == (expected, expected)
