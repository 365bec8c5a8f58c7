"""Faults amid batches: each call is judged by itself, as if it had run alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from leveret import TaskMessage
from tests.broker.support import Worker, await_value
from tests.faults.batch_jobs import SIZE
from tests.faults.oracle import Blow
from tests.faults.producing import Load
from tests.faults.records import STARTED
from tests.faults.row import Row
from tests.faults.rows.processes import family_of
from tests.faults.stage import Stage

_MANY = 600
_KILLS = 3
_BEHIND_SECONDS = 0.3
"""How late a parent may acknowledge what has ended while it starts sixteen children, to run as many calls alone."""


def kill(stage: Stage) -> None:
    """Kill children amid batches, and in the end the worker; another one takes over."""
    doomed = _worker(stage)
    stage.leaving[doomed] = -signal.SIGKILL
    messages = [
        TaskMessage.create("faults.load", [stage.random.uniform(0.02, 0.3)], id=f"c{number:05}")
        for number in range(_MANY)
    ]
    with Load(stage.publisher, stage.submissions_log, messages, pause_seconds=0.003):
        for _ in range(_KILLS):
            stage.wait_a_moment(0.2, 0.8)
            victim = await_value(lambda: _at_work(stage), "a child at work")
            stage.blow()
            stage.blows.append(Blow(time.monotonic(), {victim}))
            with contextlib.suppress(ProcessLookupError):  # it has followed another
                os.kill(victim, signal.SIGKILL)
        await_value(lambda: _at_work(stage), "a child at work")
        family = family_of(doomed)
        stage.blow()
        for pid in family[: stage.random.choice((1, len(family)))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        doomed.wait()
        former = {pid for blow in stage.blows for pid in blow.pids}
        began = {one.pid for one in stage.account().executions}  # also in a child that was forked that very moment
        stage.blows.append(Blow(stage.began - _BEHIND_SECONDS, began - former))
        _worker(stage)


def _worker(stage: Stage) -> Worker:
    return stage.worker(tasks="tests.faults.batch_jobs")


def _at_work(stage: Stage) -> int | None:
    processes = [one.pid for one in stage.account().running() if Path(f"/proc/{one.pid}").exists()]
    return stage.random.choice(processes) if processes else None


def _hit(stage: Stage) -> int:
    """Return how many runs the blows have cut off."""
    return stage.account().cut_off(stage.blows).total()


def see_each_judged_alone(stage: Stage) -> None:
    """Nobody ran more often than the blows explain, and nobody is dead, though whom a kill met alone had failed."""
    account = stage.account()
    beyond = account.extra_runs - account.cut_off(stage.blows)
    stage.expect(not beyond, f"ran more often than the blows explain: {beyond.most_common(5)}")
    stage.expect(not stage.dead, f"in the DLQ lie {sorted(account.parked)[:5]}")
    together = max(len(ids) for ids in _begun_together(stage).values())
    stage.expect(1 < together <= SIZE, f"at most {together} ran together, and {SIZE} may")


def _begun_together(stage: Stage) -> dict[tuple[int, int], set[str]]:
    """Return what each process has begun between two ends."""
    together: dict[tuple[int, int], set[str]] = {}
    batches: dict[int, int] = {}
    was_begin: dict[int, bool] = {}
    for one in stage.account().executions:
        is_begin = one.what == STARTED
        if is_begin and not was_begin.get(one.pid):
            batches[one.pid] = batches.get(one.pid, 0) + 1
        was_begin[one.pid] = is_begin
        if is_begin:
            together.setdefault((one.pid, batches[one.pid]), set()).add(one.id)
    return together


ROWS = [
    Row(
        80,
        "batch-kill",
        f"kill -9 of a child amid a batch of up to {SIZE}, {_KILLS} times, then of the worker; another one starts",
        "what was begun in these processes; each begins once more",
        kill,
        _hit,
        afterwards=see_each_judged_alone,
        patience_seconds=120.0,
    ),
]
