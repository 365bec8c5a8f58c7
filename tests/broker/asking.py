"""Asking workers as a client of RabbitMQ without this project would, and answering in a worker's place."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pika

from tests.broker.support import Vhost, await_value


def ask(vhost: Vhost, question: bytes, seconds: float = 0.5, reply_to: str | None = None, **more: Any) -> list[Any]:
    """Ask all workers, and return what came back in this time, each with its correlation id.

    The answers are to come by a key of their own, or by another that somebody might give.
    """
    answers: list[Any] = []
    own = f"tasks.reply.{uuid.uuid4().hex}"
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(own, exclusive=True)
        channel.queue_bind(own, "tasks.events", own)
        channel.basic_consume(
            own,
            lambda _channel, _method, properties, body: answers.append((properties.correlation_id, json.loads(body))),
            auto_ack=True,
        )
        properties = pika.BasicProperties(reply_to=own if reply_to is None else reply_to, **more)
        channel.basic_publish("tasks.control", "ask.workers", question, properties)
        connection.process_data_events(seconds)
        while answers and connection.process_data_events(0.1):
            pass
    return answers


def infos(vhost: Vhost, count: int = 1) -> list[dict[str, Any]]:
    """Ask until so many workers answer, and return what they tell."""

    def look() -> list[Any]:
        found = [answer for _, answer in ask(vhost, b'{"version":1,"ask":"info"}')]
        return found if len(found) == count else []

    return await_value(look, f"answers of {count} workers")
