"""What others write into a body: what would be ignored is refused, and everything unknown is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leveret.topology.errors import UnreadableMessage
from leveret.topology.message import Call, decode

CALL: dict[str, Any] = {"task": "a", "args": [1], "kwargs": {}}
PROTOCOL_1 = {
    "id": "x",
    "retries": 0,
    "eta": None,
    "expires": None,
    "utc": True,
    "callbacks": None,
    "errbacks": None,
    "timelimit": [None, None],
    "taskset": None,
    "group": None,
    "group_index": None,
    "chord": None,
}
"""What Celery's first protocol says beside the call."""


def read(document: object) -> Call:
    return decode(json.dumps(document).encode(), None, None, 1000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eta", "2099-01-01T00:00:00+00:00"),
        ("expires", "2001-01-01T00:00:00"),
        ("expires", 60),
        ("countdown", 5),
        ("callbacks", [{"task": "b"}]),
        ("errbacks", [{"task": "b"}]),
        ("chain", [{"task": "b"}]),
        ("chord", {"task": "b"}),
    ],
)
def test_what_celery_asks_for_is_not_ignored(field: str, value: object) -> None:
    """It names the field, and the page that says how it is said here."""
    with pytest.raises(UnreadableMessage, match=rf"field '{field}' of a Celery message, .*coming-from-celery\.md$"):
        read({**CALL, **PROTOCOL_1, field: value})


def test_a_celery_message_that_asks_for_nothing_else_runs() -> None:
    """Its fields of null lose nothing."""

    assert read({**CALL, **PROTOCOL_1}) == Call("a", [1], {})


@pytest.mark.parametrize("embedded", [{"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
def test_an_array_of_celery_is_called_that(embedded: dict[str, None]) -> None:
    """Protocol 2 has the task in a header, and in the body an array."""
    with pytest.raises(UnreadableMessage, match=r"an array of Celery's protocol 2, .*coming-from-celery\.md$"):
        read([[1], {}, embedded])


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *[("arg", "args"), ("Args", "args"), ("ARGS", "args"), ("agrs", "args"), ("args ", "args"), ("argss", "args")],
        *[("kwarg", "kwargs"), ("kwrags", "kwargs"), ("kw_args", "kwargs"), ("kwArgs", "kwargs")],
        *[("Task", "task"), ("tasks", "task"), ("taks", "task"), ("Version", "version"), ("versions", "version")],
    ],
)
def test_a_field_that_is_nearly_ours_is_refused(name: str, nearest: str) -> None:
    """The task would run without its arguments."""
    with pytest.raises(UnreadableMessage, match=f"a field '{name}', which nobody reads; did you mean '{nearest}'"):
        read({**CALL, name: []})


@pytest.mark.parametrize(
    "name", ["id", "ID", "task_id", "taskset", "argsrepr", "kwargsrepr", "tags", "mask", "params", "priority", "", "é"]
)
def test_an_unknown_field_is_kept(name: str) -> None:
    """Later versions and other programs may write more than a worker reads."""

    assert read({**CALL, name: "x"}) == Call("a", [1], {})


def test_a_slip_is_found_among_very_many_fields() -> None:
    """Looking for one takes a moment, however many there are."""
    many = {f"field{number}": 0 for number in range(100_000)}
    body = json.dumps({**CALL, **many, "arg": 1}).encode()

    with pytest.raises(UnreadableMessage, match="did you mean 'args'"):
        decode(body, None, None, len(body))
