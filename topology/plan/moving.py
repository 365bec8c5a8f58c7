"""Moving the messages of a queue elsewhere: each is confirmed there before it leaves here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika

from leveret.topology import names
from leveret.topology.errors import TopologyError, Unwritable
from leveret.topology.ladder import without_delay
from leveret.topology.link.asking import Asking, Got, open_channel
from leveret.topology.link.confirming import Confirming
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import own_headers
from leveret.topology.names import AGAIN_EXCHANGE, DELAY_OUT_EXCHANGE, HELD_EXCHANGE, LATER_TO, Route
from leveret.topology.printable import printable

BATCH = 16
"""Acks at once, and so what is in both queues at most when this ends in between. Of more than 32 a quorum queue's
client in the broker keeps some, and loses them with the channel."""
_MOST_BYTES = 32 * 1024 * 1024

MakeRoute = Callable[[str, Any, dict[str, Any]], Route]
"""Of the exchange and the key by which a message came, and its headers, which it may change: where it goes."""


def into_holding(queue: str) -> MakeRoute:
    """Return how a message goes from a queue into its holding queue: by its own key, with the exchange it came by."""

    def make(exchange: str, key: Any, headers: dict[str, Any]) -> Route:
        if exchange == DELAY_OUT_EXCHANGE and headers.get(LATER_TO) == AGAIN_EXCHANGE:
            exchange = AGAIN_EXCHANGE  # by which an attempt is believed without the history that says it was delayed
        headers.setdefault(HELD_EXCHANGE, exchange)
        return Route(names.holding_exchange(queue), key)

    return make


def out_of_holding(queue: str, work_queue: str) -> MakeRoute:
    """Return how a message goes back: a later attempt by the way that makes it one, all else straight to the queue."""

    def make(exchange: str, key: Any, headers: dict[str, Any]) -> Route:
        if exchange == DELAY_OUT_EXCHANGE:
            exchange = str(headers.get(LATER_TO))
        came_by = headers.pop(HELD_EXCHANGE, exchange)
        is_again = isinstance(key, str) and names.attempt_of(work_queue, key) > 1 and came_by == AGAIN_EXCHANGE
        if is_again and names.is_level_queue(queue, work_queue):
            return Route(AGAIN_EXCHANGE, key)
        return Route(names.holding_exchange(queue), key)

    return make


class Mover:
    """Takes messages off queues and publishes them anew, on one connection."""

    def __init__(self, connection: FastConnection, timeout_seconds: float) -> None:
        self._connection = connection
        self._confirming = Confirming(connection, timeout_seconds)
        self._channel: Any = None
        self._asking: Asking

    async def move(self, source: str, make: MakeRoute, tell_of: Callable[[int, int], None]) -> int:
        """Move what is ready in a queue; returns how many. `tell_of` gets how many more went, and how many of those
        the broker had given to somebody before.

        Raises `TopologyError` for a message that cannot be written again, and what else hinders it; what was not moved
        is still in the queue.
        """
        moved = 0
        while taken := await self._take(source):
            outgoing = [self._again(make, *one) for one in taken]
            ended = await self._confirming.publish(outgoing)
            gone = [one for one, error in zip(taken, ended, strict=True) if error is None]
            for method, _, _ in gone:
                self._channel.basic_ack(method.delivery_tag)
            moved += len(gone)
            tell_of(len(gone), sum(method.redelivered for method, _, _ in gone))
            if errors := [error for error in ended if error]:
                await self.close()  # which gives back what was not moved
                raise (
                    errors[0]
                    if not isinstance(errors[0], Unwritable)
                    else TopologyError(
                        f"a message of queue {source!r} cannot be written again, so it cannot be moved: {errors[0]}; "
                        "take it out (on the queue's page in the management UI), and run leveret apply again"
                    )
                )
        return moved

    async def close(self) -> None:
        """Give back what was taken and not moved."""
        if self._channel is not None and self._channel.is_open:
            self._channel.close()
        self._channel = None

    async def _take(self, source: str) -> list[Got]:
        taken: list[Got] = []
        size = 0
        if self._channel is None or not self._channel.is_open:
            self._channel = await open_channel(self._connection)
            self._asking = Asking(self._channel, f"queue {source!r}")
        while len(taken) < BATCH and size < _MOST_BYTES and (one := await self._asking.get(source)):
            taken.append(one)
            size += len(one.body)
        return taken

    def _again(self, make: MakeRoute, method: Any, properties: pika.BasicProperties, body: bytes) -> Outgoing:
        """Return the message as it goes on: as it was, but for what only the broker may write into it."""
        headers = own_headers(properties.headers)
        route = make(printable(method.exchange), method.routing_key, headers)
        if method.exchange == DELAY_OUT_EXCHANGE or LATER_TO in headers:
            headers = without_delay(headers)  # it has waited
        properties.headers = headers
        properties.user_id = None  # the broker takes no other user's name from this connection
        return Outgoing(route, body, properties)
