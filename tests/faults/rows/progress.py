"""Faults amid hundreds of followed tasks that tell how far they have come: it is theirs, and costs no task anything."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from dataclasses import replace

from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.names import EVENTS_EXCHANGE, RECORD_QUEUE
from tests.broker.support import Worker, await_value
from tests.faults.oracle import Blow
from tests.faults.row import Need, Row
from tests.faults.rows.side_by_side import see_nobody_blamed
from tests.faults.stage import Stage

_MANY = 300
_KEYS = ("task.started.faults.tell", "task.progress.faults.tell")


def kill_child(stage: Stage) -> None:
    """Kill one of two children whose tasks tell; who ran beside is seen to run again."""
    worker = _begin(stage)
    _await_told(stage, Kind.PROGRESS)
    before = {one.pid for one in stage.account().running()}
    running = stage.account().running()
    victim = stage.random.choice(running).pid
    beside = [one.id for one in running if one.pid == victim]
    stage.blow(hit=beside)
    stage.blows.append(Blow(stage.began, {victim}))
    os.kill(victim, signal.SIGKILL)
    worker.await_event("a child process died (exit status -9) with")
    _await_told(stage, Kind.STARTED, before)
    _go(stage)


def kill_node(stage: Stage) -> None:
    """Kill the node amid them, and start it again: what could not be told is not, and the tasks go on."""
    stage.place.has_fast_statistics = False
    worker = _begin(stage)
    _await_told(stage, Kind.PROGRESS)
    processes = {one.pid for one in stage.account().running()}
    with stage.fault():
        stage.nodes.kill(1)
        stage.nodes.start(1)
    stage.blows.append(Blow(stage.began, processes, until=stage.ended))
    worker.await_event("consuming again")
    stage.wait_a_moment(0.1, 1.0)
    _go(stage)


def _begin(stage: Stage) -> Worker:
    """Have all tasks begun by two processes, and a queue that gets what they tell."""
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(RECORD_QUEUE, durable=True)
        for key in _KEYS:
            channel.queue_bind(RECORD_QUEUE, EVENTS_EXCHANGE, key)
    made = [stage.message("faults.tell", until=str(stage.folder / "go")) for _ in range(_MANY)]
    stage.submit(*(replace(message, follow="record") for message in made))
    worker = stage.worker("--concurrency", str(_MANY // 2), tasks="tests.faults.telling_jobs")
    await_value(
        lambda: len(stage.account().running()) == _MANY, f"{_MANY} tasks that have begun", stage.row.patience_seconds
    )
    return worker


def _go(stage: Stage) -> None:
    """Let all end, with nobody left who listens."""
    _take_told(stage)
    with stage.vhost.connect() as connection:
        connection.channel().queue_delete(RECORD_QUEUE)
    (stage.folder / "go").touch()


def _take_told(stage: Stage) -> list[events.Told]:
    """Take what was told, which is true: a note is the id of the task that told it."""
    all_told = [events.read(message.body) for message in stage.vhost.take(RECORD_QUEUE)]
    for told in all_told:
        if told.kind is Kind.PROGRESS:
            strange = [event for event in told.events if event["note"] != event["id"] or event["done"] < 1]
            stage.expect(not strange, f"is not what the task has told: {strange[:3]}")
    return all_told


def _await_told(stage: Stage, kind: Kind, but_by: Collection[int] = ()) -> None:
    """Wait for an event of this kind that is not about one of these processes."""

    def look() -> bool:
        told = [event for one in _take_told(stage) if one.kind is kind for event in one.events]
        return any(event.get("child") not in but_by for event in told)

    await_value(look, f"events of the kind {kind}", stage.row.patience_seconds)


def _hit(stage: Stage) -> int:
    return stage.account().cut_off(stage.blows).total()


def _row(number: int, name: str, injected: str, run: Callable[[Stage], None], *needs: Need) -> Row:
    return Row(
        number,
        name,
        injected,
        "what was begun at the blow, once more",
        run,
        _hit,
        frozenset(needs),
        afterwards=see_nobody_blamed,
        patience_seconds=120.0,
    )


ROWS = [
    _row(70, "told-kill-child", f"kill -9 of a child amid {_MANY} followed tasks that tell progress", kill_child),
    _row(
        71,
        "told-kill-node",
        f"kill -9 of the broker, and a restart, amid {_MANY} followed tasks that tell progress",
        kill_node,
        Need.NODES,
    ),
]
