"""Faults of a queue with priorities: one of its levels deleted, and its broker killed."""

from __future__ import annotations

import itertools
import time

from leveret import Route, TaskMessage
from leveret.topology.names import LEVELS, level_queues
from tests.broker.support import Worker
from tests.faults.producing import Load
from tests.faults.ranked_jobs import ranked
from tests.faults.row import Need, Row
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.stage import PREFETCH, Stage

_QUEUES = level_queues(ranked.name)
_HELD = f"what the worker held: its prefetch, {PREFETCH}, of each level"
_LOAD_SECONDS = 3.0


def delete_level(stage: Stage) -> None:
    """Delete the queue of high priority under its consumer and under load; what it held is gone, as with any queue."""
    worker = _worker(stage)
    with _load(stage, 200):
        stage.wait_a_moment()
        with stage.vhost.connect() as connection, stage.fault():
            connection.channel().queue_delete(_QUEUES["high"])
            deleted = _submitted_high(stage)
            worker.await_event("lost the broker")
            worker.await_event("consuming again")
    # What came while there was no such queue went to the normal one; only what lay in it may be missing.
    stage.excused = stage.account().missing & deleted
    _go_on(stage)


def kill_node(stage: Stage) -> None:
    """Kill the node and start it again, while messages of all levels come, run and are tried again."""
    stage.place.has_fast_statistics = False
    worker = _worker(stage)
    time.sleep(SETTLED_SECONDS)
    with _load(stage, 240):
        stage.wait_a_moment()
        stage.await_running()
        with stage.fault():
            stage.breaks = 1
            stage.nodes.kill(1)
            stage.nodes.start(1)
        worker.await_event("consuming again")
        stage.end(worker)
    stage.submit(*_messages(stage, 30))
    _see_levels(stage)
    _worker(stage)


def _worker(stage: Stage) -> Worker:
    return stage.worker("--queue", ranked.name, "--prefetch", str(PREFETCH), tasks="tests.faults.ranked_jobs")


def _load(stage: Stage, count: int) -> Load:
    return Load(stage.publisher, stage.submissions_log, _messages(stage, count), _LOAD_SECONDS / count)


def _messages(stage: Stage, count: int) -> list[TaskMessage]:
    """Make as many of each level, every eighth of which fails once."""
    made = []
    for number, level in zip(range(count), itertools.cycle(LEVELS)):
        plain = stage.message("ranked.work")
        kwargs = {"seconds": stage.random.uniform(0.005, 0.03), "fails": int(number % 8 == 0)}
        route, headers = Route.direct(ranked.name), {"priority": level}
        made.append(
            TaskMessage.create(plain.task, kwargs=kwargs, id=f"{plain.id}-{level}", route=route, headers=headers)
        )
    return made


def _submitted_high(stage: Stage) -> set[str]:
    return {one.id for one in stage.account().submissions if one.id.endswith("-high")}


def _go_on(stage: Stage) -> None:
    """Submit more of all levels, which are what the fault hit."""
    with _load(stage, 60):
        pass
    stage.hit = [one.id for one in stage.account().submissions if one.seconds > stage.ended]
    _see_bound(stage)


def _see_bound(stage: Stage) -> None:
    """The levels are there again, each bound by its header."""
    bound = {
        (one["destination"], one["arguments"].get("priority"))
        for one in stage.vhost.api("GET", f"exchanges/{stage.vhost.name}/{ranked.name}.in/bindings/source")
    }
    stage.expect(bound == {(_QUEUES[level], level) for level in ("high", "low")}, f"bound are {bound}")


def _see_levels(stage: Stage) -> None:
    """Every message lies in the queue of the level that its header says, those that came back included."""
    found = 0
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        for level, queue in _QUEUES.items():
            while (got := channel.basic_get(queue))[0] is not None:
                found += 1
                said = got[1].headers.get("priority")
                stage.expect(said == level, f"{got[1].message_id} of priority {said} lay in {queue}")
    stage.expect(found >= len(LEVELS), f"{found} messages were left to look at")


ROWS = [
    Row(
        69,
        "level-deleted",
        "the queue of high priority deleted under its consumer, amid a load of all levels",
        _HELD,
        delete_level,
        lambda _stage: PREFETCH * len(LEVELS),
        patience_seconds=90.0,
    ),
    Row(
        70,
        "levels-broker-killed",
        "the broker killed under a load of three priorities",
        _HELD,
        kill_node,
        lambda _stage: PREFETCH * len(LEVELS),
        needs=frozenset({Need.NODES}),
        patience_seconds=120.0,
    ),
]
