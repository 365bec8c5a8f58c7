"""The task message: one request to run a task. Encode and decode sit together so that both sides agree.

Body: a JSON object in UTF-8, described for every language by `task-message.schema.json`. Only `task` is
required, unknown fields are kept. The id travels as AMQP's `message_id`; the broker's own headers stay the
broker's.
"""

from __future__ import annotations

import json
import math
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NoReturn

from leveret.topology.encoding import wide_encoding
from leveret.topology.errors import MessageError, MessageTooLarge, UnreadableMessage
from leveret.topology.message.bounds import excess
from leveret.topology.message.foreign import FIELDS, check_not_celery, check_unknown
from leveret.topology.message.ids import new_id
from leveret.topology.message.plain import check_keys, plain
from leveret.topology.message.properties import CONTENT_ENCODING, CONTENT_TYPE, check_id
from leveret.topology.names import LONGEST_NAME_BYTES, Route

VERSION = 1
_PLAIN_TYPES = (CONTENT_TYPE, None)
_PLAIN_ENCODINGS = (CONTENT_ENCODING, None)
_FIRST_BYTES = 60
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain).encode


Follow = Literal[False, True, "record"]


class Call(NamedTuple):
    """What a message asks for: a task by name, with its arguments."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A message ready to be published: what is sent is fixed the moment it is made."""

    task: str
    body: bytes
    id: str = field(default_factory=new_id)
    route: Route | None = None
    """Where it goes; None for the topic exchange, with the task's name as routing key."""
    follow: Follow = False
    """Whether how it ends is told: to the process that submits it, or only to those who record or listen."""
    headers: Mapping[str, str | int] | None = None
    """AMQP headers by which the broker decides when and where it comes; None for most."""
    due: float | None = None
    """When it is to come, in seconds of the epoch; None for at once."""

    @classmethod
    def create(
        cls,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        route: Route | None = None,
        follow: Follow = False,
        headers: Mapping[str, str | int] | None = None,
        due: float | None = None,
    ) -> TaskMessage:
        """Encode a call. Raises `MessageError` when the name, an argument or the id cannot be sent."""
        if not isinstance(task, str) or not task or len(task.encode(errors="replace")) > LONGEST_NAME_BYTES:
            raise MessageError(f"{task!r} cannot name a task: it takes 1 to {LONGEST_NAME_BYTES} bytes of text")
        if isinstance(args, (str, bytes)):
            raise MessageError(f"the arguments of task {task!r} are a list or a tuple, not {args[:_FIRST_BYTES]!r}")
        try:
            document = {"version": VERSION, "task": task, "args": list(args), "kwargs": dict(kwargs or {})}
            check_keys(document)
            body = _encode(document).encode()
        except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, cycles, lone surrogates
            where = _unwritable(args, kwargs or {})
            raise MessageError(f"{where} of task {task!r} cannot be written as JSON: {error}") from error
        if too_much := excess(body):
            raise MessageError(f"the arguments of task {task!r} cannot be written as JSON: {too_much}")
        return cls(task, body, new_id() if id is None else check_id(id), route, follow, headers, due)


def _unwritable(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Say which of the arguments JSON cannot hold."""
    by_position = ((f"argument number {number}", value) for number, value in enumerate(args, start=1))
    by_name = ((f"argument {name!r}", value) for name, value in kwargs.items())
    for what, value in (*by_position, *by_name):
        try:
            check_keys([value])
            _encode(value).encode()
        except (TypeError, ValueError, RecursionError):
            return what
    return "the arguments"


def check_size(body: bytes, limit_bytes: int, what: str) -> None:
    """Raise `MessageTooLarge` when the body is over the limit."""
    if len(body) > limit_bytes:
        raise MessageTooLarge(too_large(len(body), limit_bytes, what))


def too_large(size: int, limit_bytes: int, what: str) -> str:
    """Return what to say of a body over the limit."""
    return (
        f"{what} is {size:,} bytes, over the limit of {limit_bytes:,}; put large data into a file or a store and send "
        "its name, or raise MESSAGE_LIMIT_BYTES for producers and workers"
    )


def decode(body: bytes, content_type: str | None, content_encoding: str | None, limit_bytes: int) -> Call:
    """Read a message body. Raises `UnreadableMessage` or `MessageTooLarge`, naming what is wrong with it."""
    check_size(body, limit_bytes, "the message body")
    if content_type not in _PLAIN_TYPES or content_encoding not in _PLAIN_ENCODINGS:
        _check_content(content_type, content_encoding)
    if too_much := excess(body):
        raise UnreadableMessage(f"{too_much}; it begins {_begin(body)}")
    try:
        document = read_json(body.decode("utf-8"))
        if b"\\u" in body:
            _encode(document).encode()  # an escaped half of a character is no text, and fits into nothing that is
    except UnicodeDecodeError as error:
        _check_encoding(body)
        raise UnreadableMessage(f"the body is not UTF-8: {error}; it begins {_begin(body)}") from error
    except UnicodeEncodeError as error:
        raise UnreadableMessage(f"the JSON has text with half a character: {error}") from error
    except RecursionError as error:
        raise UnreadableMessage(f"the JSON is nested too deeply; it begins {_begin(body)}") from error
    except ValueError as error:
        bare = body.removeprefix(BOM_UTF8)  # some languages write it before any text
        if bare != body and not bare.startswith(BOM_UTF8):
            return decode(bare, content_type, content_encoding, limit_bytes)
        _check_encoding(body)
        raise UnreadableMessage(f"the body is not JSON: {error}; it begins {_begin(body)}") from error
    return _read_document(document)


def _check_encoding(body: bytes) -> None:
    """Raise `UnreadableMessage` for a text in UTF-16 or UTF-32, by its first bytes."""
    if encoding := wide_encoding(body):
        raise UnreadableMessage(f"the body is {encoding}; send it as UTF-8")


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
        check_not_celery(document)
        raise UnreadableMessage(f"the body is a JSON {_json_type(document)}, not an object with a field 'task'")
    if not FIELDS.issuperset(document):
        check_unknown(document)
    version = document.get("version", VERSION)
    if version != VERSION or isinstance(version, bool):
        raise UnreadableMessage(f"envelope version {_show(version)} is unknown here; this worker reads {VERSION}")
    task, args, kwargs = document.get("task"), document.get("args", []), document.get("kwargs", {})
    if not isinstance(task, str) or not task:
        raise UnreadableMessage("the message has no field 'task' that names the task to run")
    if len(task) > LONGEST_NAME_BYTES:
        raise UnreadableMessage(f"the name in field 'task' has {len(task)} characters, over {LONGEST_NAME_BYTES}")
    if not isinstance(args, list):
        if args is not None:
            raise UnreadableMessage(f"'args' is a JSON {_json_type(args)}, not an array")
        args = []
    if not isinstance(kwargs, dict):
        if kwargs is not None and kwargs != []:  # PHP writes an empty object so
            raise UnreadableMessage(f"'kwargs' is a JSON {_json_type(kwargs)}, not an object")
        kwargs = {}
    return Call(task, args, kwargs)


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
