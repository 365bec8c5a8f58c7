"""Bare pika, to show what the client leaves room for: no tasks, no processes, no retries.

Sends on pika's asynchronous channel with a window of outstanding confirms, or one after another on its blocking one.
As a program it consumes, one ack for each message or, with the argument `coalesced`, one for many. A message that asks
for a reply gets it, and is acknowledged when that is confirmed.
"""

import itertools
import json
import os
import sys
from typing import Any

import pika

from benchmarks.work import FUNCTIONS, Calls

QUEUE = "bench"
WINDOW = 1000
PREFETCH = 250
ACK_EVERY = 50
BODY = b'{"version":1,"task":"bench.noop","args":[],"kwargs":{}}'
PROPERTIES = pika.BasicProperties(
    delivery_mode=2, content_type="application/json", message_id="00000000-0000-0000-0000-000000000000"
)


def _parameters() -> pika.URLParameters:
    return pika.URLParameters(os.environ["AMQP_URL"])


def start() -> None:
    """Declare the queue."""
    with pika.BlockingConnection(_parameters()) as connection:
        connection.channel().queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})


def one_by_one(calls: Calls) -> None:
    """Publish each and wait for its confirm."""
    with pika.BlockingConnection(_parameters()) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for task, kwargs in calls:
            body = json.dumps({"version": 1, "task": task, "kwargs": kwargs}).encode()
            channel.basic_publish("", QUEUE, body, PROPERTIES, mandatory=True)


def many(calls: Calls) -> None:
    """Publish as many messages that mean nothing as there are calls and wait for every confirm."""
    _Publishing(sum(1 for _ in calls)).run()


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Publish, wait for the confirm, and wait for the reply."""
    global _requests
    if _requests is None:
        _requests = _Requests()
    return _requests.ask(json.dumps({"version": 1, "task": task, "kwargs": kwargs}).encode())


class _Requests:
    def __init__(self) -> None:
        self._replies = []
        self._connection = pika.BlockingConnection(_parameters())
        self._channel = self._connection.channel()
        self._channel.basic_consume("amq.rabbitmq.reply-to", self._on_reply, auto_ack=True)
        self._channel.confirm_delivery()

    def ask(self, body: bytes) -> Any:
        properties = pika.BasicProperties(delivery_mode=2, reply_to="amq.rabbitmq.reply-to")
        self._channel.basic_publish("", QUEUE, body, properties, mandatory=True)
        while not self._replies:
            self._connection.process_data_events(time_limit=None)
        return json.loads(self._replies.pop())

    def _on_reply(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self._replies.append(body)


_requests: _Requests | None = None


class _Publishing:
    def __init__(self, count: int) -> None:
        self._count = count
        self._sent = 0
        self._unconfirmed = {}
        self._connection = pika.SelectConnection(_parameters(), on_open_callback=self._on_open)

    def run(self) -> None:
        self._connection.ioloop.start()
        if self._sent < self._count or self._unconfirmed:
            raise RuntimeError(f"{self._sent} of {self._count} sent, {len(self._unconfirmed)} unconfirmed")

    def _on_open(self, connection: Any) -> None:
        connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._publish())

    def _publish(self) -> None:
        while self._sent < self._count and len(self._unconfirmed) < WINDOW:
            self._channel.basic_publish("", QUEUE, BODY, PROPERTIES, mandatory=True)
            self._sent += 1
            self._unconfirmed[self._sent] = BODY

    def _on_confirm(self, frame: Any) -> None:
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self._connection.close()
            return
        tag = frame.method.delivery_tag
        if frame.method.multiple:
            for confirmed in [number for number in self._unconfirmed if number <= tag]:
                del self._unconfirmed[confirmed]
        else:
            del self._unconfirmed[tag]
        if self._sent == self._count and not self._unconfirmed:
            self._connection.close()
        else:
            self._publish()


def consume(coalesced: bool, replies: bool) -> None:
    """Consume until killed."""
    start()

    numbers = itertools.count(1)
    unconfirmed: dict[int, int] = {}  # by the number of a reply, the tag of its request

    def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        returned = None
        if body != BODY:
            call = json.loads(body)
            returned = FUNCTIONS[call["task"]](**call["kwargs"])
        if properties.reply_to:
            unconfirmed[next(numbers)] = method.delivery_tag
            channel.basic_publish("", properties.reply_to, json.dumps(returned).encode(), PROPERTIES)
        elif not coalesced:
            channel.basic_ack(method.delivery_tag)
        elif method.delivery_tag % ACK_EVERY == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)

    def on_channel(channel: Any) -> None:
        if replies:
            channel.confirm_delivery(lambda frame: on_confirm(channel, frame.method))
        channel.basic_qos(prefetch_count=PREFETCH, callback=lambda _: channel.basic_consume(QUEUE, on_message))

    def on_confirm(channel: Any, confirm: Any) -> None:
        upto = confirm.delivery_tag
        for reply in [one for one in unconfirmed if one == upto or (confirm.multiple and one < upto)]:
            channel.basic_ack(unconfirmed.pop(reply))

    connection = pika.SelectConnection(
        _parameters(), on_open_callback=lambda connection: connection.channel(on_open_callback=on_channel)
    )
    connection.ioloop.start()


if __name__ == "__main__":
    consume("coalesced" in sys.argv, "replies" in sys.argv)
