"""A delivery: one message as it came off a queue, with what is needed to settle it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from leveret.topology.errors import MessageError
from leveret.topology.message import decode, has_forged
from leveret.topology.names import AGAIN_EXCHANGE, DELAY_OUT_EXCHANGE, LATER_TO, attempt_of, following
from leveret.topology.traces import TRACEPARENT, carried_by

if TYPE_CHECKING:
    from leveret.consumers.child.protocol import OrderFields
    from leveret.consumers.settling.settler import Settler
    from leveret.topology.control import Command
    from leveret.topology.queues import WorkQueue


class Delivery:
    """Kept until it is settled. `attempt` counts from 1; `returns` are earlier deliveries without a verdict.

    `id` is empty when the publisher set none, and `reply_to` when nobody follows the task. `arrived` is a moment of
    `time.monotonic`: from then on the broker waits for the acknowledgement. Only what comes by the exchange of
    retries, at once or after a delay, can be a later attempt than the first. `is_forged` says that it brings what only
    a broker or a worker may give it. Brokers before 4.0 take an x-death for their own, and then drop such a message or
    stop dead-lettering; RabbitMQ 4.3 leaves a count of deliveries there when the message is handed back; and by the key
    of a later attempt it would skip those between.
    """

    __slots__ = (
        "arrived",
        "attempt",
        "body",
        "cancel",
        "id",
        "is_forged",
        "is_started",
        "lane",
        "properties",
        "queue",
        "reply_to",
        "returns",
        "routing_key",
        "settler",
        "tag",
        "task",
    )

    def __init__(self, settler: Settler, queue: WorkQueue, method: Any, properties: Any, body: bytes) -> None:
        self.settler = settler
        self.queue = queue
        self.tag: int = method.delivery_tag
        self.routing_key = _text(method.routing_key)
        came_back = method.exchange == AGAIN_EXCHANGE
        was_delayed = method.exchange == DELAY_OUT_EXCHANGE
        headers = properties.headers
        is_again = came_back or (was_delayed and bool(headers) and headers.get(LATER_TO) == AGAIN_EXCHANGE)
        attempt = attempt_of(queue.name, self.routing_key)
        self.attempt = attempt if is_again else 1
        self.properties = properties
        self.id = _text(properties.message_id or "")
        reply_to = properties.reply_to
        self.reply_to = "" if reply_to is None else following(reply_to)
        self.body = body
        self.arrived = time.monotonic()
        self.cancel: Command  # set only of one that is cancelled
        self.is_started = False  # as far as it was seen
        self.lane: Any = None  # which children run it
        self.task = ""  # the name, where it had to be read to know that
        # on a first delivery the header is not the broker's: a client may have sent any number
        self.returns = _count(headers.get("x-delivery-count")) if headers and method.redelivered else 0
        self.is_forged = attempt != self.attempt or bool(
            headers and has_forged(headers, queue.name, came_back, method.redelivered, was_delayed)
        )

    def order(self, number: int) -> OrderFields:
        """Return what a child gets of it."""
        headers = self.properties.headers
        return (
            number,
            self.queue.name,
            self.attempt,
            self.id,
            self.properties.content_type,
            self.properties.content_encoding,
            self.body,
            self.reply_to != "",
            carried_by(headers, self.attempt) if headers and TRACEPARENT in headers else None,
        )

    def task_name(self) -> str:
        """Read the name of the task, which no child has told; empty where the message cannot be read."""
        properties, body = self.properties, self.body
        with contextlib.suppress(MessageError):
            return decode(body, properties.content_type, properties.content_encoding, len(body)).task
        return ""


def cancel_of(delivery: Delivery) -> Command | None:
    """Return by what a delivery was cancelled; None of one that was not."""
    return getattr(delivery, "cancel", None)


def _text(value: str | bytes) -> str:
    """What AMQP calls a short string need not be UTF-8; pika leaves such a one as bytes."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
