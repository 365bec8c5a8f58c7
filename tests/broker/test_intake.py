"""How the recorder takes events from its queue: many together, and no more than it may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from leveret.consumers.recorder import intake
from leveret.consumers.recorder.intake import MOST_MESSAGES, Batch, Intake
from tests.broker.recording import publish_events
from tests.broker.support import Vhost

_NEVER_SECONDS = 3600.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two batches there is no time after which fewer would do."""
    monkeypatch.setattr(intake, "_BETWEEN_BATCHES_SECONDS", _NEVER_SECONDS)


def run(vhost: Vhost, story: Callable[[Intake], Awaitable[None]]) -> None:
    """Run a story with an intake, which is opened before and closed afterwards."""

    async def told() -> None:
        opened = Intake(vhost.settings)
        await opened.open()
        try:
            await asyncio.wait_for(story(opened), 60)
        finally:
            await opened.close()

    asyncio.run(told())


async def publish(vhost: Vhost, count: int, size: int = 10) -> None:
    await asyncio.to_thread(publish_events, vhost, [b"x" * size] * count)


def test_the_first_events_are_taken_at_once_and_later_ones_together(vhost: Vhost) -> None:
    """A transaction for each message would cost more than its events."""

    async def story(opened: Intake) -> None:
        await publish(vhost, 1)
        first = await opened.next_batch()
        opened.acknowledge(first)
        await publish(vhost, MOST_MESSAGES - 1)
        while len(opened._delivered) < MOST_MESSAGES - 1:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(opened.next_batch())
        await asyncio.wait([second], timeout=0.01)
        assert not second.done()
        await publish(vhost, 1)

        assert len(first.bodies) == 1
        assert len((await second).bodies) == MOST_MESSAGES

    run(vhost, story)


def test_no_more_is_waited_for_than_there_is_room_for(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What found no room comes again afterwards."""
    size = 200_000
    monkeypatch.setattr(intake, "_MOST_HELD_BYTES", 2 * size)

    async def story(opened: Intake) -> None:
        taken: list[Batch] = []
        await publish(vhost, 7, size)
        while sum(len(one.bodies) for one in taken) < 4:
            taken.append(await opened.next_batch())
            opened.acknowledge(taken[-1])

        assert max(len(one.bodies) for one in taken) <= 2
        assert {len(body) for one in taken for body in one.bodies} == {size}

    run(vhost, story)


def test_who_asks_hears_of_what_came_before(vhost: Vhost) -> None:
    """A question has written at once what waits for more to come, and waits for that."""

    async def story(intake: Intake) -> None:
        await publish(vhost, 1)
        intake.acknowledge(await intake.next_batch())
        await publish(vhost, 1)
        await intake._has_delivered.wait()
        asking = asyncio.create_task(intake.written())
        batch = await intake.next_batch()
        assert not asking.done()
        intake.acknowledge(batch)
        await asking

    run(vhost, story)
