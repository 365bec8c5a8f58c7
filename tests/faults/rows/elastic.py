"""Faults while the number of child processes follows the work."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.broker.support import Worker, await_value
from tests.faults.oracle import Blow
from tests.faults.producing import Load
from tests.faults.row import Row
from tests.faults.rows.processes import family_of
from tests.faults.stage import Stage

_MOST = 4
_KILLS = 3
_BURST = 120
_TASKS_SECONDS = (0.02, 0.3)


def kill_while_they_grow_and_shrink(stage: Stage) -> None:
    """Kill children amid a burst, by which there are more and more, and one while they become fewer; twice."""
    worker = stage.worker("--processes", f"1:{_MOST}")
    for turn in range(2):
        _burst(stage)
        await_value(lambda turn=turn: len(_changes(worker, "fewer")) > turn, "fewer processes", 90.0)  # type: ignore[misc]
        _kill(stage, stage.random.choice(family_of(worker)[2:]))
    grown = _changes(worker, "more")
    stage.expect(len(grown) >= 2, f"it grew {len(grown)} times in two bursts")


def _burst(stage: Stage) -> None:
    burst = [stage.message("faults.work", seconds=stage.random.uniform(*_TASKS_SECONDS)) for _ in range(_BURST)]
    with Load(stage.publisher, stage.submissions_log, burst, pause_seconds=0.0):
        for _ in range(_KILLS):
            stage.wait_a_moment(0.2, 1.0)
            _kill(stage, stage.await_running().pid)
    stage.await_finished(*(message.id for message in burst))


def _kill(stage: Stage, victim: int) -> None:
    stage.blow()
    with contextlib.suppress(ProcessLookupError):  # it was let go a moment ago
        os.kill(victim, signal.SIGKILL)
        stage.blows.append(Blow(stage.began, {victim}))


def _changes(worker: Worker, which: str) -> list[tuple[int, int]]:
    """Return how the number changed, each time to more, or to fewer."""
    found = []
    for event in worker.find("from "):
        before, after = (int(event["message"].split()[at]) for at in (1, 3))
        if (after > before) == (which == "more"):
            found.append((before, after))
    return found


def see_bounds_kept(stage: Stage) -> None:
    """No more ran at a time than may, and who was killed was replaced."""
    for worker in stage.started:
        wrong = [change for change in _changes(worker, "more") if change[1] > _MOST]
        wrong += [change for change in _changes(worker, "fewer") if change[1] < 1]
        stage.expect(not wrong, f"the number of processes left its bounds: {wrong}")


def _cut_off(stage: Stage) -> int:
    return stage.account().cut_off(stage.blows).total()


ROWS = [
    Row(
        61,
        "elastic-kill-child",
        f"kill -9 of a child, {2 * _KILLS + 2} times, while its worker grows to {_MOST} processes and shrinks again",
        "what was begun in that child, once more",
        kill_while_they_grow_and_shrink,
        _cut_off,
        afterwards=see_bounds_kept,
        patience_seconds=120.0,
    ),
]
