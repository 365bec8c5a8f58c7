"""Faults while queues are made anew: the apply killed at each stage, the broker killed, two at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from leveret.topology.objects import Queue, objects_of
from leveret.topology.plan.moving import BATCH
from tests.faults.applying import AT
from tests.faults.logged import faults
from tests.faults.row import Need, Row
from tests.faults.stage import MARK, PREFETCH, Stage

STAGES = ("leading away", "led away", "emptying", "deleting", "deleted", "declared", "switched back", "led back",
          "moving back", "moved back")  # fmt: skip
_FORMER = {"x-delivery-limit": 999_999}
"""What the queues have before, and nobody notices."""


def _replace(stage: Stage, *wanted: Queue) -> None:
    """Put queues with other arguments in the place of those that are there, and bind them as they were."""
    table = objects_of(faults)
    with stage.vhost.connect() as connection:
        channel = connection.channel()
        for queue in wanted:
            channel.queue_delete(queue.name)
            channel.queue_declare(queue.name, durable=True, arguments={**queue.arguments, **_FORMER})
            for name, exchange, key, arguments, _ in table.bindings:
                if name == queue.name:
                    channel.queue_bind(name, exchange, key, dict(arguments))


def _apply(stage: Stage, stop_at: str = "") -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.applying", "--stop-at", stop_at],
        stdout=subprocess.PIPE,
        stderr=(stage.folder / "apply.log").open("a"),
        text=True,
        env={
            **os.environ,
            MARK: stage.mark,
            "AMQP_URL": stage.vhost.settings.amqp_url,
            "MANAGEMENT_URL": stage.vhost.settings.management_url,
        },
    )
    stage.undo.callback(process.wait)
    stage.undo.callback(process.kill)
    return process


def _said(process: subprocess.Popen[str]) -> str:
    """Wait for the next line it says."""
    assert process.stdout
    return process.stdout.readline().strip()


def _end(stage: Stage, process: subprocess.Popen[str]) -> str:
    said = _said(process)
    stage.expect(process.wait(stage.row.patience_seconds) == 0, f"apply failed: {said}")
    return said


@contextlib.contextmanager
def _under_load(stage: Stage, *queues: Queue, count: int = 500, seconds: float = 50.0) -> Iterator[None]:
    _replace(stage, *(queues or objects_of(faults).queues[:1]))
    for _ in range(2):
        stage.worker("--prefetch", str(PREFETCH), "--no-declare")
    failing = [stage.message("faults.fail", times=number % 3 + 1) for number in range(count // 10)]
    with stage.load(count, seconds, failing):
        stage.wait_a_moment()
        yield


def kill_apply(stage: Stage) -> None:
    """Kill an apply at each stage, one after the other; the next one goes on. The last one ends."""
    with _under_load(stage), stage.fault():
        for name in STAGES:
            process = _apply(stage, name)
            said = _said(process)
            if said != f"{AT} {name}":  # it had nothing to do any more at which it would have stopped
                stage.expect(process.wait() == 0, f"apply failed: {said}")
                continue
            process.kill()
            process.wait()
            stage.breaks += 1
        _end(stage, _apply(stage))


def kill_broker(stage: Stage) -> None:
    """Kill the broker at a stage of an apply, and apply again."""
    stage.place.has_fast_statistics = False
    with _under_load(stage, seconds=30.0), stage.fault():
        name = stage.random.choice(STAGES[1:])
        process = _apply(stage, name)
        said = _said(process)
        stage.nodes.kill(1)
        process.kill()
        process.wait()
        stage.nodes.start(1)
        stage.breaks += 1
        stage.expect(said.startswith(AT) or name == "moving back", f"apply said: {said}")
        _end(stage, _apply(stage))


def apply_twice(stage: Stage) -> None:
    """Have two apply at once: one says that another one does."""
    with _under_load(stage, seconds=25.0), stage.fault():
        both = [_apply(stage), _apply(stage)]
        said = [_said(process) for process in both]
        ended = sorted(process.wait() for process in both)
        stage.expect(ended == [0, 1], f"they ended with {ended}: {said}")
        stage.expect(any("another leveret apply is at work" in text for text in said), f"unclear: {said}")


def change_all(stage: Stage) -> None:
    """Make the work queue, a tier and the dead-letter queue anew, while tasks fail and are buried."""
    work, tier, *_, dlq = objects_of(faults).queues
    with _under_load(stage, work, tier, dlq, seconds=70.0), stage.fault():
        stage.submit(*(stage.message("faults.reject", seconds=0.01) for _ in range(20)))
        _end(stage, _apply(stage))


def most_doubled(stage: Stage) -> int:
    """Return how many are in two queues at most when this ends."""
    return stage.breaks * BATCH


ROWS = [
    Row(
        86,
        "apply-killed",
        f"kill -9 of leveret apply at {len(STAGES)} stages of making a queue anew, under load",
        f"{BATCH} for each kill, what was moved and not taken away yet",
        kill_apply,
        most_doubled,
        patience_seconds=120.0,
    ),
    Row(
        87,
        "apply-broker-killed",
        "kill -9 of the broker amid leveret apply, under load",
        f"what two workers and the apply held: {2 * PREFETCH + BATCH}, and a publish that had no confirm yet",
        kill_broker,
        lambda stage: stage.breaks * (2 * PREFETCH + BATCH + 1),
        needs=frozenset({Need.NODES}),
        patience_seconds=120.0,
    ),
    Row(88, "apply-twice", "two leveret apply at once, under load", "0", apply_twice, patience_seconds=120.0),
    Row(
        89,
        "apply-everything",
        "a work queue, one of its tiers and its DLQ made anew while tasks fail and are buried",
        "0",
        change_all,
        patience_seconds=240.0,
    ),
]
