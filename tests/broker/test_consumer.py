"""A consumer whose broker leaves between two steps says so in our own words, which the worker knows how to take."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pika.channel import Channel
from pika.exceptions import ConnectionClosedByBroker

from leveret import BrokerUnreachable, Route, SettingsError
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.taking.consumer import Consumer
from leveret.consumers.taking.subscription import Takers
from leveret.topology.link.asking import Asking
from leveret.topology.link.fast_connection import FastConnection
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, await_value

NOBODY = Takers(lambda _delivery: None, lambda _delivery: None)


async def awaited(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.01)


def _has(held: list[Delivery], number: int) -> bool:
    return len(held) >= number


def _leave(_connection: Any, **_options: Any) -> None:
    raise ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")


def test_the_broker_leaves_before_a_channel_is_open(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting succeeded, and then it shuts down."""
    vhost.declare(jobs)
    monkeypatch.setattr(FastConnection, "channel", _leave)

    async def open_consumer() -> None:
        await Consumer(vhost.settings, [jobs], {jobs.name: 1}, NOBODY, 1).open()

    with pytest.raises(BrokerUnreachable, match="CONNECTION_FORCED"):
        asyncio.run(open_consumer())


def test_a_broker_that_does_not_answer_is_as_good_as_lost(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeats go on, and the answer to a request never comes."""
    vhost.declare(jobs)
    monkeypatch.setattr("leveret.topology.link.asking.ANSWER_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(Channel, "basic_consume", lambda *_arguments, **_options: None)
    made: list[Consumer] = []

    async def open_consumer() -> None:
        made.append(Consumer(vhost.settings, [jobs], {jobs.name: 1}, NOBODY, 1))
        await made[0].open()

    with pytest.raises(BrokerUnreachable, match=r"has not answered for 0\.2 s"):
        asyncio.run(open_consumer())
    assert made[0].lost.done()


def test_small_frames_are_refused(vhost: Vhost) -> None:
    """The reason of a failure would not fit, and each copy for the DLQ would end the connection."""
    vhost.declare(jobs)
    small = replace(vhost.settings, amqp_url=f"{vhost.amqp_url}?frame_max=8192")

    async def open_consumer() -> None:
        await Consumer(small, [jobs], {jobs.name: 1}, NOBODY, 1).open()

    with pytest.raises(SettingsError, match=r"frames of at most 8192 bytes.*frame_max"):
        asyncio.run(open_consumer())


def test_a_cancel_that_comes_with_the_answer_is_heard(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is deleted as soon as it is consumed from, before anybody has read that it is."""
    vhost.declare(jobs)
    ask = Asking.ask

    def delete() -> None:
        with vhost.connect() as connection:
            connection.channel().queue_delete("jobs")

    async def ask_and_dawdle(self: Asking, send: Any) -> Any:
        answer = await ask(self, send)
        if self._channel.consumer_tags:
            await asyncio.to_thread(delete)
            while self._channel.consumer_tags:
                await asyncio.sleep(0.01)
        return answer

    monkeypatch.setattr(Asking, "ask", ask_and_dawdle)

    async def open_consumer() -> None:
        made = Consumer(vhost.settings, [jobs], {jobs.name: 1}, NOBODY, 1)
        await made.open()
        assert made.lost.done()
        assert "cancelled the consumer of queue 'jobs'" in str(made.lost.result())
        await made.close()

    asyncio.run(open_consumer())


def test_the_broker_leaves_before_the_queues_are_counted(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look of --until-empty at the queues ends like any other lost connection."""
    vhost.declare(jobs)

    async def count() -> None:
        made = Consumer(vhost.settings, [jobs], {jobs.name: 1}, NOBODY, 1)
        await made.open()
        monkeypatch.setattr(FastConnection, "channel", _leave)
        try:
            await made.ready_messages(["jobs"])
        finally:
            await made.close()

    with pytest.raises(BrokerUnreachable, match="CONNECTION_FORCED"):
        asyncio.run(count())


def test_no_channel_has_many_consumers_that_hold_something(vhost: Vhost) -> None:
    """RabbitMQ 3.10 mixes up what more than 32 held when it is killed twice; each change of a prefetch makes one."""
    vhost.declare(jobs)
    messages, changes = 200, 100
    for number in range(messages):
        vhost.publish(Route.direct("jobs"), b"{}", message_id=str(number))
    held: list[Delivery] = []
    takers = Takers(held.append, held.append)

    async def change_often() -> None:
        made = Consumer(vhost.settings, [jobs], {jobs.name: 1}, takers, 1)
        await made.open()
        for number in range(1, changes):
            await awaited(functools.partial(_has, held, number))
            while not made.take_only(jobs, lambda: 1, lambda: None):
                await asyncio.sleep(0.01)
        await awaited(functools.partial(_has, held, changes))
        of_channel = Counter(id(delivery.settler) for delivery in held)
        if made.is_old:
            assert max(of_channel.values()) <= 32
        assert len({delivery.id for delivery in held}) == len(held)
        for delivery in held[:changes]:
            assert delivery.settler.ack(delivery.tag)
        await made.close()

    asyncio.run(change_often())
    await_value(lambda: vhost.counts(jobs) == {jobs.name: messages - changes}, "all that was not acknowledged")
