"""Faults while the tokens of limits are held: a worker killed or stopped, the broker killed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from leveret import TaskMessage
from leveret.topology.names import at_once_tokens, rate_tokens
from tests.broker.support import Worker, await_value
from tests.faults.producing import Load
from tests.faults.records import STARTED
from tests.faults.row import Need, Row
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.rows.processes import family_of
from tests.faults.stage import HELD, PREFETCH, Stage

_JOBS = "tests.faults.limited_jobs"
_AT_ONCE, _PER_SECOND = 3, 20
_TOKENS = {at_once_tokens("faults-few"): _AT_ONCE, rate_tokens("faults-paced", 1): _PER_SECOND}
_KILLS = 3
_FEW, _PACED, _LOAD_SECONDS = 60, 60, 4.0
_HEARTBEAT_SECONDS = "1"
_STOPPED_SECONDS = 8.0
_LOOKS, _LOOK_SECONDS = 10, 0.2


class _Run(NamedTuple):
    """An execution: in which process, from when to when, as far as it ended."""

    pid: int
    began: float
    ended: float


def kill_holders(stage: Stage) -> None:
    """Kill workers that hold tokens, one after the other, each of which another one follows."""
    workers = [_worker(stage) for _ in range(2)]
    for _ in range(_KILLS):
        with _load(stage):
            stage.wait_a_moment()
            stage.await_running()
            doomed = workers.pop(0)
            stage.leaving[doomed] = -signal.SIGKILL
            with stage.fault():
                stage.breaks += 1
                doomed.process.kill()
                doomed.wait()
            workers.append(_worker(stage))


def kill_broker(stage: Stage) -> None:
    """Kill the node while tokens are held and on their way, and start it again."""
    stage.place.has_fast_statistics = False
    for _ in range(2):
        _worker(stage)
    time.sleep(SETTLED_SECONDS)
    with _load(stage):
        stage.wait_a_moment()
        stage.await_running()
        with stage.fault():
            stage.breaks = 2
            stage.nodes.kill(1)
            stage.nodes.start(1)


def stop_holder(stage: Stage) -> None:
    """Stop a worker, its children as well, for longer than the heartbeat, while it holds tokens."""
    stopped, _ = _worker(stage), _worker(stage)
    with _load(stage):
        stage.wait_a_moment()
        stage.await_running()
        family = family_of(stopped)
        with stage.fault():
            stage.breaks = 1
            with _all_stopped(family):
                time.sleep(_STOPPED_SECONDS)


@contextlib.contextmanager
def _all_stopped(processes: Sequence[int]) -> Iterator[None]:
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def _worker(stage: Stage) -> Worker:
    return stage.worker("--prefetch", str(PREFETCH), tasks=_JOBS, HEARTBEAT_SECONDS=_HEARTBEAT_SECONDS)


def _load(stage: Stage) -> Load:
    messages: list[TaskMessage] = [
        *(stage.message("faults.few", seconds=stage.random.uniform(0.05, 0.3)) for _ in range(_FEW)),
        *(stage.message("faults.paced") for _ in range(_PACED)),
    ]
    stage.random.shuffle(messages)
    return Load(stage.publisher, stage.submissions_log, messages, _LOAD_SECONDS / len(messages))


def _is_few(task_id: str) -> bool:
    """Whether a message is one of those of which so many may run at once; its id tells the order of making."""
    return (int(task_id[1:]) - 1) % (_FEW + _PACED) < _FEW


def see_tokens(stage: Stage) -> None:
    """All tokens lie in their queues, none was lost and none doubled, and stay there."""
    for queue, count in _TOKENS.items():
        found: list[int] = []

        def look(queue: str = queue, count: int = count, found: list[int] = found) -> bool:
            found.append(stage.vhost.count(queue))
            return found[-_LOOKS:] == [count] * _LOOKS

        try:
            await_value(look, f"{count} tokens in {queue}", 20.0)
        except AssertionError:
            stage.problems.append(f"{queue} has {found[-1]} tokens, and there are {count}")


def see_limits_kept(stage: Stage, but: Callable[[_Run], bool] = lambda _run: False) -> None:
    """Never more ran at once than may, of those that count."""
    see_tokens(stage)
    runs = [run for run in _runs(stage) if not but(run)]
    changes = sorted([(run.began, 1) for run in runs] + [(run.ended, -1) for run in runs])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    stage.expect(most <= _AT_ONCE, f"{most} ran at once, and {_AT_ONCE} may")


def see_limits_kept_by_others(stage: Stage) -> None:
    """A task that was held up, or whose worker lost the broker, ran on without its token; nothing else did."""
    see_limits_kept(stage, lambda run: run.began < stage.ended and run.ended > stage.began)


def _runs(stage: Stage) -> list[_Run]:
    """Return the executions of tasks of which so many may run at once: of those that were cut off none."""
    open_runs: dict[tuple[str, int], float] = {}
    runs: list[_Run] = []
    for one in stage.account().executions:
        if one.what == STARTED:
            open_runs[one.id, one.pid] = one.seconds
        elif (one.id, one.pid) in open_runs and _is_few(one.id):
            runs.append(_Run(one.pid, open_runs[one.id, one.pid], one.seconds))
    return runs


def _held_each_time(stage: Stage) -> int:
    return stage.breaks * PREFETCH


ROWS = [
    Row(
        71,
        "kill-token-holder",
        f"kill -9 of a worker that holds tokens of limits, {_KILLS} times",
        f"{HELD}, each time",
        kill_holders,
        _held_each_time,
        afterwards=see_limits_kept,
        patience_seconds=120.0,
    ),
    Row(
        72,
        "tokens-kill-broker",
        "kill -9 of the broker while tokens of limits are held and on their way",
        f"{HELD}, of both workers",
        kill_broker,
        _held_each_time,
        needs=frozenset({Need.NODES}),
        afterwards=see_limits_kept_by_others,
        patience_seconds=240.0,
    ),
    Row(
        73,
        "stop-token-holder",
        "SIGSTOP of a worker that holds tokens of limits, and its children, beyond the heartbeat, then SIGCONT",
        HELD,
        stop_holder,
        _held_each_time,
        afterwards=see_limits_kept_by_others,
        patience_seconds=120.0,
    ),
]
