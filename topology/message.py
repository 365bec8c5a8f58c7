"""The task message: one request to run a task. Encode and decode sit together so that both sides agree.

Body: a JSON object in UTF-8, described for every language by `task-message.schema.json`. Only `task` is
required, unknown fields are kept. The id travels as AMQP's `message_id`; the broker's own headers stay the
broker's.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from topology.errors import MessageError, MessageTooLarge, UnreadableMessage
from topology.limits import MOST_LEVELS, excess

VERSION = 1
CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
LONGEST_NAME_BYTES = 255  # AMQP keeps ids, keys and names as short strings
_PLAIN_TYPES = (CONTENT_TYPE, None)
_PLAIN_ENCODINGS = (CONTENT_ENCODING, None)
_FIRST_BYTES = 60
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
FAILURE_HEADERS = "failure-"
"""What the headers of a dead message's reason begin with: failure-type, failure-message, failure-traceback, …"""
_BROKER_HEADERS = (
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
)
_BROKER_ROUTING = ("CC", "BCC")


class Call(NamedTuple):
    """What a message asks for: a task by name, with its arguments."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]


def new_id() -> str:
    """Return a fresh task id."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A message ready to be published: what is sent is fixed the moment it is made."""

    task: str
    body: bytes
    id: str = field(default_factory=new_id)

    @classmethod
    def create(
        cls,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
    ) -> TaskMessage:
        """Encode a call. Raises `MessageError` when the name, an argument or the id cannot be sent."""
        if not isinstance(task, str) or not task or len(task.encode(errors="replace")) > LONGEST_NAME_BYTES:
            raise MessageError(f"{task!r} cannot name a task: it takes 1 to {LONGEST_NAME_BYTES} bytes of text")
        if isinstance(args, (str, bytes)):
            raise MessageError(f"the arguments of task {task!r} are a list or a tuple, not {args[:_FIRST_BYTES]!r}")
        try:
            document = {"version": VERSION, "task": task, "args": list(args), "kwargs": dict(kwargs or {})}
            _check_keys(document)
            body = _encode(document).encode()
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, cycles, lone surrogates
            raise MessageError(f"the arguments of task {task!r} cannot be written as JSON: {error}") from error
        if too_much := excess(body):
            raise MessageError(f"the arguments of task {task!r} cannot be written as JSON: {too_much}")
        return cls(task, body, new_id() if id is None else check_id(id))


def _check_keys(value: object) -> None:
    """Refuse keys that json would quietly turn into text, where 1 and "1" would fall together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object is not text")
            if isinstance(inner, (dict, list, tuple)):
                _check_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            if isinstance(inner, (dict, list, tuple)):
                _check_keys(inner)


def check_id(task_id: str) -> str:
    """Return the id. Raises `MessageError` unless it is printable text that fits AMQP's `message_id`."""
    if not (
        isinstance(task_id, str)
        and task_id
        and task_id.isprintable()
        and len(task_id.encode(errors="replace")) <= LONGEST_NAME_BYTES
    ):
        raise MessageError(f"{task_id!r} cannot be a task id: 1 to {LONGEST_NAME_BYTES} bytes of printable text")
    return task_id


def check_name(name: str, what: str) -> str:
    """Return the name. Raises `MessageError` unless it is text of a length that AMQP can carry."""
    try:
        size = len(name.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise MessageError(f"{what} {name!r} is no text") from error
    if size > LONGEST_NAME_BYTES:
        raise MessageError(f"{what} {name[:_FIRST_BYTES]!r}… is longer than the {LONGEST_NAME_BYTES} bytes of AMQP")
    return name


def check_size(body: bytes, limit_bytes: int, what: str) -> None:
    """Raise `MessageTooLarge` when the body is over the limit."""
    if len(body) > limit_bytes:
        raise MessageTooLarge(
            f"{what} is {len(body):,} bytes, over the limit of {limit_bytes:,}; put large data into a file or a "
            "store and send its name, or raise MESSAGE_LIMIT_BYTES for producers and workers"
        )


def decode(body: bytes, content_type: str | None, content_encoding: str | None, limit_bytes: int) -> Call:
    """Read a message body. Raises `UnreadableMessage` or `MessageTooLarge`, naming what is wrong with it."""
    check_size(body, limit_bytes, "the message body")
    if content_type not in _PLAIN_TYPES or content_encoding not in _PLAIN_ENCODINGS:
        _check_content(content_type, content_encoding)
    if len(body) > MOST_LEVELS and (too_much := excess(body)):
        raise UnreadableMessage(f"{too_much}; it begins {_begin(body)}")
    try:
        document = read_json(body.decode("utf-8"))
        if b"\\u" in body:
            _encode(document).encode()  # an escaped half of a character is no text, and fits into nothing that is
    except UnicodeDecodeError as error:
        raise UnreadableMessage(f"the body is not UTF-8: {error}; it begins {_begin(body)}") from error
    except UnicodeEncodeError as error:
        raise UnreadableMessage(f"the JSON has text with half a character: {error}") from error
    except RecursionError as error:
        raise UnreadableMessage(f"the JSON is nested too deeply; it begins {_begin(body)}") from error
    except ValueError as error:
        raise UnreadableMessage(f"the body is not JSON: {error}; it begins {_begin(body)}") from error
    return _read_document(document)


def _check_content(content_type: str | None, content_encoding: str | None) -> None:
    if isinstance(content_type, bytes) or isinstance(content_encoding, bytes):  # what pika makes of no UTF-8
        raise UnreadableMessage(f"the message is labelled {content_type!r}, {content_encoding!r}, which is no text")
    kind, _, options = (content_type or CONTENT_TYPE).partition(";")
    charset = options.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != CONTENT_TYPE or charset not in ("", "utf-8", "utf8"):
        raise UnreadableMessage(f"content type {content_type!r} is not read here; send {CONTENT_TYPE} in UTF-8")
    if (content_encoding or CONTENT_ENCODING).lower() not in ("utf-8", "utf8", "identity"):
        raise UnreadableMessage(
            f"content encoding {content_encoding!r} is not read here; send plain UTF-8, not compressed"
        )


def _read_document(document: object) -> Call:
    if not isinstance(document, dict):
        raise UnreadableMessage(f"the body is a JSON {_json_type(document)}, not an object with a field 'task'")
    version = document.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise UnreadableMessage(f"envelope version {_show(version)} is unknown here; this worker reads {VERSION}")
    task, args, kwargs = document.get("task"), document.get("args", []), document.get("kwargs", {})
    if not isinstance(task, str) or not task:
        raise UnreadableMessage("the message has no field 'task' that names the task to run")
    if len(task) > LONGEST_NAME_BYTES:
        raise UnreadableMessage(f"the name in field 'task' has {len(task)} characters, over {LONGEST_NAME_BYTES}")
    if not isinstance(args, list):
        raise UnreadableMessage(f"'args' is a JSON {_json_type(args)}, not an array")
    if not isinstance(kwargs, dict):
        raise UnreadableMessage(f"'kwargs' is a JSON {_json_type(kwargs)}, not an object")
    return Call(task, args, kwargs)


def printable(text: object) -> str:
    """Return the text with line ends, terminal sequences and all else that is not printable escaped."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def own_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers without the broker's, for publishing a message again.

    Brokers before 4.0 read a client's x-death as fact and can drop the message as a cycle.
    """
    return {
        name: value
        for name, value in (headers or {}).items()
        if not (str(name).startswith(_BROKER_HEADERS) or name in _BROKER_ROUTING)  # a name that is no text is bytes
    }


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"a field stands twice in one object: {_show(twice)}")
    return made


def _read_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):  # 1e999, which no float can hold and nothing can write again
        raise ValueError(f"the number {text[:_FIRST_BYTES]} is too large")
    return number


read_json = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_read_float, object_pairs_hook=_refuse_duplicates
).decode
"""Read a JSON text strictly. Raises `ValueError` also for NaN, numbers out of range and a field that stands twice."""


def _show(value: object) -> str:
    if isinstance(value, (dict, list)):
        return f"(a JSON {_json_type(value)})"
    text = repr(value)
    return text if len(text) <= _FIRST_BYTES else f"{text[:_FIRST_BYTES]}…"


def _begin(body: bytes) -> str:
    return repr(body[:_FIRST_BYTES]) + ("…" if len(body) > _FIRST_BYTES else "")


def _json_type(value: object) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
