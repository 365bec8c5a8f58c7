"""Mending the arguments of a dead message, and sending it round again with them under the same id."""

from __future__ import annotations

import json
from typing import Any

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.redrive import Redriven, redrive
from leveret.producers.dead.wanted import Wanted
from leveret.topology import registry
from leveret.topology.errors import LeveretError, MessageError
from leveret.topology.message import Call, check_size, decode, read_json
from leveret.topology.message.bounds import excess
from leveret.topology.settings import Settings

_NAMES = ("args", "kwargs")


def call_of(dead: DeadMessage) -> Call:
    """Return what a dead message asks for. Raises `MessageError` where it is none that can be edited."""
    properties = dead.properties
    try:
        return decode(dead.body, properties.content_type, properties.content_encoding, len(dead.body))
    except MessageError as error:
        raise MessageError(
            f"{error}; export it, mend its body in the file, discard it here and import the file"
        ) from error


def text_of(call: Call) -> str:
    """Return the arguments as they are edited."""
    return json.dumps({"args": call.args, "kwargs": call.kwargs}, indent=2, ensure_ascii=False) + "\n"


def edited(dead: DeadMessage, text: str, configured: Settings) -> bytes:
    """Return the body with these arguments; whatever else stands in it stays.

    Raises `MessageError` unless the text is JSON as `text_of` writes it, and fits the task, where that is loaded.
    """
    try:
        arguments = read_json(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"what you have edited is no JSON: {error}") from error
    match arguments:
        case {"args": list(args), "kwargs": dict(kwargs)} if len(arguments) == len(_NAMES):
            pass
        case _:
            raise MessageError("what you have edited is no object with a list 'args' and an object 'kwargs' alone")
    document: dict[str, Any] = read_json(dead.body.decode("utf-8-sig"))
    document |= {"args": args, "kwargs": kwargs}
    body = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    check_size(body, configured.message_limit_bytes, "the message body")
    if too_much := excess(body):
        raise MessageError(f"the arguments cannot be written as JSON: {too_much}")
    task = registry.get(document["task"])
    if task is not None:
        task.check(args, kwargs)
    return body


async def send_edited(configured: Settings, queue: str, dead: DeadMessage, body: bytes) -> Redriven:
    """Redrive this one message with another body. Raises as `redrive` does."""

    def change(found: DeadMessage) -> DeadMessage:
        if found.body != dead.body:
            raise LeveretError(f"message {found.id} is no longer what you have edited; look at it again")
        return found._replace(body=body)

    return await redrive(configured, queue, wanted=Wanted(ids=[str(dead.id)]), most=1, change=change)
