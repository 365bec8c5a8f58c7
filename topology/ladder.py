"""The ladder of delays: queues of fixed times, through which a message goes until its time has come.

A delay is split into the steps of nine levels, the longest first: 95 s are a minute, 30 s and 5 s. Each level is a
headers exchange that knows its steps by a header; a message without that header passes it by its alternate exchange.

    tasks.delay.2 ──later-2: 1──▶ tasks.delay.1m ──TTL──▶ tasks.delay.1 ──later-1: 3──▶ tasks.delay.30s ──TTL──▶ …
    … tasks.delay.out ──later-to: tasks.topic──▶ tasks.later.topic ──its own routing key──▶ the work queues

So nothing waits behind what waits longer, no process and no worker holds anything, and the routing key stays what it
was. No message passes the same queue twice: without a rejection in between the broker would take that for a cycle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from leveret.topology import names
from leveret.topology.names import Route
from leveret.topology.objects import (
    MIRROR_EXCHANGES,
    UNREACHABLE_DELIVERY_LIMIT,
    Binding,
    Exchange,
    Queue,
    Table,
)


class _Level(NamedTuple):
    """Steps of so many units: the header's value, and how many units that is."""

    unit_seconds: int
    unit: str
    steps: dict[str, int]

    @property
    def largest_first(self) -> list[tuple[str, int]]:
        return [(digit, units * self.unit_seconds) for digit, units in reversed(self.steps.items())]


def _level(unit_seconds: int, unit: str, most: int, size: int = 1) -> _Level:
    return _Level(unit_seconds, unit, {str(digit): digit * size for digit in range(1, most + 1)})


_LEVELS = (
    _level(1, "s", 9),
    _level(1, "s", 5, 10),
    _level(60, "m", 9),
    _level(60, "m", 5, 10),
    _level(3600, "h", 5),
    _level(3600, "h", 3, 6),
    _level(86_400, "d", 9),
    _level(86_400, "d", 9, 10),
    _level(86_400, "d", 4, 100),
)
ENTRANCES = tuple(f"{names.DELAY_PREFIX}{number}" for number in range(len(_LEVELS)))
"""The exchanges to which delayed messages are published, from the shortest steps to the longest."""
WHOLE = f"{names.DELAY_PREFIX}whole"
"""An exchange for nothing but this: it is declared last, so where it is the ladder has all its steps."""


def delayed(route: Route, headers: Mapping[str, Any] | None, seconds: float) -> tuple[Route, dict[str, Any]]:
    """Return by which route, and with which headers, a message comes to this one after so many seconds.

    They are rounded up to whole ones, for none may come too early.
    """
    left = max(1, math.ceil(round(seconds, 3)))
    given = dict(headers or {})
    entrance = ""
    for number in reversed(range(len(_LEVELS))):
        for digit, size in _LEVELS[number].largest_first:
            if size <= left:
                given[f"{names.LATER_HEADERS}{number}"] = digit
                entrance = entrance or ENTRANCES[number]
                left -= size
                break
    given[names.LATER_TO] = route.exchange
    return Route(entrance, route.routing_key), given


def without_delay(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers without those by which the ladder routes, for another way."""
    return {name: value for name, value in headers.items() if not str(name).startswith(names.LATER_HEADERS)}


def seconds_of(headers: Mapping[str, Any]) -> int:
    """Return how long the ladder keeps a message with these headers."""
    return sum(
        level.unit_seconds * level.steps.get(headers.get(f"{names.LATER_HEADERS}{number}", ""), 0)
        for number, level in enumerate(_LEVELS)
    )


def ladder() -> Table:
    """Return everything the ladder consists of."""
    queues, bindings = [], []
    for number, level in enumerate(_LEVELS):
        onward = ENTRANCES[number - 1] if number else names.DELAY_OUT_EXCHANGE
        for digit, units in level.steps.items():
            name = f"{names.DELAY_PREFIX}{units}{level.unit}"
            queues.append(_step(name, units * level.unit_seconds, onward))
            match = (("x-match", "all"), (f"{names.LATER_HEADERS}{number}", digit))
            bindings.append(Binding(name, ENTRANCES[number], "", match))
    lost = {"x-queue-type": "quorum", "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT}
    instead = {"alternate-exchange": names.LATER_LOST}
    return Table(
        exchanges=(
            Exchange(names.LATER_LOST, "fanout", internal=True),
            *MIRROR_EXCHANGES,
            Exchange(names.DELAY_OUT_EXCHANGE, "headers", internal=True, arguments=instead),
            *(
                Exchange(entrance, "headers", arguments={"alternate-exchange": lower})
                for entrance, lower in zip(ENTRANCES, (names.DELAY_OUT_EXCHANGE, *ENTRANCES), strict=False)
            ),
        ),
        queues=(Queue(names.LATER_LOST, lost), *queues),
        bindings=(
            Binding(names.LATER_LOST, names.LATER_LOST, ""),
            *bindings,
            *(
                Binding(
                    mirror,
                    names.DELAY_OUT_EXCHANGE,
                    "",
                    (("x-match", "all"), (names.LATER_TO, exchange)),
                    is_exchange=True,
                )
                for exchange, mirror in names.MIRRORS.items()
            ),
        ),
        last_exchanges=(Exchange(WHOLE, "fanout"),),
    )


def _step(name: str, seconds: int, onward: str) -> Queue:
    return Queue(
        name,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": UNREACHABLE_DELIVERY_LIMIT,
            "x-message-ttl": seconds * 1000,
            "x-dead-letter-exchange": onward,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
