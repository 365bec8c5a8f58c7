"""Faults of time: tasks longer than heartbeats and consumer timeouts, clocks that jump."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pika.exceptions

from leveret import Route
from tests.faults.row import Need, Row
from tests.faults.stage import HELD, PREFETCH, Stage

_CONSUMER_TIMEOUT_SECONDS = 10
_DEFAULT_CONSUMER_TIMEOUT_SECONDS = 1800
_DEFAULT_TICK_SECONDS = 60


def outlast_heartbeats(stage: Stage) -> None:
    """Run tasks of three and more heartbeats, one of which keeps the GIL."""
    stage.worker(HEARTBEAT_SECONDS="1")
    long = [stage.message("faults.work", seconds=4.0), stage.message("faults.hold_gil", seconds=4)]
    with stage.load(among=long):
        pass


def see_one_connection(stage: Stage) -> None:
    """Nothing of it cost a connection."""
    for worker in stage.started:
        lost = [event["message"] for event in worker.find("lost the broker")]
        stage.expect(not lost, f"the worker lost its connection {len(lost)} times: {''.join(lost[:1])}")


def outlast_consumer_timeout(stage: Stage) -> None:
    """Run a task longer than the broker's consumer timeout, of which the worker was not told."""
    _shorten_consumer_timeout(stage)
    worker = stage.worker("--prefetch", str(PREFETCH))
    long = stage.submit(stage.message("faults.slow_at_first", seconds=14.0, marker=str(stage.folder / "slow")))
    stage.await_running(*long)
    with stage.load(count=300, seconds=14.0):
        worker.await_event("lost the broker")
        stage.blow()


def limit_before_timeout(stage: Stage) -> None:
    """Run a task whose time limit is under the consumer timeout: the limit kills it first."""
    _shorten_consumer_timeout(stage)
    with _control(stage):
        stage.worker(CONSUMER_TIMEOUT_SECONDS=str(_CONSUMER_TIMEOUT_SECONDS))
        marker = str(stage.folder / "slow")
        long = stage.submit(stage.message("faults.slow_at_first_limited", seconds=60.0, marker=marker))
        stage.await_running(*long)
        with stage.load(count=200, seconds=11.0):
            stage.await_finished(*long)


def hold_too_many(stage: Stage) -> None:
    """Hold more than can be run within the consumer timeout, of which the worker was told."""
    _shorten_consumer_timeout(stage)
    with _control(stage):
        long = stage.submit(*(stage.message("faults.work", seconds=2.0) for _ in range(10)))
        stage.worker("--prefetch", "10", processes=1, CONSUMER_TIMEOUT_SECONDS=str(_CONSUMER_TIMEOUT_SECONDS))
        stage.await_finished(*long)


def _shorten_consumer_timeout(stage: Stage) -> None:
    def change(timeout_seconds: int, tick_seconds: int) -> None:
        """Brokers before 4.3 look at it when a channel ticks, newer ones whenever it is over."""
        stage.nodes.ctl(
            1,
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {timeout_seconds * 1000}), "
            f"application:set_env(rabbit, channel_tick_interval, {tick_seconds * 1000}).",
        )

    stage.undo.callback(change, _DEFAULT_CONSUMER_TIMEOUT_SECONDS, _DEFAULT_TICK_SECONDS)
    change(_CONSUMER_TIMEOUT_SECONDS, 1)


@contextlib.contextmanager
def _control(stage: Stage) -> Iterator[None]:
    """Hold a message for too long with a plain consumer meanwhile, to see that the broker's timeout is in force."""
    queue = "control"
    with stage.vhost.connect() as connection:
        connection.channel().queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    stage.vhost.publish(Route("", queue), b"")
    connection = stage.vhost.connect()
    channel = connection.channel()
    cancelled: list[Any] = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume(queue, lambda *_: None)
    began = time.monotonic()
    connection.process_data_events(0.5)
    yield
    with contextlib.suppress(pika.exceptions.AMQPError):  # pika loses the connection after being cancelled
        connection.process_data_events(max(0.5, _CONSUMER_TIMEOUT_SECONDS + 3 - (time.monotonic() - began)))
    stage.expect(cancelled or not channel.is_open, "the broker's consumer timeout is not in force")
    with contextlib.suppress(pika.exceptions.AMQPError):
        connection.close()
    with stage.vhost.connect() as connection:
        connection.channel().queue_delete(queue)


def jump_clock(stage: Stage) -> None:
    """Have the wall clock of a worker jump by up to an hour, to and fro, while tasks fail, overrun and reconnect."""
    worker = stage.worker(
        "--prefetch",
        str(PREFETCH),
        module="tests.faults.jumping_clock",
        JUMPING_CLOCK_SEED=str(stage.random.randrange(10**6)),
    )
    odd = [stage.message("faults.fail", times=2) for _ in range(5)]
    odd += [stage.message("faults.limited", seconds=0.3), stage.message("faults.limited", seconds=60.0)]
    with stage.load(among=odd):
        stage.wait_a_moment()
        stage.blow()
        stage.close_connections()
        worker.await_event("consuming again")


def see_limits_kept(stage: Stage) -> None:
    """Only what really overran was parked, after all its attempts."""
    account = stage.account()
    stage.expect(len(account.parked) == 1, f"parked: {sorted(account.parked)}")


ROWS = [
    Row(
        19,
        "longer-than-heartbeat",
        "tasks of four heartbeats, one of which keeps the GIL",
        "0",
        outlast_heartbeats,
        afterwards=see_one_connection,
    ),
    Row(
        20,
        "longer-than-timeout",
        "a task longer than the broker's consumer timeout, of which the worker knows nothing",
        HELD,
        outlast_consumer_timeout,
        Stage.held,
        needs=frozenset({Need.NODES}),
        patience_seconds=90.0,
    ),
    Row(
        20,
        "limit-before-timeout",
        "a task whose time limit is under the consumer timeout, and that overruns it",
        "0",
        limit_before_timeout,
        needs=frozenset({Need.NODES}),
        afterwards=see_one_connection,
    ),
    Row(
        21,
        "prefetch-over-timeout",
        "more prefetched than can be run within the consumer timeout",
        "0",
        hold_too_many,
        needs=frozenset({Need.NODES}),
        afterwards=see_one_connection,
    ),
    Row(
        22,
        "clock-jumps",
        "the worker's wall clock jumps by up to an hour, to and fro",
        HELD,
        jump_clock,
        Stage.held,
        afterwards=see_limits_kept,
    ),
]
