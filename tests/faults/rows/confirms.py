"""Faults between a publish and what follows from its confirm."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence

from leveret import TaskMessage
from tests.broker.support import run
from tests.faults.killed_producer import CONFIRMED, PUBLISHED
from tests.faults.row import Row
from tests.faults.stage import HELD, PREFETCH, Stage

_KILLS = 3


def kill_producer(stage: Stage) -> None:
    """Kill a producer, a few times, between a publish and its confirm; the next one submits again what is not sure."""
    stage.worker()
    messages = stage.messages(120)
    for _ in range(_KILLS):
        moment, at = stage.random.choice((PUBLISHED, CONFIRMED)), stage.random.randint(1, 35)
        killed = run_producer(stage, messages, "--kill", moment, "--at", str(at))
        stage.blow()
        stage.expect(killed.returncode == -signal.SIGKILL, f"the producer was not killed: {killed.stderr[-300:]}")
    last = run_producer(stage, messages)
    stage.expect(last.returncode == 0, f"the last producer failed: {last.stderr[-300:]}")


def run_producer(
    stage: Stage, messages: Sequence[TaskMessage], *options: str, amqp_url: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a producer of its own that submits what of these is not in the log of submissions, or is killed."""
    path = stage.folder / "messages.jsonl"
    path.write_text("".join(json.dumps([one.task, one.body.decode(), one.id]) + "\n" for one in messages))
    arguments = ("tests.faults.killed_producer", str(path), str(stage.submissions_log), *options)
    return run(*arguments, AMQP_URL=amqp_url or stage.vhost.amqp_url)


def kill_burying_worker(stage: Stage) -> None:
    """Kill a worker's parent when the copy of a dead message was confirmed, before the message is acknowledged."""
    kill_at = stage.random.randint(1, 10)
    doomed = stage.worker(
        "--prefetch", str(PREFETCH), module="tests.faults.killed_worker", KILL_AT_CONFIRM=str(kill_at)
    )
    stage.leaving[doomed] = -signal.SIGKILL
    rejected = [stage.message("faults.reject", seconds=stage.random.uniform(0, 0.02)) for _ in range(20)]
    with stage.load(among=rejected):
        doomed.wait()
        stage.blow()
        stage.worker()


ROWS = [
    Row(
        24,
        "producer-killed",
        f"kill -9 of a producer between publish and confirm, {_KILLS} times; the next submits again under the same ids",
        "1 for each kill",
        kill_producer,
        lambda _stage: _KILLS,
    ),
    Row(
        27,
        "killed-while-burying",
        "kill -9 of a worker's parent between the confirm of the copy in the DLQ and the ack",
        HELD,
        kill_burying_worker,
        Stage.held,
    ),
]
