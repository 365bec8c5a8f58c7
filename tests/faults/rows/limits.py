"""Faults of time: tasks longer than heartbeats and consumer timeouts, clocks that jump."""

from __future__ import annotations

from tests.faults.row import Need, Row
from tests.faults.stage import Stage

_CONSUMER_TIMEOUT_SECONDS = 10
_DEFAULT_CONSUMER_TIMEOUT_SECONDS = 1800


def outlast_heartbeats(stage: Stage) -> None:
    """Run tasks of three and more heartbeats, one of which keeps the GIL."""
    stage.worker(HEARTBEAT_SECONDS="1")
    long = [stage.message("faults.work", seconds=4.0), stage.message("faults.hold_gil", seconds=4)]
    with stage.load(among=long):
        pass


def see_one_connection(stage: Stage) -> None:
    """Nothing of it cost a connection."""
    for worker in stage.started:
        lost = worker.find("lost the broker")
        stage.expect(not lost, f"the worker lost its connection: {lost[:1]}")


def outlast_consumer_timeout(stage: Stage) -> None:
    """Run a task longer than the broker's consumer timeout, of which the worker was not told."""
    _shorten_consumer_timeout(stage)
    stage.worker()
    long = stage.submit(stage.message("faults.slow_at_first", seconds=14.0, marker=str(stage.folder / "slow")))
    stage.await_running(*long)
    with stage.load(count=300, seconds=14.0):
        stage.blow(hit=long)


def limit_before_timeout(stage: Stage) -> None:
    """Run a task whose time limit is under the consumer timeout: the limit kills it first."""
    _shorten_consumer_timeout(stage)
    stage.worker(CONSUMER_TIMEOUT_SECONDS=str(_CONSUMER_TIMEOUT_SECONDS))
    marker = str(stage.folder / "slow")
    long = stage.submit(stage.message("faults.slow_at_first_limited", seconds=60.0, marker=marker))
    stage.await_running(*long)
    with stage.load(count=200, seconds=11.0):
        pass


def hold_too_many(stage: Stage) -> None:
    """Hold more than can be run within the consumer timeout, of which the worker was told."""
    _shorten_consumer_timeout(stage)
    stage.submit(*(stage.message("faults.work", seconds=2.0) for _ in range(10)))
    stage.blow()
    stage.worker("--prefetch", "10", processes=1, CONSUMER_TIMEOUT_SECONDS=str(_CONSUMER_TIMEOUT_SECONDS))


def _shorten_consumer_timeout(stage: Stage) -> None:
    def change(seconds: int) -> None:
        stage.nodes.ctl(1, "eval", f"application:set_env(rabbit, consumer_timeout, {seconds * 1000}).")

    stage.undo.callback(change, _DEFAULT_CONSUMER_TIMEOUT_SECONDS)
    change(_CONSUMER_TIMEOUT_SECONDS)


def jump_clock(stage: Stage) -> None:
    """Have the wall clock of a worker jump by up to an hour, to and fro, while tasks fail, overrun and reconnect."""
    worker = stage.worker(module="tests.faults.jumping_clock", JUMPING_CLOCK_SEED=str(stage.random.randrange(10**6)))
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
        "1, the second run, and what was begun when the connection closed",
        outlast_consumer_timeout,
        lambda _stage: 3,
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
        "what was begun when its connection was closed",
        jump_clock,
        Stage.in_flight,
        afterwards=see_limits_kept,
    ),
]
