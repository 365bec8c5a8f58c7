"""What happened to a task, as it travels: keys and bodies of the messages on the exchange of events.

A message tells of one kind of event of one task, of many runs at once: the key is `task.<kind>.<task>`, the body a JSON
object. What is forged or broken is refused here with the reason.

    {"version": 1, "kind": "succeeded", "task": "mail.send", "worker": "web-3:812", "events": [
        {"id": "0198…", "at": 1785585600.123, "queue": "mail", "attempt": 1, "of": 4, "seconds": 0.21, "result": "5"}]}
"""

from __future__ import annotations

import enum
import functools
import json
import operator
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, NotRequired, TypedDict

from leveret.topology.errors import MessageError, UnreadableMessage
from leveret.topology.message import check_id
from leveret.topology.message.bounds import excess
from leveret.topology.names import LONGEST_NAME_BYTES

VERSION = 1
LARGEST_BODY_BYTES = 4 * 1024 * 1024
"""Of a message of events: what is larger nobody here has written."""
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Event = dict[str, Any]
"""One event: `id` and `at` (seconds of the epoch) always, and the fields of its kind; see `_FIELDS`."""


class Kind(enum.StrEnum):
    """What an event tells."""

    SUBMITTED = "submitted"
    """The broker has confirmed the task."""
    DELAYED = "delayed"
    """It is to run later, as who submitted it said, or as it said itself."""
    BLOCKED = "blocked"
    STARTED = "started"
    """An attempt runs; told only of those that run longer than a moment."""
    PROGRESS = "progress"
    LOG = "log"
    RETRYING = "retrying"
    """An attempt has failed, and another follows."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The last attempt has failed, and the message lies in its DLQ."""
    CANCELLED = "cancelled"


CLOSING = frozenset({Kind.SUCCEEDED, Kind.FAILED, Kind.CANCELLED})
"""Those that end a task. They are persistent, and confirmed before the task's message is acknowledged."""

_KINDS: dict[str, Kind] = {str(kind): kind for kind in Kind}
_NUMBER = (int, float)
_LARGEST = sys.float_info.max
"""An integer of more digits is no number that can be calculated with; nor is what is not finite."""
_USUAL = 2**53
_Types = dict[str, tuple[type, ...]]
_COMMON: _Types = {
    "id": (str,),
    "at": _NUMBER,
    "queue": (str,),
    "attempt": (int,),
    "of": (int,),
}
_ALWAYS = ("id", "at")
_FIELDS: dict[Kind, _Types] = {
    Kind.SUBMITTED: {"exchange": (str,), "routing_key": (str,)},
    Kind.DELAYED: {"until": _NUMBER, "reason": (str,), "seconds": _NUMBER},
    Kind.BLOCKED: {"by": (str,)},
    Kind.STARTED: {"child": (int,)},
    Kind.PROGRESS: {"done": _NUMBER, "total": _NUMBER, "note": (str,)},
    Kind.LOG: {"lines": (list,), "dropped": (int,)},
    Kind.RETRYING: {"failure": (dict,), "next_at": _NUMBER, "seconds": _NUMBER},
    Kind.SUCCEEDED: {"result": (str,), "seconds": _NUMBER},
    Kind.FAILED: {"failure": (dict,), "lies_in": (str,), "seconds": _NUMBER},
    Kind.CANCELLED: {"by": (str,), "reason": (str,), "seconds": _NUMBER},
}
"""The fields of each kind, beside those of all. `failure` has the texts type, message, traceback and fingerprint, some
of which may be missing; `total` and `note` may be missing, too. `result` is JSON text, which only who wants it has to
read."""
_ALL_FIELDS = {kind: _COMMON | own for kind, own in _FIELDS.items()}
_FAILURE = frozenset({"type", "message", "traceback", "fingerprint"})


class Told(NamedTuple):
    """The events of one message."""

    kind: Kind
    task: str
    worker: str
    events: list[Event]


def now() -> float:
    """Return the time as events have it: seconds of the epoch, to the millisecond."""
    return round(time.time(), 3)


def key(kind: Kind, task: str) -> str:
    """Return the routing key of events; a name that leaves no room is cut at the end."""
    whole = f"task.{kind}.{task}"
    return whole.encode(errors="replace")[:LONGEST_NAME_BYTES].decode(errors="ignore")


def write(kind: Kind, task: str, worker: str, events: Sequence[str]) -> bytes:
    """Return the body of a message; `events` are JSON texts, as `write_event` makes them."""
    head = _encode({"version": VERSION, "kind": kind, "task": task, "worker": worker})
    return f'{head[:-1]},"events":[{",".join(events)}]}}'.encode()


def write_event(fields: Event) -> str:
    """Return an event as JSON text."""
    import msgspec  # a tenth of json's time, of each followed task; who follows none need not load it

    return msgspec.json.encode(fields).decode()


def read(body: bytes) -> Told:
    """Read a message of events. Raises `UnreadableMessage` saying what is wrong with it.

    Fields that are unknown here are left out: a newer worker may tell more.
    """
    if len(body) > LARGEST_BODY_BYTES:
        raise UnreadableMessage(f"a message of events has {len(body):,} bytes, over {LARGEST_BODY_BYTES:,}")
    if too_much := excess(body):
        raise UnreadableMessage(f"a message of events: {too_much}")
    head_decoder, event_decoders = _decoders()
    try:
        head = head_decoder.decode(body)
        kind = _KINDS[head.kind]
        told = Told(kind, head.task, head.worker, event_decoders[kind].decode(head.events))
        for event in told.events:
            check_id(event["id"])
    except (LookupError, ValueError, RecursionError, MessageError):  # what is wrong is said by who looks at each part
        return _read_carefully(body)
    if head.version != VERSION or len(told.task) > LONGEST_NAME_BYTES or len(told.worker) > LONGEST_NAME_BYTES:
        return _read_carefully(body)
    return told


@functools.cache
def _decoders() -> tuple[Any, dict[Kind, Any]]:
    """Return what reads a message but its events, and for each kind what reads these, by the types that they have."""
    import msgspec  # as above

    head = [("version", int), ("kind", str), ("task", str), ("worker", str), ("events", msgspec.Raw)]
    typed_dict: Any = TypedDict
    failure = typed_dict("Failure", dict.fromkeys(_FAILURE, str), total=False)
    bounded = Annotated[int, msgspec.Meta(ge=-_USUAL, le=_USUAL)]  # larger ones are left to who looks at each part
    parts: dict[tuple[type, ...], Any] = {(dict,): failure, (list,): list[str], (int,): bounded}
    parts[_NUMBER] = bounded | float
    decoders = {}
    for kind, own in _FIELDS.items():
        types: dict[str, Any] = {
            name: parts.get(one) or functools.reduce(operator.or_, one) for name, one in (_COMMON | own).items()
        }
        fields = {name: one if name in _ALWAYS else NotRequired[one] for name, one in types.items()}
        decoders[kind] = msgspec.json.Decoder(list[typed_dict("Event", fields)])  # type: ignore[misc]
    return msgspec.json.Decoder(msgspec.defstruct("Head", head)), decoders


def _read_carefully(body: bytes) -> Told:
    """Read a message part by part, to say what is wrong with it, or to leave out what does not matter."""
    import msgspec  # as above

    document: Any
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"a message of events is no JSON: {error}") from error
    match document:
        case {"version": 1, "kind": str(kind), "task": str(task), "worker": str(worker), "events": list(events)}:
            pass
        case _:
            raise UnreadableMessage("a message of events needs version 1, kind, task, worker and events")
    if (known := _KINDS.get(kind)) is None:
        raise UnreadableMessage(f"events of the kind {kind!r} are unknown here")
    if len(task) > LONGEST_NAME_BYTES or len(worker) > LONGEST_NAME_BYTES:
        raise UnreadableMessage("a message of events has a name of no possible length")
    return Told(known, task, worker, [_read_event(known, event) for event in events])


def _read_event(kind: Kind, event: object) -> Event:
    if not isinstance(event, dict) or "id" not in event or "at" not in event:
        raise UnreadableMessage(f"an event of the kind {kind!r} has no id and time")
    fields = _ALL_FIELDS[kind]
    read: Event = {}
    for name, value in event.items():
        if (types := fields.get(name)) is None:
            continue
        if type(value) not in types or (types is _NUMBER and not -_LARGEST < value < _LARGEST):
            raise UnreadableMessage(f"an event of the kind {kind!r} has a {name} of the type {type(value).__name__}")
        read[name] = value
    try:
        check_id(read["id"])
    except MessageError as error:
        raise UnreadableMessage(f"an event of the kind {kind!r}: {error}") from error
    if "failure" in read:
        read["failure"] = {
            name: text for name, text in read["failure"].items() if name in _FAILURE and type(text) is str
        }
    if "lines" in read and not all(type(line) is str for line in read["lines"]):
        raise UnreadableMessage("an event of the kind 'log' has lines that are no text")
    return read
