"""Recorders as processes, and events as workers tell them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

import pika

from leveret.topology import events
from leveret.topology.events import CLOSING, Kind
from leveret.topology.names import EVENTS_EXCHANGE
from tests.broker.support import Started, Vhost, Worker, await_value, run


class Recorders(Started):
    """Starts recorders on one virtual host and one record."""

    def start(self, **environment: str) -> Worker:
        """Start one, and wait until it consumes."""
        started = self.launch(**environment)
        started.await_event("recording")
        return started

    def launch(self, **environment: str) -> Worker:
        """Start one."""
        return self._fork("leveret", "recorder", "--log-format", "json", **environment)

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return run("leveret", *arguments, **{**self.environment, **environment})


def tell(vhost: Vhost, kind: Kind, ids: Iterable[str], task: str = "mail.send", **fields: Any) -> None:
    """Publish an event for each id, many in a message, confirmed."""
    told = [{"at": events.now(), "queue": "mail", "attempt": 1, "of": 4, "id": one, **fields} for one in ids]
    publish_events(
        vhost,
        [
            events.write(kind, task, "web-3:812", [events.write_event(one) for one in told[start : start + 64]])
            for start in range(0, len(told), 64)
        ],
        events.key(kind, task),
        2 if kind in CLOSING else 1,
    )


def publish_events(vhost: Vhost, bodies: Iterable[bytes], key: str = "task.x.y", delivery_mode: int = 2) -> None:
    """Publish messages to the exchange of events, confirmed."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(EVENTS_EXCHANGE, key, body, pika.BasicProperties(delivery_mode=delivery_mode))


def await_recorded(vhost: Vhost) -> None:
    """Wait until nothing waits for the recorder and nothing is unacknowledged."""

    def is_done() -> bool:
        with vhost.connect() as connection:
            channel = connection.channel()
            return not channel.queue_declare("tasks.record", passive=True).method.message_count

    await_value(is_done, "the recorder to take everything")


def objects_in(text: str) -> list[dict[str, Any]]:
    """Return the objects that a verb has printed, one a line."""
    return [json.loads(line) for line in text.splitlines()]
