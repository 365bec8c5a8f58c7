"""What is asked of the record, and how statuses travel in its answers: what recorders and askers agree on.

    {"version": 1, "ask": "status", "ids": ["0198…"], "attempts": true}
    → {"statuses": [{…}], "attempts": {"0198…": [{…}]}}
    {"version": 1, "ask": "result", "id": "0198…", "offset": 0}
    → {"status": {…}, "result": "5", "next": null}
    {"version": 1, "ask": "list", "states": ["failed"], "task": "mail.*", "queue": "", "since": 1785580000, "most": 100}
    → {"statuses": [{…}], "next": [1785585600.1, "0198…"]}
    {"version": 1, "ask": "logs", "id": "0198…", "from": null}
    → {"status": {…}, "logs": [{"attempt": 1, "at": 1785585600.1, "lines": ["…"], "dropped": 0}], "next": null}
    {"version": 1, "ask": "reserve", "key": "mail:a", "id": "0198…", "token": "9f…", "seconds": 3600}
    → {"id": "0198…", "is_new": true}
    {"version": 1, "ask": "release", "key": "mail:a", "id": "0198…", "token": "9f…"}
    → {"released": true}

An answer has as many statuses as fit: for the other ids it is asked again, and a list is continued `after` what `next`
says. A long result comes in pieces, by its `offset` in characters. What a task has logged comes as many lines as fit at
a time, and goes on `from` what `next` says: the time and the attempt of an event, and a line in it.

A key is reserved for a task that is about to be submitted, and the answer names the task that holds it: `is_new` says
that it is this one, and that nothing is known of it yet. Without seconds it holds until the task has ended. The token
is the secret of who reserves: only who knows it can release the key again, as long as nothing is known of the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

from leveret.topology.errors import UnreadableMessage
from leveret.topology.status import State, Status

MOST_IDS = 200
"""In one question for statuses: with ids as long as they may be, these fit into it."""
MOST_LISTED = 500
"""In one answer to a question for a list."""
RESULT_PIECE_CHARACTERS = 128 * 1024
"""Of a result in one answer."""

_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "state": (str,),
    "task": (str,),
    "queue": (str,),
    "worker": (str,),
    "attempt": (int,),
    "of": (int,),
    "times": (dict,),
    "seconds": _NUMBER,
    "failure": (dict,),
    "next_at": _NUMBER,
    "lies_in": (str,),
    "reason": (str,),
    "done": _NUMBER,
    "total": _NUMBER,
    "note": (str,),
}
"""The fields of a status in an answer. A result is asked for by itself."""
_fields_of = attrgetter(*_TYPES)
_EMPTY = _fields_of(Status(""))
_TEXTS_OF = {"failure": (str,), "times": _NUMBER}


class Logged(NamedTuple):
    """What an attempt has logged, as one event tells it; `at` is in seconds of the epoch."""

    attempt: int
    at: float
    lines: list[str]
    dropped: int
    """How many lines more there were, which only the worker's log has."""


class LogPlace(NamedTuple):
    """A line in what a task has logged: the time and the attempt of its event, and its number there."""

    at: float
    attempt: int
    line: int


def read_logged(document: object) -> Logged:
    """Read what was logged. Raises `UnreadableMessage` for what is none."""
    match document:
        case {"attempt": int(attempt), "at": int(at) | float(at), "lines": [*lines], "dropped": int(dropped)}:
            if all(type(line) is str for line in lines):
                return Logged(attempt, at, lines, dropped)
    raise UnreadableMessage("what was logged has attempt, at, lines and dropped")


def write_status(status: Status) -> dict[str, Any]:
    """Return a status as a JSON object, without what it does not say and without the result."""
    return {
        name: value
        for name, value, empty in zip(_TYPES, _fields_of(status), _EMPTY, strict=True)
        if value != empty or name == "state"
    }


def read_status(document: object) -> Status:
    """Read a status. Raises `UnreadableMessage` for what is none. Fields that are unknown here are left out."""
    if not isinstance(document, Mapping):
        raise UnreadableMessage(f"a status is no {type(document).__name__}")
    read: dict[str, Any] = {}
    for name, types in _TYPES.items():
        value = document.get(name)
        if value is None:
            continue
        if type(value) not in types or not all(
            type(key) is str and type(item) in _TEXTS_OF[name]
            for key, item in (value.items() if name in _TEXTS_OF else ())
        ):
            raise UnreadableMessage(f"a status has a {name} of the type {type(value).__name__}")
        read[name] = value
    try:
        read["state"] = State(read["state"])
        return Status(**read)
    except (KeyError, ValueError, TypeError) as error:
        raise UnreadableMessage(f"a status has no id, or no state that is known: {error}") from error


assert set(_TYPES) == {field.name for field in fields(Status)} - {"result"}
