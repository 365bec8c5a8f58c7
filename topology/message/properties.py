"""What travels beside the body: AMQP's properties and headers, and what they can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leveret.topology.errors import MessageError
from leveret.topology.names import LONGEST_NAME_BYTES

CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
PERSISTENT = 2
"""The delivery mode of what outlives a restart of the broker."""
_SHOWN_CHARACTERS = 60
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
        raise MessageError(
            f"{what} {name[:_SHOWN_CHARACTERS]!r}… is longer than the {LONGEST_NAME_BYTES} bytes of AMQP"
        )
    return name


def own_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headers without the broker's, for publishing a message again.

    Brokers before 4.0 read a client's x-death as fact and can drop the message as a cycle.
    """
    return {
        name: value
        for name, value in (headers or {}).items()
        if not (str(name).startswith(_BROKER_HEADERS) or name in _BROKER_ROUTING)  # a name that is no text is bytes
    }
