"""What travels beside the body: AMQP's properties and headers, and what they can hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from leveret.topology.errors import MessageError
from leveret.topology.names import (
    DELAY_PREFIX,
    LONGEST_NAME_BYTES,
    PRIORITY_HEADER,
    attempt_of,
    is_level_queue,
    is_retry_queue,
)

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
_COUNTS_OF_DELIVERIES = ("x-delivery-count", "x-acquired-count")
_BROKER_ROUTING = ("CC", "BCC")
_ANYBODYS = frozenset((PRIORITY_HEADER,))
"""Headers that every message of some queues has, and that say nothing of its history."""
_DEATH_FIELDS: dict[str, type] = {
    "count": int,
    "reason": str,
    "queue": str,
    "time": datetime,
    "exchange": str,
    "routing-keys": list,
    "original-expiration": str,
}
_DEATH_REASONS = ("rejected", "expired", "maxlen", "delivery_limit")


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


def has_forged(
    headers: Mapping[str, Any], queue: str, came_back: bool, redelivered: bool, was_delayed: bool = False
) -> bool:
    """Whether a client sent what only a broker writes into a message of this queue, or what only we do.

    `came_back` says that it comes from one of the queue's retry tiers. Before that the broker has nothing to write but
    how often it was delivered, and keys of later attempts are nobody's to give; afterwards its history is about this
    queue, its tiers and the queues of delays, from which it comes where `was_delayed` says so, and in the broker's own
    form.
    """
    if came_back:
        return "x-death" in headers and not _is_history(headers["x-death"], queue)
    if was_delayed:
        return not _is_history(headers.get("x-death"), queue) or _names_attempts(headers, queue)
    if headers.keys() <= _ANYBODYS:
        return False
    return any(
        str(name).startswith(_BROKER_HEADERS) and not (redelivered and name in _COUNTS_OF_DELIVERIES)
        for name in headers
    ) or _names_attempts(headers, queue)


def _names_attempts(headers: Mapping[str, Any], queue: str) -> bool:
    return any(_has_attempt_key(headers.get(name), queue) for name in _BROKER_ROUTING)


def _is_history(deaths: object, queue: str) -> bool:
    return isinstance(deaths, list) and all(isinstance(death, dict) and _is_death(death, queue) for death in deaths)


def _is_death(death: dict[Any, Any], queue: str) -> bool:
    """Whether this is a dead-lettering as RabbitMQ tells it (https://www.rabbitmq.com/docs/dlx)."""
    return (
        {"count", "reason", "queue"} <= death.keys()
        and all(name in _DEATH_FIELDS and isinstance(value, _DEATH_FIELDS[name]) for name, value in death.items())
        and all(isinstance(key, str) for key in death.get("routing-keys", ()))
        and death["reason"] in _DEATH_REASONS
        and death["count"] > 0
        and (
            is_level_queue(death["queue"], queue)
            or is_retry_queue(death["queue"], queue)
            or death["queue"].startswith(DELAY_PREFIX)
        )
    )


def _has_attempt_key(keys: object, queue: str) -> bool:
    return isinstance(keys, list) and any(isinstance(key, str) and attempt_of(queue, key) > 1 for key in keys)
