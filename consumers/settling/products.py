"""The products of a delivery: messages that have to be confirmed before it is acknowledged."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pika
from pika import data as pika_data

from leveret.consumers.child.outcome import Outcome
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.ladder import delayed, without_delay
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import FAILURE_HEADERS, PERSISTENT, new_id, own_headers
from leveret.topology.names import (
    DELAY_PREFIX,
    LEVELS,
    PRIORITY_HEADER,
    RETRIED_LATER,
    RETRIED_LATER_SINCE,
    Route,
)

FRAME_BYTES = 128 * 1024
"""The headers of a copy travel in one frame of at most so many bytes, RabbitMQ's default; more ends the connection."""
_ROOM_FOR_HEADERS_BYTES = 100_000  # the publisher's own; the reason takes the rest


def products_of(delivery: Delivery, outcome: Outcome, verdict: Verdict, worker: str) -> list[Outgoing]:
    """Return what follows from a delivery that ended like this. Nothing does from most, and a nack needs nothing."""
    if verdict is Verdict.BURY:
        return [dead_copy(delivery, outcome, worker)]
    return [later_copy(delivery, outcome)] if verdict is Verdict.LATER else []


def dead_copy(delivery: Delivery, outcome: Outcome, worker: str) -> Outgoing:
    """Return the message as it goes to its DLQ, with the reason in headers that the management UI shows."""
    failure = outcome.failure
    headers = _fitting_headers(delivery)
    reason = {
        "type": failure.type if failure else outcome.ending.name,
        "message": failure.message if failure else "",
        "traceback": failure.traceback if failure else "",
        "fingerprint": failure.fingerprint if failure else "",
        "task": outcome.task,
        "queue": delivery.queue.name,
        "attempts": delivery.attempt,
        "worker": worker,
        "first-time": _first_failure(delivery) or _now(),
        "time": _now(),
    }
    reasons = {FAILURE_HEADERS + name: value for name, value in reason.items()}
    return Outgoing(
        Route.dead(delivery.queue.name),
        delivery.body,
        _properties(delivery, delivery.properties.message_id or new_id(), {**headers, **reasons}),
    )


def stamped_copy(delivery: Delivery) -> Outgoing:
    """Return the message with an id, and without what was forged, as the attempt it is.

    With an id it is one task over all its attempts.
    """
    task_id = delivery.properties.message_id or new_id()
    return Outgoing(way_back(delivery), delivery.body, _properties(delivery, task_id, _fitting_headers(delivery)))


def later_copy(delivery: Delivery, outcome: Outcome) -> Outgoing:
    """Return the message as it goes into the ladder, without the history that the broker gave it.

    With that history RabbitMQ before 4.0 would take its next way to this queue for a cycle.
    """
    times, since = so_far(delivery)
    kept = without_delay(_fitting_headers(delivery))
    counted = {RETRIED_LATER: times + 1, RETRIED_LATER_SINCE: since if times else time.time_ns() // 1_000_000}
    route, headers = delayed(way_back(delivery), {**kept, **counted}, seconds_of(outcome))
    return Outgoing(route, delivery.body, _properties(delivery, delivery.properties.message_id or new_id(), headers))


def seconds_of(outcome: Outcome) -> float:
    """Return after how many seconds it asks to be run."""
    return float(outcome.result or 0)


def so_far(delivery: Delivery) -> tuple[int, int]:
    """Return how often it has asked to be run later, and when first, in milliseconds of the epoch."""
    headers: dict[str, Any] = delivery.properties.headers or {}
    times, since = headers.get(RETRIED_LATER), headers.get(RETRIED_LATER_SINCE)
    return (times, since) if isinstance(times, int) and isinstance(since, int) else (0, 0)  # pika has its own long


def way_back(delivery: Delivery) -> Route:
    """Return by which route a copy comes to the same queue, as the same attempt."""
    queue, attempt = delivery.queue.name, delivery.attempt
    return Route.again(queue, attempt) if attempt > 1 else Route.direct(queue)


def _properties(delivery: Delivery, task_id: str | bytes, headers: dict[str, Any]) -> pika.BasicProperties:
    """Return the properties of a copy: the publisher's, but none of them where they cannot be written again."""
    kept = delivery.properties
    properties = pika.BasicProperties(
        message_id=task_id,
        headers=headers or None,
        delivery_mode=PERSISTENT,
        content_type=kept.content_type,
        content_encoding=kept.content_encoding,
        correlation_id=kept.correlation_id,
        reply_to=kept.reply_to,
        priority=kept.priority,
        timestamp=kept.timestamp,
        type=kept.type,
        app_id=kept.app_id,
    )  # not expiration, which would let it vanish, nor user_id, which names another connection's user
    try:
        properties.encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, the message must not be kept for ever for it
        note = {"properties-dropped": f"they could not be written again: {type(error).__name__}"}
        writable = {name: value for name, value in headers.items() if _is_writable(name, value)}
        return pika.BasicProperties(message_id=new_id(), headers={**writable, **note}, delivery_mode=PERSISTENT)
    return properties


def _is_writable(name: str, value: Any) -> bool:
    try:
        pika_data.encode_table([], {name: value})
    except Exception:  # noqa: BLE001 - the note in the headers says that something was dropped
        return False
    return True


def _first_failure(delivery: Delivery) -> str:
    deaths = (delivery.properties.headers or {}).get("x-death")
    known_deaths = [death for death in deaths if isinstance(death, dict)] if isinstance(deaths, list) else []
    times = [death.get("time") for death in known_deaths if not str(death.get("queue")).startswith(DELAY_PREFIX)]
    known = [time for time in times if isinstance(time, datetime)]
    return min(known).replace(tzinfo=UTC).isoformat() if known else ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _fitting_headers(delivery: Delivery) -> dict[str, Any]:
    """Return the publisher's headers, or a note in their place where they leave no room or cannot be written."""
    headers = own_headers(delivery.properties.headers)
    try:
        if int(pika_data.encode_table([], headers)) <= _ROOM_FOR_HEADERS_BYTES:
            return headers
        why = "were too large to stay beside the reason"
    except Exception as error:  # noqa: BLE001 - whatever it is, the message must not be lost for it
        why = f"could not be written again: {type(error).__name__}"
    level = headers.get(PRIORITY_HEADER)
    kept = {PRIORITY_HEADER: level} if level in LEVELS else {}  # by which it goes round
    return {**kept, "headers-dropped": f"{len(headers)} headers {why}"}
