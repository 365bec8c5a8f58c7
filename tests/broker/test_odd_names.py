"""A virtual host and a user whose names command terminals: what a broker says of them is printable everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from leveret import AccessRefused, LeveretError, Publisher, Settings, TopologyError, declare
from leveret.consumers.taking.consumer import Consumer
from leveret.consumers.taking.subscription import Takers
from leveret.producers.dead.redrive import redrive
from leveret.topology.local.finding import Broker
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, run

ODD = "\x1b[2J\r\nleveret: forged\x9b\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}"
NOBODY = Takers(lambda _delivery: None, lambda _delivery: None)


@pytest.fixture
def odd(used_broker: Broker) -> Iterator[Vhost]:
    """A virtual host with such a name."""
    made = Vhost.create(used_broker, ODD)
    yield made
    made.delete()


def consume(configured: Settings) -> None:
    async def open_consumer() -> None:
        await Consumer(configured, [jobs], {jobs.name: 1}, NOBODY, 1).open()

    asyncio.run(open_consumer())


def submit_without_right(odd: Vhost) -> None:
    odd.declare(jobs)
    with odd.limited_user() as url, Publisher(replace(odd.settings, amqp_url=url)) as publisher:
        publisher.submit("jobs.fail")


def declare_without_right(odd: Vhost) -> None:
    with odd.limited_user() as url:
        declare(replace(odd.settings, amqp_url=url), [jobs])


def consume_without_right(odd: Vhost) -> None:
    odd.declare(jobs)
    with odd.limited_user() as url:
        consume(replace(odd.settings, amqp_url=url))


def consume_without_queue(odd: Vhost) -> None:
    consume(odd.settings)


def redrive_without_queue(odd: Vhost) -> None:
    asyncio.run(redrive(odd.settings, jobs.name))


def connect_to_no_vhost(odd: Vhost) -> None:
    asyncio.run(redrive(replace(odd.settings, amqp_url=f"{odd.amqp_url}{quote(ODD)}"), jobs.name))


def declare_in_no_vhost(odd: Vhost) -> None:
    declare(replace(odd.settings, amqp_url=f"{odd.amqp_url}{quote(ODD)}"), [jobs])


@pytest.mark.parametrize(
    ("door", "expected"),
    [
        (submit_without_right, AccessRefused),
        (declare_without_right, AccessRefused),
        (consume_without_right, AccessRefused),
        (consume_without_queue, TopologyError),
        (redrive_without_queue, TopologyError),
        (connect_to_no_vhost, AccessRefused),
        (declare_in_no_vhost, AccessRefused),
    ],
)
def test_an_error_with_the_brokers_words_is_printable(
    door: Callable[[Vhost], None], expected: type[LeveretError], odd: Vhost
) -> None:
    """The channel, or the connection, was closed with a text that has the name in it; programs log the error."""
    with pytest.raises(expected) as caught:
        door(odd)
    said = str(caught.value)

    assert "forged" in said
    assert said.isprintable()


@pytest.mark.parametrize(
    "command", [["consumers.run", "--queue", "jobs", "--tasks", JOBS, "--no-declare"], ["producers.redrive", "jobs"]]
)
def test_a_command_says_the_brokers_words_in_one_line(command: list[str], odd: Vhost) -> None:
    """No line of them can be taken for another error, and the terminal is told nothing."""
    ended = run(*command, AMQP_URL=odd.amqp_url, MANAGEMENT_URL=odd.broker.management_url)
    lines = ended.stderr.removesuffix("\n").split("\n")

    assert ended.returncode == 1
    assert "forged" in lines[-1]
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("leveret: forged") for line in lines)
