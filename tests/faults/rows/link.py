"""Faults of the link between the broker and its clients, injected by a proxy before the broker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterator

from leveret import ConfirmTimeout, LeveretError, Publisher, TaskMessage
from tests.broker.support import Worker
from tests.faults import records
from tests.faults.producing import Load
from tests.faults.proxy import Direction, Proxy
from tests.faults.row import Row
from tests.faults.stage import HELD, PREFETCH, Stage

HEARTBEAT_SECONDS = 2
_DETECTED_SECONDS = 2 * (HEARTBEAT_SECONDS + 5) + 5
"""pika gives up on a silent broker after two intervals, each of them longer by five seconds; and some leeway."""
_UNCONFIRMED = 1
"""The producer of a run publishes one by one, so this many can be sent again for each lost link."""


@contextlib.contextmanager
def publisher_at(stage: Stage, amqp_url: str, timeout_seconds: float = 60.0) -> Iterator[Publisher]:
    """Yield a producer that goes another way to the broker."""
    settings = dataclasses.replace(
        stage.vhost.settings,
        amqp_url=amqp_url,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        publish_timeout_seconds=timeout_seconds,
    )
    with Publisher(settings) as made:
        yield made


@contextlib.contextmanager
def far(stage: Stage, count: int, seconds: float) -> Iterator[tuple[Proxy, Worker, Load]]:
    """Yield a worker at work and a producer who submits, both behind a proxy."""
    with Proxy.before(stage.vhost.amqp_url) as proxy:
        url = proxy.url(stage.vhost.amqp_url)
        worker = stage.worker("--prefetch", str(PREFETCH), AMQP_URL=url, HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS))
        with publisher_at(stage, url) as publisher:
            with Load(publisher, stage.submissions_log, stage.messages(count), seconds / count) as load:
                yield proxy, worker, load
            stage.submit(*stage.messages(20), by=publisher)
            stage.await_finished(*stage.account().confirmed)  # the worker needs the proxy for that
        stage.end(worker)


def reset(stage: Stage) -> None:
    """Cut every connection with a RST."""
    with far(stage, count=150, seconds=2.5) as (proxy, worker, _):
        stage.wait_a_moment()
        stage.await_running()
        stage.blow()
        proxy.reset()
        worker.await_event("consuming again")


def stall(stage: Stage) -> None:
    """Let nothing through, in either direction, without an end of any connection."""
    with far(stage, count=200, seconds=6.0) as (proxy, worker, _):
        stage.wait_a_moment()
        stage.await_running()
        with stage.fault():
            proxy.hold()
            worker.await_event("lost the broker")
        seconds = stage.ended - stage.began
        stage.expect(seconds <= _DETECTED_SECONDS, f"the worker noticed the dead link after {seconds:.1f} s")
        proxy.heal()
        worker.await_event("consuming again")


def trickle(stage: Stage) -> None:
    """Let bytes through one by one; nobody may take the link for dead."""
    with far(stage, count=30, seconds=1.0) as (proxy, worker, load):
        with stage.fault():
            proxy.throttle(1, 0.001)
            load.wait()
            stage.await_finished(*stage.account().confirmed)
        proxy.heal()
        stage.expect(not worker.find("lost the broker"), "the worker gave up a link that was only slow")
    stage.expect(not stage.account().unknown, f"the producer gave up on {stage.account().unknown}")


def no_confirm(stage: Stage) -> None:
    """Keep a confirm back until its message is given up, then let it come while another message is on its way."""
    stage.worker()
    with Proxy.before(stage.vhost.amqp_url) as one, Proxy.before(stage.vhost.amqp_url) as two:
        urls = f"{one.url(stage.vhost.amqp_url)};{two.url(stage.vhost.amqp_url)}"
        with publisher_at(stage, urls, timeout_seconds=2.0) as publisher:
            asyncio.run(_confuse(stage, publisher, one, two))
            with Load(publisher, stage.submissions_log, stage.messages(50), 0.0):
                pass


async def _confuse(stage: Stage, publisher: Publisher, one: Proxy, two: Proxy) -> None:
    first, second, third, fourth = stage.messages(4)
    await _submit(stage, publisher, first)
    with stage.fault():
        one.hold(Direction.TO_CLIENT)
        one.refuse()
        began = time.monotonic()
        error = await _submit(stage, publisher, second)
        seconds = time.monotonic() - began
        stage.expect(isinstance(error, ConfirmTimeout), f"without a confirm, submit said: {error!r}")
        stage.expect(seconds <= 3, f"with a timeout of 2 s, submit took {seconds:.1f} s")
        stage.expect(await _submit(stage, publisher, third) is None, "the way round the dead link was not taken")
        two.hold()
        late = asyncio.create_task(_submit(stage, publisher, fourth))
        await asyncio.sleep(0)  # until the message is handed over; it will never reach the broker
        one.heal()
        error = await late
        stage.expect(error is not None, "the late confirm of one message was taken for that of another")
        two.reset()
        two.heal()


async def _submit(stage: Stage, publisher: Publisher, message: TaskMessage) -> LeveretError | None:
    """Submit and log; returns the error."""
    try:
        await publisher.publish_async(message)
    except LeveretError as error:
        records.append(stage.submissions_log, message.id, records.UNKNOWN, f"{type(error).__name__}: {error}")
        return error
    records.append(stage.submissions_log, message.id, records.CONFIRMED, "")
    return None


def _most_duplicates(stage: Stage) -> int:
    return stage.held() + _UNCONFIRMED


_BOUND = f"{HELD}, and a publish that had no confirm yet"

ROWS = [
    Row(7, "reset", "RST of every connection", _BOUND, reset, _most_duplicates),
    Row(8, "stall", "a link that passes nothing, heartbeat 2 s", _BOUND, stall, _most_duplicates, patience_seconds=90),
    Row(9, "trickle", "a slow link: one byte at a time", "0", trickle),
    Row(25, "no-confirm", "a confirm that comes after its message was given up", "0", no_confirm),
]
