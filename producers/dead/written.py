"""A dead message as a line of a file: one JSON object that people can read, and that loses nothing.

    {"version": 1, "queue": "mail", "id": "…", "task": "mail.send", "kind": "KeyError", "routing_key": "mail",
     "properties": {"message_id": "…", "delivery_mode": 2, …}, "headers": {"failure-type": "KeyError", …},
     "body": "{\\"task\\": …}"}

The body stands in `body` where it is text, else in `body_base64`. What JSON has no word for is an object with one field
that begins with `$`: `$bytes` in base64, `$time` in seconds of the epoch, `$decimal`, `$long` (which AMQP tells from an
integer), `$float` for what is infinite, `$table` as pairs where a name is no text, or begins with `$`.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import pika
from pika import compat

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reason import reason_of
from leveret.topology.errors import MessageError
from leveret.topology.message import read_json

VERSION = 1
_PROPERTIES = (
    "content_type",
    "content_encoding",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""Where something is not printable, for lines may be shown on a terminal."""


class Line(NamedTuple):
    """A message that a line holds, and the work queue in whose DLQ it lay."""

    queue: str
    routing_key: str
    properties: pika.BasicProperties
    body: bytes


def write(queue: str, dead: DeadMessage) -> bytes:
    """Return the line, with its end."""
    reason = reason_of(dead)
    named = {name: getattr(dead.properties, name) for name in _PROPERTIES}
    document: dict[str, Any] = {
        "version": VERSION,
        "queue": queue,
        "id": str(dead.id),
        "task": reason.task,
        "kind": reason.kind,
        "message": reason.message,
        "routing_key": dead.routing_key,
        "properties": {name: _plain(value) for name, value in named.items() if value is not None},
        "headers": None if dead.properties.headers is None else _plain(dead.properties.headers),
    }
    try:
        document["body"] = dead.body.decode()
    except UnicodeDecodeError:
        document["body_base64"] = base64.b64encode(dead.body).decode()
    text = _encode(document)
    return f"{text if text.isprintable() else _encode_ascii(document)}\n".encode()


def read(line: bytes) -> Line:
    """Read a line. Raises `MessageError` saying what is wrong with it."""
    try:
        document = read_json(line.decode())
    except (ValueError, RecursionError) as error:
        raise MessageError(f"it is no JSON, perhaps cut: {error}") from error
    match document:
        case {
            "version": 1,
            "queue": str(queue),
            "routing_key": str(key),
            "properties": dict(named),
            "headers": headers,
        }:
            pass
        case {"version": int(version)} if version != VERSION:
            raise MessageError(f"it is of version {version}, and this reads {VERSION}")
        case _:
            raise MessageError("it is no dead message: it needs version, queue, routing_key, properties and headers")
    if not queue:
        raise MessageError("it names no queue")
    if unknown := named.keys() - set(_PROPERTIES):
        raise MessageError(f"AMQP has no property {min(unknown)!r}")
    try:
        made = {name: _read(value) for name, value in named.items()}
        table = None if headers is None else _read(headers)
        if not isinstance(table, (dict, type(None))):
            raise TypeError("its headers are no object")
        return Line(queue, key, pika.BasicProperties(headers=table, **made), _body_of(document))
    except (ValueError, TypeError, OverflowError, InvalidOperation, binascii.Error) as error:
        raise MessageError(f"it cannot be read: {error}") from error


def _body_of(document: dict[str, Any]) -> bytes:
    match document:
        case {"body": str(text)}:
            return text.encode()
        case {"body_base64": str(text)}:
            return base64.b64decode(text, validate=True)
    raise ValueError("it has neither body nor body_base64")


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case compat.long():
            return {"$long": int(value)}
        case int():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": str(value)}
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case datetime():
            return {"$time": calendar.timegm(value.utctimetuple())}
        case Decimal():
            return {"$decimal": str(value)}
        case dict():
            if all(isinstance(name, str) and not name.startswith("$") for name in value):
                return {name: _plain(inner) for name, inner in value.items()}
            return {"$table": [[_plain(name), _plain(inner)] for name, inner in value.items()]}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    raise TypeError(f"AMQP brings no {type(value).__name__}")


def _time(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


_READ: dict[str, Callable[[Any], Any]] = {
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$time": _time,
    "$decimal": Decimal,
    "$long": compat.long,
    "$float": float,
    "$table": lambda pairs: {_read(name): _read(inner) for name, inner in pairs},
}


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    name, *more = value or ("",)
    if name.startswith("$"):
        if more or name not in _READ:
            raise ValueError(f"{name!r} is unknown here")
        return _READ[name](value[name])
    return {name: _read(inner) for name, inner in value.items()}
