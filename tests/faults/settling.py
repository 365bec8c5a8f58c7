"""Coming to rest after a fault, and what then has to be true of the broker, the workers and the machine."""

from __future__ import annotations

import signal
import time
import urllib.error
from http import HTTPStatus
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pika.exceptions

from leveret.topology.names import LIMIT_PREFIX, dlq_name
from leveret.topology.objects import control_streams, objects_of
from leveret.topology.schedules import SCHEDULES
from tests.broker.support import Worker
from tests.faults.logged import faults
from tests.faults.stage import MARK, Stage

_EXIT_SECONDS = 45.0
_CLEAN_SECONDS = 45.0
_DEAD_LETTERS_SECONDS = 240.0
"""The broker repeats a dead-lettering that was not confirmed after 180 s."""
_FRESH_SECONDS = {True: 2.5, False: 7.0}
"""How old the queues' reports may be: on nodes that were told to hurry, and on others."""
STUCK = "dead letters that are stuck"


def settle(stage: Stage, patience_seconds: float) -> None:
    """Wait until every message is executed or parked, stop the workers, and look at what is left.

    What is not as it should be is noted in the stage's problems; what is lost shows in its account.
    """
    came_to_rest = _await_rest(stage, time.monotonic() + patience_seconds)
    for worker in stage.alive:
        _note_idle(stage, worker, came_to_rest)
        worker.signal(signal.SIGTERM)
    for worker in stage.started:
        _see_out(stage, worker)
    _park(stage)
    left = _await_clean(stage) if came_to_rest else held(stage)
    stage.expect(not left, f"left on the broker: {left}")
    hot = stage.account().hot
    stage.expect(not hot, f"hot loop: {hot[:5]}")
    survivors = _processes(stage.mark)
    stage.expect(not survivors, f"processes outlived their worker: {survivors}")


def _await_rest(stage: Stage, deadline: float) -> bool:
    """Wait until nothing is missing and nothing waits or is held any more; False when that does not come.

    What a worker holds can have run to its end already, by one that was killed before its ack left.
    """
    while time.monotonic() < deadline:
        try:
            _park(stage)
            if not stage.account().missing and not _waiting(stage) and not held(stage):
                return True
        except (pika.exceptions.AMQPError, OSError):  # it may be starting still
            pass
        time.sleep(0.2)
    return False


def _waiting(stage: Stage) -> int:
    """Return how many messages are ready, in the work queue, in retry tiers and in the dead-letter queue."""
    with stage.vhost.looking() as channel:
        names = [queue.name for queue in objects_of(faults).queues]
        return sum(channel.queue_declare(name, passive=True).method.message_count for name in names)


def _park(stage: Stage) -> None:
    """Take what lies in the dead-letter queue, and note it."""
    name = dlq_name(faults.name)
    if stage.vhost.count(name):
        stage.dead += stage.vhost.take(name)


def _note_idle(stage: Stage, worker: Worker, came_to_rest: bool) -> None:
    stage.expect(came_to_rest, f"worker {worker.process.pid} is alive, but work is left undone")


def _see_out(stage: Stage, worker: Worker) -> None:
    """See a worker leave, and that its exit status is the expected one."""
    try:
        status = worker.process.wait(_EXIT_SECONDS)
    except TimeoutExpired:
        stage.problems.append(f"worker {worker.process.pid} did not leave within {_EXIT_SECONDS:g} s of SIGTERM")
        return
    expected = stage.leaving.get(worker, 0)
    if expected is not None and status != expected:
        stage.problems.append(
            f"worker {worker.process.pid} left with {status} instead of {expected}: {worker.text[-300:]!r}"
        )
    elif "Traceback" in worker.text:
        stage.problems.append(f"worker {worker.process.pid} showed a traceback: {worker.text[-600:]!r}")


def _await_clean(stage: Stage) -> dict[str, dict[str, int]]:
    """Wait until the broker holds nothing in any queue; return what it holds in vain.

    This catches what passive declares hide: messages that stay unacknowledged, and dead letters that are stuck.
    """
    began = time.monotonic()
    fresh = began + _FRESH_SECONDS[stage.place.has_fast_statistics]
    while True:
        left = held(stage)
        now = time.monotonic()
        if not left and now >= fresh:
            return left
        stuck = any(counts[STUCK] > 0 for counts in left.values())
        if left and now > began + (_DEAD_LETTERS_SECONDS if stuck else _CLEAN_SECONDS):
            return left
        time.sleep(0.25)


def held(stage: Stage) -> dict[str, dict[str, int]]:
    """Return what each queue holds, where it holds something.

    The totals come straight from the queues' own reports; the statistics beside them are sampled every five seconds.
    What is neither ready nor unacknowledged is a dead letter that nobody takes.
    """
    totals = "disable_stats=true&enable_queue_totals=true"
    try:
        queues: list[dict[str, Any]] = stage.vhost.api("GET", f"queues/{stage.vhost.name}?{totals}")
    except urllib.error.HTTPError as error:
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        # RabbitMQ 3.10 answers 500 while a node of its cluster is about to be back
        return {f"unknown, {error}": {"ready": -1, "unacknowledged": -1, STUCK: 0}}
    # they hold no tasks, and what they do on purpose
    kept = {queue.name for table in (control_streams(), SCHEDULES) for queue in table.queues}
    holding = {}
    for queue in queues:
        if queue["name"] in kept or queue["name"].startswith(LIMIT_PREFIX):  # nor do tokens, which rows look at
            continue
        total, ready, unacknowledged = (
            queue.get(kind, -1) for kind in ("messages", "messages_ready", "messages_unacknowledged")
        )
        if total:
            stuck = total - ready - unacknowledged
            holding[queue["name"]] = {"ready": ready, "unacknowledged": unacknowledged, STUCK: stuck}
    return holding


def _processes(mark: str) -> list[str]:
    """Return the processes whose environment says that they belong to this run."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{process.name} {command[:80]}")
        except OSError:  # it has ended, or is another user's
            continue
    return found
