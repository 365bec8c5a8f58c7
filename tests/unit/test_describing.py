"""Schemas of tasks' messages accept and refuse what the worker does; the AsyncAPI document is whole."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from leveret import asyncapi_of, schemas_of
from leveret.consumers.describing.schemas import Described
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import queues, registry
from leveret.topology.errors import MessageError, UnreadableMessage
from leveret.topology.message.envelope import decode
from leveret.topology.settings import Settings
from tests.unit import described_jobs

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        6,
        -1,
        2**70,
        1.5,
        -0.5,
        "",
        "a",
        "ab",
        "abcd",
        "b",
        "red",
        "green",
        "1",
        "-1.5e3",
    ),
    *("2026-01-02T03:04:05Z", "2026-01-02 03:04:05+01:00", "2026-01-02T03:04:05.25", "2026-13-02T03:04:05Z"),
    *("2026-01-02", "2026-01-32", "03:04:05", "03:04:05Z", "24:00:00", "03:04", "PT1.5S", "-P1DT2H", "P1W", "PT", "P"),
    *("00000000-0000-4000-8000-000000000000", "0000", "YQ==", "YQ", "YWJj", "NaNs", "1.2.3"),
    *([], [1], [1, 2], [1, "a"], [1, "a", 2], ["a"], ["a", "a"], [True], [None], [[1]]),
    *({}, {"a": 1}, {"a": "b"}, {"1": "a"}, {"01": "a"}, {"2026-01-02": 1}, {"red": 1}, {"width": 1}, {"width": "a"}),
    *({"sku": "a"}, {"sku": 1}, {"sku": "a", "count": 2, "more": 1}, {"sku": "a", "inner": {"sku": "b", "count": "2"}}),
    *([{"sku": "a"}], [{"sku": "a"}, {"count": 1}], {"sku": "a", "inner": {"sku": "b"}}, {"street": "a"}),
    *(
        {"street": "a", "number": "b"},
        {"type": "mail", "to": "a"},
        {"type": "fax", "number": 1},
        {"type": "x", "to": "a"},
    ),
    *({"type": "mail", "to": "a", "more": 1}, {"type": "fax", "number": "a"}, {"to": "a"}),
    *({"name": "ab"}, {"name": "a"}, {"name": "ab", "home": {"city": "c"}}, {"name": "ab", "home": {"city": 1}}),
    *({"name": "ab", "more": 1}, [{"name": "ab"}], [{"name": "a"}]),
]
PLACED: list[Any] = [[], None, [1], [1, 2], [1, "a"], [1, "a", 2], ["a"], ["a", 1, 2], ["a", "b"], [{"sku": "a"}]]
NAMED: list[Any] = [
    *({}, [], None, {"first": 1}, {"first": "a"}, {"third": True}, {"first": 1, "third": True}, {"second": "a"}),
    *({"second": "a", "third": False}, {"first": 1, "second": "b", "third": True, "fourth": 5}, {"third": 1}),
    *({"first": 1, "third": True, "fifth": 1}, {"sku": "a"}, {"count": 1}, {"first": "a", "else": True}),
]


@pytest.fixture(autouse=True)
def tasks() -> Iterator[dict[str, AnyTask]]:
    """The described tasks, and no others."""
    yield described_jobs.define()
    registry.forget()
    queues.forget()


def takes(task: AnyTask, body: dict[str, Any]) -> bool:
    """Whether a worker takes this message of a task, by its own reading and checking."""
    try:
        call = decode(json.dumps(body).encode(), None, None, 1024 * 1024)
        task.check(call.args, dict(call.kwargs))
    except (UnreadableMessage, MessageError):
        return False
    return True


@functools.cache
def described() -> Described:
    """What is said of the tasks as they are defined for each test."""
    return schemas_of()


def validator_of(name: str) -> Any:
    document, problems = described()
    assert problems == ()
    jsonschema.Draft202012Validator.check_schema(document[name])
    return jsonschema.Draft202012Validator(document[name])


@pytest.mark.parametrize("kind", described_jobs.TYPES)
def test_a_value_fits_the_schema_if_the_worker_takes_it(kind: str, tasks: dict[str, AnyTask]) -> None:
    """By name and by position."""
    name = f"described.{kind}"
    validator = validator_of(name)
    bodies: list[dict[str, Any]] = [{"task": name, "kwargs": {"value": value}} for value in VALUES]
    bodies += [{"task": name, "args": [value]} for value in VALUES]
    found = {json.dumps(body): takes(tasks[name], body) for body in bodies}

    assert {json.dumps(body): validator.is_valid(body) for body in bodies} == found
    assert len({*found.values()}) == (1 if kind == "anything" else 2)


@pytest.mark.parametrize("kind", ["many", "by_place", "rest", "nothing", "batch"])
def test_a_call_fits_the_schema_if_the_worker_takes_it(kind: str, tasks: dict[str, AnyTask]) -> None:
    """Whatever comes by position and whatever by name."""
    name = f"described.{kind}"
    validator = validator_of(name)
    bodies: list[dict[str, Any]] = [
        {"task": name, "args": args, "kwargs": kwargs} for args in PLACED for kwargs in NAMED
    ]
    bodies += [{"task": name}, {"task": name, "args": [1]}, {"task": name, "kwargs": {"first": 1, "third": True}}]
    found = {json.dumps(body): takes(tasks[name], body) for body in bodies}

    assert {json.dumps(body): validator.is_valid(body) for body in bodies} == found
    assert {*found.values()} == {True, False}


def test_the_schema_is_of_one_task() -> None:
    """A message to another task does not fit, nor does one of another version."""
    validator = validator_of("described.nothing")

    assert validator.is_valid({"task": "described.nothing", "version": 1, "more": 1})
    assert not validator.is_valid({"task": "described.text"})
    assert not validator.is_valid({"task": "described.nothing", "version": 2})
    assert not validator.is_valid({"task": "described.nothing", "eta": "2099-01-01T00:00:00"})


def test_a_description_is_the_docstring() -> None:
    """What the function says of itself is what others read."""

    assert schemas_of().document["described.many"]["description"] == "Take several arguments."


def test_what_has_no_schema_is_told(tasks: dict[str, AnyTask]) -> None:
    """Its argument may be anything; all others are described."""
    from leveret import task

    @task("described.code", queue=queues.find("described"))
    def code(first: int, second: described_jobs.WithCode) -> None: ...

    document, (problem,) = schemas_of()

    assert "'described.code'" in problem
    assert "'second'" in problem
    assert document["described.code"]["properties"]["kwargs"]["properties"] == {
        "first": {"type": "integer"},
        "second": {},
    }
    assert document.keys() == {*tasks, "described.code"}


def test_what_can_never_work_is_left_out(tasks: dict[str, AnyTask]) -> None:
    """The others are described."""
    from leveret import task

    @task("described.never", queue=queues.find("described"))
    def never(value: complex) -> None: ...

    for document, problems in (schemas_of(), (asyncapi_of()[0]["components"]["messages"], asyncapi_of()[1])):
        assert document.keys() == tasks.keys()
        assert ["'described.never'" in problem for problem in problems] == [True]


ASYNCAPI = Settings(amqp_url="amqps://hare:secret@rabbit.example:5671/shop%2Fone;amqps://hare:secret@[::1]/shop%2Fone")


def test_asyncapi_leads_everywhere_and_names_no_secret() -> None:
    """Each reference has a target; servers have neither user nor password."""
    document, problems = asyncapi_of(configured=ASYNCAPI)
    text = json.dumps(document)
    references = re.findall(r'"\$ref": "#/([^"]+)"', text)
    for reference in references:
        found: Any = document
        for step in reference.split("/"):
            found = found[step]

    assert problems == ()
    assert len({*references}) > len(described_jobs.TYPES)
    assert "secret" not in text
    assert "hare" not in text
    assert [server["host"] for server in document["servers"].values()] == ["rabbit.example:5671", "[::1]"]
    assert [server["protocol"] for server in document["servers"].values()] == ["amqps", "amqps"]


def test_asyncapi_says_where_a_task_goes() -> None:
    """By the routing key and the exchange, and in which queue it waits."""
    document, _ = asyncapi_of(configured=ASYNCAPI)
    way = document["channels"]["submit.described.many"]
    queue = document["channels"]["queue.described"]

    assert (way["address"], way["bindings"]["amqp"]["exchange"]["name"]) == ("described.many", "tasks.topic")
    assert way["bindings"]["amqp"]["exchange"]["vhost"] == "shop/one"
    assert queue["bindings"]["amqp"]["queue"]["name"] == "described"
    assert queue["messages"].keys() == document["components"]["messages"].keys()


def test_asyncapi_has_schemas_of_draft_7() -> None:
    """As AsyncAPI's own are; they say the same of a message."""
    document, _ = asyncapi_of(configured=ASYNCAPI)
    for name, value, fits in (("pair", [1, "a"], True), ("pair", [1, 2], False), ("customer", {"name": "ab"}, True)):
        schema = {**document["components"]["schemas"][f"described.{name}"], "components": document["components"]}
        jsonschema.Draft7Validator.check_schema(schema)
        body = {"task": f"described.{name}", "kwargs": {"value": value}}

        assert jsonschema.Draft7Validator(schema).is_valid(body) is fits


def test_tasks_with_odd_names_have_keys_of_their_own() -> None:
    """A key of AsyncAPI takes few characters."""
    from leveret import task

    for name in ("described.é", "described.à"):

        @task(name, queue=queues.find("described"))
        def odd() -> None: ...

        odd.function.__qualname__ = name

    messages = asyncapi_of(configured=dataclasses.replace(ASYNCAPI))[0]["components"]["messages"]

    assert messages["described._"]["name"] != messages["described.__2"]["name"]
