"""Faults amid cancels: what was cancelled and confirmed does not begin any more, and nothing else is lost by that."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Sequence

import pika

from leveret import LeveretError, cancel
from leveret.topology.control import Command, write_cancels
from leveret.topology.message import new_id
from leveret.topology.names import CANCEL_KEY, CONTROL_EXCHANGE
from tests.broker.support import await_value
from tests.faults.records import STARTED
from tests.faults.row import Need, Row
from tests.faults.rows.nodes import BOUND, SETTLED_SECONDS, most_duplicates
from tests.faults.stage import PREFETCH, Stage

_MANY = 10_000
_HEARD_SECONDS = 3.0
"""A worker that is there has heard of a cancel by then; another one reads it when it comes."""
_PATIENCE_SECONDS = 120.0


def restart_broker(stage: Stage) -> None:
    """Cancel half of what waits while the node is killed and started again."""
    stage.place.has_fast_statistics = False
    _cancel(stage, "nobody")  # which declares what keeps cancels
    for _ in range(2):
        stage.worker("--prefetch", str(PREFETCH))
    time.sleep(SETTLED_SECONDS)
    with stage.load(count=100, seconds=1.0):
        waiting = [stage.message("faults.work", seconds=0.05) for _ in range(300)]
    ids = stage.submit(*waiting)
    unwanted = stage.random.sample(ids, len(ids) // 2)
    with stage.fault():
        stage.breaks = 1
        stage.nodes.kill(1)
        stage.nodes.start(1)
        _cancel_until_confirmed(stage, unwanted)
    _see_cancelled(stage, unwanted, time.monotonic())
    stage.submit(*stage.messages(20))


def start_with_many(stage: Stage) -> None:
    """Start a worker after ten thousand cancels, each a message of its own; of what waits every other one is meant."""
    ids = stage.submit(*stage.messages(100))
    unwanted = ids[::2]
    _cancel(stage, unwanted[0])
    said = [*(new_id() for _ in range(_MANY - len(unwanted))), *unwanted[1:]]
    stage.random.shuffle(said)
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        for task_id in said:
            (body,) = write_cancels([task_id], Command(time.time(), "faults", ""))
            channel.basic_publish(CONTROL_EXCHANGE, CANCEL_KEY, body, pika.BasicProperties(delivery_mode=2))
        channel.confirm_delivery()
        channel.basic_publish(CONTROL_EXCHANGE, CANCEL_KEY, body, pika.BasicProperties(delivery_mode=2))
    stage.blow(hit=ids)
    worker = stage.worker()
    _see_cancelled(stage, unwanted, stage.began)
    stage.expect(not worker.find("not all cancels"), "the worker did not wait until it knew all cancels")


def kill_worker(stage: Stage) -> None:
    """Kill a worker while a task that it runs does not end, though it was cancelled; another one takes over."""
    (stubborn,) = stage.submit(stage.message("faults.stubborn"))
    doomed = stage.worker("--prefetch", str(PREFETCH), tasks="tests.faults.cancelled_jobs")
    stage.leaving[doomed] = -signal.SIGKILL
    stage.await_running(stubborn)
    with stage.load(count=100, seconds=1.5):
        _cancel(stage, stubborn)
        doomed.await_event("told to end while it runs", id=stubborn)
        stage.wait_a_moment(0.0, 1.5)
        stage.blow()
        stage.breaks = 1
        os.kill(doomed.process.pid, signal.SIGKILL)
        stage.worker("--prefetch", str(PREFETCH), tasks="tests.faults.cancelled_jobs")
    _see_cancelled(stage, [stubborn], stage.began)


def _cancel(stage: Stage, *ids: str) -> None:
    cancel(*ids, reason="a row of the matrix", configured=stage.vhost.settings)


def _cancel_until_confirmed(stage: Stage, ids: Sequence[str]) -> None:
    """Do as its documentation says: when it raises, call it again."""

    def confirmed() -> bool:
        try:
            _cancel(stage, *ids)
        except LeveretError:
            return False
        return True

    await_value(confirmed, "the broker to confirm a cancel", _PATIENCE_SECONDS)


def _see_cancelled(stage: Stage, unwanted: Collection[str], confirmed: float) -> None:
    """See each of them cancelled, or finished before that; none begins when every worker must have heard of it."""

    def told() -> set[str]:
        return {event["id"] for worker in stage.started for event in worker.find("cancelled")}

    await_value(lambda: set(unwanted) <= told() | set(stage.account().finished), "the cancels", _PATIENCE_SECONDS)
    late = {
        one.id
        for one in stage.account().executions
        if one.what == STARTED and one.id in unwanted and one.seconds > confirmed + _HEARD_SECONDS
    }
    stage.expect(not late, f"began after they were cancelled: {sorted(late)[:5]}")
    stage.excused |= set(unwanted)


def _see_none_begun(stage: Stage) -> None:
    """Nothing that was cancelled before its worker started has begun."""
    begun = stage.excused & set(stage.account().starts)
    stage.expect(not begun, f"began though they were cancelled: {sorted(begun)[:5]}")
    stage.expect(not stage.dead, f"in the DLQ lie {sorted(stage.account().parked)[:5]}")


def _see_none_buried(stage: Stage) -> None:
    stage.expect(not stage.dead, f"in the DLQ lie {sorted(stage.account().parked)[:5]}")


ROWS = [
    Row(
        54,
        "cancel-kill-node",
        "kill -9 of the broker, and a restart, while half of what waits is cancelled",
        BOUND,
        restart_broker,
        most_duplicates,
        needs=frozenset({Need.NODES}),
        afterwards=_see_none_buried,
        patience_seconds=_PATIENCE_SECONDS,
    ),
    Row(
        55,
        "cancel-many",
        f"a worker starts after {_MANY:,} cancels",
        "0",
        start_with_many,
        afterwards=_see_none_begun,
    ),
    Row(
        56,
        "cancel-kill-worker",
        "kill -9 of a worker while a cancelled task that it runs does not end",
        f"what the worker held: its prefetch, {PREFETCH}",
        kill_worker,
        lambda stage: stage.held(),
        afterwards=_see_none_buried,
    ),
]
