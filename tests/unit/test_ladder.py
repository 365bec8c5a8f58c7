"""The ladder of delays: into which steps a delay is split, and that the ladder has them all."""

from __future__ import annotations

import itertools

import pytest

from leveret.topology.ladder import ENTRANCES, delayed, ladder, seconds_of, without_delay
from leveret.topology.names import LONGEST_DELAY_SECONDS, Route

MAIL = Route.topic("mail.send")


def visited(route: Route, headers: dict[str, str]) -> tuple[list[str], int]:
    """The queues that a message passes, by what the table says, and how long they keep it together."""
    table = ladder()
    exchanges = {exchange.name: exchange for exchange in table.exchanges}
    queues = {queue.name: queue.arguments for queue in table.queues}
    passed, milliseconds, here = [], 0, route.exchange
    while here != "tasks.delay.out":
        targets = [
            binding.queue
            for binding in table.bindings
            if binding.exchange == here
            and all(headers.get(name) == value for name, value in binding.arguments if name != "x-match")
        ]
        if targets:
            (queue,) = targets
            passed.append(queue)
            milliseconds += int(str(queues[queue]["x-message-ttl"]))
            here = str(queues[queue]["x-dead-letter-exchange"])
        else:
            here = str(exchanges[here].arguments["alternate-exchange"])
    return passed, milliseconds


@pytest.mark.parametrize(
    ("seconds", "queues"),
    [
        (1, ["1s"]),
        (90, ["1m", "30s"]),
        (0.2, ["1s"]),
        (59.001, ["1m"]),
        (5.0004, ["5s"]),
        (3600, ["1h"]),
        (86_400, ["1d"]),
        (LONGEST_DELAY_SECONDS, ["300d", "60d", "6d"]),
        (86_399, ["18h", "5h", "50m", "9m", "50s", "9s"]),
    ],
)
def test_a_delay_is_split_into_its_largest_steps(seconds: float, queues: list[str]) -> None:
    """Rounded up to whole seconds, and no queue twice."""
    route, headers = delayed(MAIL, None, seconds)

    assert visited(route, headers)[0] == [f"tasks.delay.{one}" for one in queues]


def test_every_delay_is_kept_for_exactly_its_time() -> None:
    """All up to a day and some beyond; no queue is passed twice, which the broker would take for a cycle."""
    for seconds in itertools.chain(range(1, 86_401, 97), range(86_400, LONGEST_DELAY_SECONDS, 1_000_003)):
        route, headers = delayed(MAIL, None, seconds)
        passed, milliseconds = visited(route, headers)

        assert (milliseconds, seconds_of(headers)) == (seconds * 1000, seconds)
        assert len(set(passed)) == len(passed)
        assert route.exchange in ENTRANCES


def test_the_key_and_the_headers_stay_what_they_were() -> None:
    """What the ladder adds can be taken off again."""
    route, headers = delayed(MAIL, {"priority": "high"}, 5)

    assert (route.routing_key, headers) == (
        "mail.send",
        {"priority": "high", "later-0": "5", "later-to": "tasks.topic"},
    )
    assert without_delay(headers) == {"priority": "high"}


def test_the_ladder_has_58_steps_and_a_place_for_what_is_lost() -> None:
    """Each a quorum queue that loses nothing."""
    lost, *steps = ladder().queues

    assert (lost.name, len(steps), len({step.name for step in steps})) == ("tasks.later.lost", 58, 58)
    assert {(str(step.arguments["x-dead-letter-strategy"]), str(step.arguments["x-overflow"])) for step in steps} == {
        ("at-least-once", "reject-publish")
    }
    assert all("x-dead-letter-routing-key" not in step.arguments for step in steps)
