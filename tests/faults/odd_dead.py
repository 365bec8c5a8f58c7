"""A client that puts odd messages into the dead-letter queue: what any AMQP client can send, mixed anew by each seed.

It runs in a process of its own, for it teaches pika to write what pika cannot. It prints of each that cannot be written
again, and of each other that can run, which that is.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from leveret import Route
from leveret.topology.local.finding import Broker
from tests.broker.malformed import UNREADABLE
from tests.broker.odd import HEADERS, PROPERTIES, Foreign, Raw, encode_raw
from tests.broker.support import Vhost
from tests.faults import records
from tests.faults.logged import faults

UNWRITABLE, GOOD = "unwritable", "good"
UNWRITABLE, GOOD = "unwritable", "good"
_GOOD = json.dumps({"task": "faults.work", "kwargs": {"seconds": 0.0}}).encode()
_HEAVY = ("many", "large", "tables-2000", "arrays-2000")
_SELDOM = 0.002
_LARGEST_BYTES = 100_000
_UNWRITABLE = Raw(b"T" + (2**63).to_bytes(8))
_OURS = ("message_id", "headers", "expiration")
"""The id is what a message is known by here, and nothing is to vanish by itself."""


def put_odd(vhost: Vhost, log: Path, seed: int, count: int) -> None:
    """Put so many there."""
    dice = random.Random(seed)
    bodies = [one.body for one in UNREADABLE.values() if len(one.body) <= _LARGEST_BYTES]
    with Foreign(vhost) as client:
        for number in range(count):
            task_id = f"o{number:05}"
            headers, properties = _headers(dice), _properties(dice)
            if dice.random() < _SELDOM:
                headers["when"] = _UNWRITABLE
            body = _GOOD if dice.random() < 0.5 else dice.choice(bodies)
            body = _GOOD if dice.random() < 0.5 else dice.choice(bodies)
            if "when" in headers or headers.get("h") == HEADERS["timestamp-of-no-year"]["h"]:
                print(UNWRITABLE, task_id)
            elif body is _GOOD:
                print(GOOD, task_id)
            client.publish(Route.dead(faults.name), body, message_id=task_id, headers=headers, **properties)
            records.append(log, task_id, records.CONFIRMED, "", synced=False)


def _headers(dice: random.Random) -> dict[Any, Any]:
    headers: dict[Any, Any] = {}
    for name in dice.sample(list(HEADERS), dice.randint(0, 3)):
        if name not in _HEAVY or dice.random() < _SELDOM:
            headers |= HEADERS[name]
    return headers


def _properties(dice: random.Random) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name in dice.sample(list(PROPERTIES), dice.randint(0, 2)):
        properties |= {what: value for what, value in PROPERTIES[name].items() if what not in _OURS}
    return properties


def main() -> int:
    """Put them there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("vhost")
    parser.add_argument("log", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    vhost = Vhost(Broker(options.url, "", "the row's"), options.vhost)
    with pytest.MonkeyPatch.context() as patch:
        encode_raw(patch)
        put_odd(vhost, options.log, options.seed, options.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
