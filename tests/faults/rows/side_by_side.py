"""Faults amid hundreds of tasks that wait side by side: who is to blame is found, and nobody else pays for it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from leveret import TaskMessage
from leveret.topology.message import FAILURE_HEADERS
from tests.broker.support import Worker, await_value
from tests.faults.logged import faults
from tests.faults.oracle import Blow
from tests.faults.producing import Load
from tests.faults.records import STARTED, Execution
from tests.faults.row import Need, Row
from tests.faults.rows.processes import HANDED_BACK, family_of
from tests.faults.stage import Stage

_PLACES = 300
_MANY = 1000
_RECYCLED = 2000
_LIFE = 20
_KILLS = 5
_LEAVING_SECONDS = 15.0


def kill_child(stage: Stage) -> None:
    """Kill one of two children that have begun all they can."""
    worker = _begin(stage, 2 * _PLACES)
    stage.wait_a_moment(0.1, 1.0)
    running = stage.account().running()
    victim = stage.random.choice(running).pid
    beside = [one.id for one in running if one.pid == victim]
    stage.blow(hit=beside)
    _strike(stage, {victim})
    os.kill(victim, signal.SIGKILL)
    worker.await_event("a child process died (exit status -9) with")
    _go(stage)


def crash(stage: Stage) -> None:
    """Have one task of hundreds read address 0."""
    once = stage.folder / "crash"
    culprit = stage.message("faults.crash_beside", once=str(once))
    worker = _begin(stage, 2 * _PLACES, culprit, is_last=False)
    stage.wait_a_moment(0.1, 1.0)
    _see_death(stage, worker, culprit, "(exit status -11) with", once.touch)


def block(stage: Stage) -> None:
    """Have one task of hundreds keep the loop from turning."""
    culprit = stage.message("faults.block", after_seconds=stage.random.uniform(0.3, 1.5))
    worker = _begin(stage, 2 * _PLACES, culprit)
    _see_death(stage, worker, culprit, "(exit status -9, time limit) with")


def swallow(stage: Stage) -> None:
    """Have one task of hundreds go on after it was cancelled at its time limit."""
    culprit = stage.message("faults.swallow")
    worker = _begin(stage, 2 * _PLACES, culprit)
    _see_death(stage, worker, culprit, "(exit status -9, time limit) of one task, with")


def kill_node(stage: Stage) -> None:
    """Kill the node amid a thousand, and start it again: each comes again while its first run still waits."""
    stage.place.has_fast_statistics = False
    worker = _begin(stage, _MANY)
    stage.wait_a_moment()
    processes = {one.pid for one in stage.account().running()}
    with stage.fault():
        stage.nodes.kill(1)
        stage.nodes.start(1)
    stage.blows.append(Blow(stage.began, processes, until=stage.ended))
    worker.await_event("consuming again")
    stage.wait_a_moment(0.1, 1.0)
    _go(stage)
    stage.submit(*_waiting(stage, 20))


def kill_worker(stage: Stage) -> None:
    """Kill a worker amid a thousand, its parent or all its processes; another one takes over."""
    doomed = _begin(stage, _MANY)
    stage.leaving[doomed] = -signal.SIGKILL
    stage.wait_a_moment()
    family = family_of(doomed)
    stage.blow()
    _strike(stage, family)
    for pid in family[: stage.random.choice((1, len(family)))]:
        with contextlib.suppress(ProcessLookupError):  # it has followed its parent
            os.kill(pid, signal.SIGKILL)
    _worker(stage, _MANY)
    _go(stage)


def stop(stage: Stage) -> None:
    """Tell a worker to stop amid a thousand that take longer than its grace; another one takes over."""
    doomed = _begin(stage, _MANY, SHUTDOWN_TIMEOUT_SECONDS="0.5")
    stage.leaving[doomed] = HANDED_BACK
    stage.wait_a_moment()
    stage.blow()
    _strike(stage, family_of(doomed))
    doomed.signal(signal.SIGTERM)
    doomed.wait()
    seconds = time.monotonic() - stage.began
    stage.expect(seconds < _LEAVING_SECONDS, f"it took {seconds:.1f} s to leave")
    _worker(stage, _MANY)
    _go(stage)


def kill_recycled(stage: Stage) -> None:
    """Kill a few children amid thousands of short tasks, of which each child runs twenty in its life."""
    _worker(stage, 2 * _PLACES, "--tasks-per-child", str(_LIFE))
    short = [stage.message("faults.wait_briefly", seconds=stage.random.uniform(0.02, 0.5)) for _ in range(_RECYCLED)]
    with Load(stage.publisher, stage.submissions_log, short, pause_seconds=0.0):
        while len(stage.blows) < _KILLS:
            stage.wait_a_moment(0.2, 0.8)
            victim = await_value(lambda: _one_at_work(stage), "a child at work")
            stage.blow()
            with contextlib.suppress(ProcessLookupError):  # it has run its last task
                os.kill(victim, signal.SIGKILL)
                stage.blows.append(Blow(stage.began, {victim}))


def _one_at_work(stage: Stage) -> int | None:
    """Return the process of a child that has begun something and lives."""
    processes = [one.pid for one in stage.account().running() if Path(f"/proc/{one.pid}").exists()]
    return stage.random.choice(processes) if processes else None


def _worker(stage: Stage, places: int, *options: str, **environment: Any) -> Worker:
    """Start a worker of two processes with so many places together."""
    concurrency = str(places // 2)
    return stage.worker("--concurrency", concurrency, *options, tasks="tests.faults.waiting_jobs", **environment)


def _waiting(stage: Stage, count: int) -> list[TaskMessage]:
    return [stage.message("faults.wait", until=str(_sign(stage))) for _ in range(count)]


def _sign(stage: Stage) -> Path:
    """Return the file that all tasks wait for."""
    return stage.folder / "go"


def _go(stage: Stage) -> None:
    _sign(stage).touch()


def _begin(
    stage: Stage, count: int, culprit: TaskMessage | None = None, is_last: bool = True, **environment: Any
) -> Worker:
    """Have so many tasks begun, this one among them or after all others; returns the worker, which has no more room."""
    messages = _waiting(stage, count - 1 if culprit else count)
    if culprit and not is_last:
        messages.insert(stage.random.randrange(count), culprit)
    stage.submit(*messages)
    worker = _worker(stage, count, **environment)
    _await_running(stage, len(messages))
    if culprit and is_last:
        stage.submit(culprit)
        _await_running(stage, count)
    return worker


def _await_running(stage: Stage, count: int) -> list[Execution]:
    def look() -> list[Execution] | None:
        running = stage.account().running()
        return running if len(running) == count else None

    return await_value(look, f"{count} tasks that have begun", stage.row.patience_seconds)


def _see_death(
    stage: Stage, worker: Worker, culprit: TaskMessage, how: str, provoke: Callable[[], None] = lambda: None
) -> None:
    """See the child of the culprit, which is about to do its worst, die, and let end what waits."""
    running = stage.account().running()
    pid = next(one.pid for one in running if one.id == culprit.id)
    stage.blow(hit=[one.id for one in running if one.pid == pid and one.id != culprit.id])
    stage.blows.append(Blow(math.inf, {pid}))
    provoke()
    worker.await_event(f"a child process died {how}")
    _go(stage)


def _strike(stage: Stage, pids: Collection[int]) -> None:
    """Note that these processes are struck now."""
    stage.blows.append(Blow(time.monotonic(), pids))


def _see_extra_runs(stage: Stage) -> None:
    """All but what is buried have finished, and nobody ran more often than the blows explain."""
    account = stage.account()
    beyond = account.extra_runs - account.cut_off(stage.blows)
    stage.expect(not beyond, f"ran more often than the blows explain: {beyond.most_common(5)}")
    unfinished = set(account.starts) - set(account.finished) - set(account.parked)
    stage.expect(not unfinished, f"have not finished: {sorted(unfinished)[:5]}")


def see_nobody_blamed(stage: Stage) -> None:
    """All have finished in their first attempt."""
    _see_extra_runs(stage)
    _expect_blamed(stage, set())


def see_few_blamed(stage: Stage) -> None:
    """No child ran too many; who ran alone in one that was killed has used up an attempt: at most one for each kill."""
    (most,) = Counter(one.pid for one in stage.account().executions if one.what == STARTED).most_common(1)
    stage.expect(most[1] <= _LIFE, f"process {most[0]} ran {most[1]} tasks, not {_LIFE} at most")
    _see_extra_runs(stage)
    used_up = sum(number - 1 for number in stage.account().attempts.values())
    stage.expect(used_up <= len(stage.blows), f"{len(stage.blows)} kills have used up {used_up} attempts")
    stage.expect(not stage.dead, f"in the DLQ lie {sorted(stage.account().parked)[:5]}")


def see_culprit_buried(task: str, reason: str) -> Callable[[Stage], None]:
    """Return what sees that this task alone was blamed, and lies in the DLQ for this reason after all its attempts."""

    def see(stage: Stage) -> None:
        _see_extra_runs(stage)
        _expect_blamed(stage, set(stage.account().parked))
        dead = [(json.loads(one.body)["task"], one.headers.get(f"{FAILURE_HEADERS}message", "")) for one in stage.dead]
        stage.expect([of for of, _ in dead] == [task], f"in the DLQ lie {dead[:5]}")
        for of, why in dead:
            stage.expect(reason in why, f"{of} lies in the DLQ for {why!r}")
        for task_id in stage.account().parked:
            attempts = {one.attempt for one in stage.account().executions if one.id == task_id}
            stage.expect(len(attempts) == faults.attempts, f"{task_id} was buried after its attempts {attempts}")

    return see


def _expect_blamed(stage: Stage, culprits: Collection[str]) -> None:
    blamed = {task_id for task_id, number in stage.account().attempts.items() if number > 1} - set(culprits)
    stage.expect(not blamed, f"have used up an attempt, and are not to blame: {sorted(blamed)[:5]}")
    others = set(stage.account().parked) - set(culprits)
    stage.expect(not others, f"in the DLQ lie {sorted(others)[:5]}")


def _hit(stage: Stage) -> int:
    """Return how many runs the blows have cut off."""
    return stage.account().cut_off(stage.blows).total()


_BESIDE = "what was begun in that child; each begins once more"

ROWS = [
    Row(
        40,
        "beside-kill-child",
        f"kill -9 of a child with {_PLACES} tasks begun side by side",
        _BESIDE,
        kill_child,
        _hit,
        afterwards=see_nobody_blamed,
        patience_seconds=120.0,
    ),
    Row(
        41,
        "beside-crash",
        f"one of {_PLACES} tasks side by side segfaults",
        _BESIDE,
        crash,
        _hit,
        afterwards=see_culprit_buried("faults.crash_beside", "SIGSEGV"),
        patience_seconds=120.0,
    ),
    Row(
        42,
        "beside-block",
        f"one of {_PLACES} tasks side by side keeps their event loop for ever",
        _BESIDE,
        block,
        _hit,
        afterwards=see_culprit_buried("faults.block", "the task overran its time limit"),
        patience_seconds=120.0,
    ),
    Row(
        43,
        "beside-swallow",
        f"one of {_PLACES} tasks side by side swallows its cancellation at the time limit",
        _BESIDE,
        swallow,
        _hit,
        afterwards=see_culprit_buried("faults.swallow", "the task overran its time limit"),
        patience_seconds=120.0,
    ),
    Row(
        44,
        "beside-kill-node",
        f"kill -9 of the broker, and a restart, while {_MANY} tasks wait side by side",
        "what was begun at the blow, once more",
        kill_node,
        _hit,
        frozenset({Need.NODES}),
        afterwards=see_nobody_blamed,
        patience_seconds=120.0,
    ),
    Row(
        45,
        "beside-kill-worker",
        f"kill -9 of a worker, its parent or all of it, while {_MANY} tasks wait side by side; another worker starts",
        "what was begun at the blow, once more",
        kill_worker,
        _hit,
        afterwards=see_nobody_blamed,
        patience_seconds=120.0,
    ),
    Row(
        46,
        "beside-sigterm",
        f"SIGTERM while {_MANY} tasks wait side by side, longer than the grace; another worker starts",
        "what was begun at the blow, once more",
        stop,
        _hit,
        afterwards=see_nobody_blamed,
        patience_seconds=120.0,
    ),
    Row(
        47,
        "beside-recycled",
        f"kill -9 of a child, {_KILLS} times, amid {_RECYCLED} tasks side by side of which each child runs {_LIFE}",
        "what was begun in these children; each begins once more",
        kill_recycled,
        _hit,
        afterwards=see_few_blamed,
        patience_seconds=120.0,
    ),
]
