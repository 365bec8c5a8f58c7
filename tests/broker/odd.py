"""What is odd about a message besides its body: properties and headers as any AMQP client can set them."""

from __future__ import annotations

import struct
from typing import Any

import pika
import pika.data
import pytest

from leveret import Route
from leveret.topology.link import header_values
from tests.broker.support import Vhost


class Raw(bytes):
    """A header value as it travels: its kind, and its bytes."""


def encode_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have pika send raw header values as they are, and read what only our own connections teach it to read."""

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if isinstance(value, Raw):
            pieces.append(bytes(value))
            return len(value)
        return header_values.encode_value(pieces, value)

    monkeypatch.setattr(pika.data, "encode_value", encode_value)
    monkeypatch.setattr(pika.data, "decode_value", header_values.decode_value)


def nested(kind: bytes, levels: int) -> Raw:
    """A header value of tables or arrays in each other. RabbitMQ writes 20,000 levels for seconds; 2,000 do here."""
    inside = b""
    for _ in range(levels):
        inside = (b"\0" if kind == b"F" else b"") + kind + struct.pack(">I", len(inside)) + inside
    return Raw(kind + struct.pack(">I", len(inside)) + inside)


_DEATH = {"queue": "jobs", "reason": "expired", "count": 7, "exchange": "", "routing-keys": ["jobs"]}

HEADERS: dict[str, dict[Any, Any]] = {
    "boolean": {"h": True},
    "byte": {"h": Raw(b"b\xff")},
    "unsigned-byte": {"h": Raw(b"B\xff")},
    "short": {"h": Raw(b"s\xff\xfe")},
    "unsigned-short": {"h": Raw(b"u\xff\xfe")},
    "integer": {"h": Raw(b"I\xff\xff\xff\xff")},
    "unsigned-integer": {"h": Raw(b"i\xff\xff\xff\xff")},
    "long": {"h": Raw(b"l\x80" + bytes(7))},
    "long-by-its-other-name": {"h": Raw(b"L\xff" + bytes(7))},
    "float": {"h": Raw(b"f" + struct.pack(">f", 0.5))},
    "double": {"h": 1.7e308},
    "decimal": {"h": Raw(b"D\xff\xff\xff\xff\xff")},
    "text": {"h": "two\nlines\x1b[31m"},
    "text-no-utf-8": {"h": Raw(b"S\0\0\0\2\xff\xfe")},
    "bytes": {"h": b"\xff\0"},
    "array": {"h": [1, "two", [None, {"three": 3.5}]]},
    "table": {"h": {"deep": {"deeper": [{}]}}},
    "void": {"h": None},
    "timestamp-of-no-year": {"h": Raw(b"T" + b"\xff" * 8)},
    "name-no-utf-8": {b"\xff": 1, "": 2, "\0": 3},
    "tables-2000": {"h": nested(b"F", 2000)},
    "arrays-2000": {"h": nested(b"A", 2000)},
    "many": {f"h{number}": number for number in range(5000)},
    "large": {"h": "x" * 120_000},
    "x-death-of-this-queue": {"x-death": [_DEATH]},
    "x-death-text": {"x-death": "often"},
    "x-death-numbers": {"x-death": [1, 2]},
    "x-death-empty": {"x-death": []},
    "first-death": {"x-first-death-queue": 5, "x-first-death-reason": "rejected", "x-last-death-queue": {}},
    "delivery-count-huge": {"x-delivery-count": 10**9},
    "delivery-count-text": {"x-delivery-count": "21"},
    "delivery-count-negative": {"x-delivery-count": -1},
    "delivery-count-true": {"x-delivery-count": True},
    "failure": {"failure-type": 5, "failure-message": {"a": 1}, "failure-traceback": "\x1b[2J"},
    "cc-number": {"CC": [1]},
    "celery": {"task": "os.system", "id": "x", "argsrepr": "()", "eta": "2099-01-01T00:00:00", "retries": 99},
}
"""By name: headers that are no reason not to run a message."""

PROPERTIES: dict[str, dict[str, Any]] = {
    "id-of-255": {"message_id": "i" * 255},
    "id-of-two-lines": {"message_id": 'one\ntwo 12:00:00 info [1] done  task=x id="y"'},
    "id-of-escapes": {"message_id": "\x1b]0;title\x07\x1b[2J\r\u202e\u2028\x9b31m"},
    "id-no-utf-8": {"message_id": b"\xff\xfe"},
    "id-no-utf-8-to-be-stamped": {
        "message_id": b"\xfe\xff",
        "headers": {"x-death": []},
        "content_type": "application/json",
        "content_encoding": "utf-8",
    },
    "id-with-nul": {"message_id": "a\0b"},
    "id-empty": {"message_id": ""},
    "id-none": {"message_id": None},
    "priority": {"priority": 255},
    "expiration": {"expiration": "60000"},
    "reply-to": {"reply_to": "amq.rabbitmq.reply-to.x\n", "correlation_id": b"\xff"},
    "type": {"type": "no.task.of.ours", "app_id": b"\xff", "cluster_id": "elsewhere"},
    "timestamp": {"timestamp": 2**64 - 1},
    "labels": {"content_type": "APPLICATION/JSON; charset=UTF8", "content_encoding": "Identity"},
}
"""By name: properties that are no reason not to run a message."""

ROUTES: dict[str, Route] = {
    "key-no-utf-8": Route("tasks.topic", b"jobs.\xff"),  # type: ignore[arg-type]
    "key-of-escapes": Route.topic("jobs.\x1b[2J\n"),
    "key-with-nul": Route.fanout("jobs\0"),
    "key-of-attempt-2": Route.fanout("jobs@2"),
    "key-of-the-last-attempt": Route.again("jobs", 3),
    "forged-key-of-the-last-attempt": Route.fanout("jobs@3"),
    "key-of-attempt-999": Route.fanout("jobs@999"),
    "key-of-attempt-0": Route.fanout("jobs@0"),
    "key-of-attempt-minus-1": Route.fanout("jobs@-1"),
    "key-of-attempt-x": Route.fanout("jobs@x"),
    "key-of-attempt-2-and-line-end": Route.fanout("jobs@2\n"),
    "key-of-another-queue": Route.fanout("other@3"),
    "key-of-the-dlq": Route.fanout("jobs.dlq"),
}
"""By name: routing keys of a client's own, by which a message reaches the queue and runs."""

UNROUTABLE = ("jobs@1", "jobs@4", "jobs@999", "jobs@0", "jobs@-1", "jobs@x", "jobs@", b"jobs\xff")
"""Keys of the direct exchange that no queue is bound by."""

REFUSED: dict[str, dict[str, Any]] = {
    "another-user": {"user_id": "nobody-by-this-name"},
    "negative-expiration": {"expiration": "-1"},
    "expiration-no-number": {"expiration": "soon"},
}
"""By name: properties for which the broker itself refuses a message."""


class Foreign:
    """A client that publishes whatever it likes, over one connection: confirmed and mandatory."""

    def __init__(self, vhost: Vhost) -> None:
        self._connection = vhost.connect()
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def __enter__(self) -> Foreign:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection.is_open:
            self._connection.close()

    def publish(self, route: Route, body: bytes, **properties: Any) -> None:
        """Publish; raises what pika raises when the broker does not take it."""
        made = pika.BasicProperties(delivery_mode=2, **properties)
        self._channel.basic_publish(*route, body, made, mandatory=True)
