"""Asking workers as a client of RabbitMQ without this project would, and answering in a worker's place."""

from __future__ import annotations

import json
from typing import Any

import pika

from tests.broker.support import Vhost, await_value

REPLY_TO = "tasks.reply.a-client"


def ask(vhost: Vhost, question: bytes, seconds: float = 0.5, reply_to: str = REPLY_TO, **more: Any) -> list[Any]:
    """Ask all workers, and return what came back in this time, each with its correlation id."""
    answers: list[Any] = []
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(REPLY_TO, exclusive=True)
        channel.queue_bind(REPLY_TO, "tasks.events", REPLY_TO)
        channel.basic_consume(
            REPLY_TO,
            lambda _channel, _method, properties, body: answers.append((properties.correlation_id, json.loads(body))),
            auto_ack=True,
        )
        properties = pika.BasicProperties(reply_to=reply_to, **more)
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
