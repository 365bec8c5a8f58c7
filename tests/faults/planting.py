"""A client that plants messages in the dead-letter queue that no client of ours can write: run by the row `redrive`."""

from __future__ import annotations

import sys

import pika
import pika.data

from leveret.topology.link import header_values
from leveret.topology.names import Route
from tests.faults.logged import faults

SWELLING = b"A" + (2 * 30_000).to_bytes(4) + b"b\1" * 30_000
"""An array of 30,000 numbers of a byte: read and written again it is larger than a frame."""
BEYOND_TIME = b"T" + (2**63).to_bytes(8)
"""A moment that no calendar has."""


def _encode_value(pieces: list[bytes], value: object) -> int:
    if isinstance(value, bytes):
        pieces.append(value)
        return len(value)
    return header_values.encode_value(pieces, value)


def main(url: str, *ids: str) -> None:
    """Plant a message for each of these ids, each with one header."""
    pika.data.encode_value = _encode_value
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number, task_id in enumerate(ids):
            headers = {"planted": SWELLING if number % 2 else BEYOND_TIME}
            properties = pika.BasicProperties(message_id=task_id, headers=headers, delivery_mode=2)
            channel.basic_publish(*Route.dead(faults.name), b'{"task": "faults.work"}', properties, mandatory=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
