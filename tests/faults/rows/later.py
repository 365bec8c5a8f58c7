"""Faults of delays: the node is killed under them, a queue is gone when they are due, and tasks that ask for more."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from leveret import Route, TaskMessage, WorkQueue
from leveret.topology.apply.declare import declare_ladder
from leveret.topology.names import LATER_LOST
from tests.broker.support import await_value
from tests.faults import records
from tests.faults.proxy import Proxy
from tests.faults.row import Need, Row
from tests.faults.rows.link import HEARTBEAT_SECONDS, publisher_at
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.stage import HELD, PREFETCH, Stage

_DELAYED = 4000
_DOOMED, _OTHERS = 40, 160
_BETWEEN_STEPS = 64
"""What the broker may have sent from a step to the next without having heard that it arrived: 32 messages a queue."""
_IN_TIME_SECONDS = 5.0
"""How late a task may be on a machine that does other things; alone it is milliseconds."""
_TWO_STEPS_SECONDS = 11

doomed = WorkQueue("doomed")


def kill_node(stage: Stage) -> None:
    """Kill the node while delayed tasks wait in their first step or in a later one, and others fall due."""
    stage.place.has_fast_statistics = False
    stage.worker("--prefetch", str(PREFETCH))
    declare_ladder(stage.vhost.settings)
    time.sleep(SETTLED_SECONDS)
    due = _submit_delayed(stage, [(stage.random.uniform(8, 40), None) for _ in range(_DELAYED)])
    with stage.fault():
        stage.nodes.kill(1)
        stage.nodes.start(1)
    stage.await_finished(*due)
    stage.recovery_seconds = max(_lateness(stage, due))


def queue_deleted(stage: Stage) -> None:
    """Delete a queue while its tasks are delayed among those of others."""
    stage.worker()
    stage.vhost.declare(doomed)
    declare_ladder(stage.vhost.settings)
    routes = [Route.direct(doomed.name)] * _DOOMED + [None] * _OTHERS
    stage.random.shuffle(routes)
    due = _submit_delayed(stage, [(stage.random.uniform(20, 30), route) for route in routes])
    lost = sorted(task_id for task_id, route in zip(due, routes, strict=True) if route)
    stage.excused |= set(lost)
    with stage.fault():
        stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{doomed.name}")
    for task_id in lost:
        del due[task_id]
    stage.await_finished(*due)
    late = max(_lateness(stage, due))
    stage.expect(late < _IN_TIME_SECONDS, f"tasks of other queues came {late:.1f} s late")
    await_value(lambda: stage.vhost.count(LATER_LOST) == len(lost), f"{len(lost)} tasks in {LATER_LOST}")
    found = stage.vhost.ids_in(LATER_LOST)
    stage.expect(found == lost, f"in {LATER_LOST} lie {len(found)} tasks, not those {len(lost)}")
    stage.recovery_seconds = late


def asks_ten_times(stage: Stage) -> None:
    """Have tasks ask ten times to be run later, each time through two steps, and reject none."""
    stage.worker()
    declare_ladder(stage.vhost.settings)
    stage.submit(*_asking(stage, 20, times=10, seconds=_TWO_STEPS_SECONDS))
    stage.blow()


def link_cut(stage: Stage) -> None:
    """Cut the link of a worker again and again while its tasks ask to be run later."""
    declare_ladder(stage.vhost.settings)
    with Proxy.before(stage.vhost.amqp_url) as proxy:
        url = proxy.url(stage.vhost.amqp_url)
        worker = stage.worker("--prefetch", str(PREFETCH), AMQP_URL=url, HEARTBEAT_SECONDS=str(HEARTBEAT_SECONDS))
        with publisher_at(stage, stage.vhost.amqp_url) as publisher:
            stage.submit(*_asking(stage, 60, times=3, seconds=1), by=publisher)
            for _ in range(3):
                stage.wait_a_moment()
                with stage.fault():
                    stage.breaks += 1
                    proxy.reset()
            stage.await_finished(*stage.account().confirmed)
        stage.end(worker)


def _asking(stage: Stage, count: int, times: int, seconds: float) -> list[TaskMessage]:
    return [
        stage.message("faults.ask_later", times=times, seconds=seconds, marker=str(stage.folder / f"asked-{number}"))
        for number in range(count)
    ]


def _submit_delayed(stage: Stage, wanted: Sequence[tuple[float, Route | None]]) -> dict[str, float]:
    """Submit a task for each delay, by each route; returns when each is due, in this order."""
    due: dict[str, float] = {}
    messages = (
        dataclasses.replace(stage.message("faults.work", seconds=0.0), due=time.time() + seconds, route=route)
        for seconds, route in wanted
    )
    for message, error in stage.publisher.publish_many(messages):
        what = (records.UNKNOWN, f"{type(error).__name__}: {error}") if error else (records.CONFIRMED, "")
        records.append(stage.submissions_log, message.id, *what, synced=False)
        due[message.id] = message.due or 0.0
    return due


def _lateness(stage: Stage, due: dict[str, float]) -> list[float]:
    """Return how many seconds after its time each of these began first; the logs have the monotonic clock."""
    offset = time.time() - time.monotonic()
    began: dict[str, float] = {}
    for one in stage.account().executions:
        if one.what == records.STARTED and one.id in due:
            began.setdefault(one.id, one.seconds + offset)
    return [began[task_id] - when for task_id, when in due.items()]


def _of_breaks(stage: Stage) -> int:
    """Of what the worker holds at a cut, a copy that is not confirmed is published again, and the broker delivers what
    it is a copy of again.
    """
    return 2 * stage.breaks * PREFETCH


ROWS = (
    Row(
        64,
        "kill-node-delayed",
        f"RabbitMQ is killed with {_DELAYED:,} delayed tasks in their first and later steps",
        f"{HELD}, and {_BETWEEN_STEPS} between two steps",
        kill_node,
        lambda stage: stage.held() + _BETWEEN_STEPS,
        needs=frozenset({Need.NODES}),
        patience_seconds=300.0,
    ),
    Row(
        65,
        "queue-deleted-delayed",
        f"a queue is deleted while {_DOOMED} of its tasks are delayed among {_OTHERS} of another",
        "none",
        queue_deleted,
    ),
    Row(
        66,
        "asks-later",
        "tasks ask ten times to be run later, through two steps each time",
        "none",
        asks_ten_times,
        patience_seconds=300.0,
    ),
    Row(
        67,
        "link-cut-later",
        "the link of a worker is cut three times while its tasks ask to be run later",
        f"{HELD}, twice for each cut",
        link_cut,
        _of_breaks,
        patience_seconds=120.0,
    ),
)
