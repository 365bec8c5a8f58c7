"""A delivery: one message as it came off a queue, with what is needed to settle it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from leveret.topology.names import attempt_of

if TYPE_CHECKING:
    from leveret.consumers.settling.settler import Settler
    from leveret.topology.queues import WorkQueue


class Delivery:
    """Kept until it is settled. `attempt` counts from 1; `returns` are earlier deliveries without a verdict.

    `id` is empty when the publisher set none. `arrived` is a moment of `time.monotonic`: from then on the broker waits
    for the acknowledgement. `is_forged` says that it brings what only a broker writes: an x-death before it ever failed
    here, which brokers before 4.0 take for their own, and then drop such a message or stop dead-lettering; or a count
    of deliveries with its first one, which RabbitMQ 4.3 leaves there when the message is handed back.
    """

    __slots__ = (
        "arrived",
        "attempt",
        "body",
        "id",
        "is_forged",
        "is_started",
        "properties",
        "queue",
        "returns",
        "routing_key",
        "settler",
        "tag",
    )

    def __init__(self, settler: Settler, queue: WorkQueue, method: Any, properties: Any, body: bytes) -> None:
        self.settler = settler
        self.queue = queue
        self.tag: int = method.delivery_tag
        self.routing_key = _text(method.routing_key)
        self.attempt = attempt_of(queue.name, self.routing_key)
        self.properties = properties
        self.id = _text(properties.message_id or "")
        self.body = body
        self.arrived = time.monotonic()
        self.is_started = False  # as far as it was seen
        headers = properties.headers
        # on a first delivery the header is not the broker's: a client may have sent any number
        self.returns = _count(headers.get("x-delivery-count")) if headers and method.redelivered else 0
        self.is_forged = (
            bool(headers)
            and self.attempt == 1
            and ("x-death" in headers or ("x-delivery-count" in headers and not method.redelivered))
        )


def _text(value: str | bytes) -> str:
    """What AMQP calls a short string need not be UTF-8; pika leaves such a one as bytes."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
