"""Faults of tasks: those that kill their process, and one that kills its worker."""

from __future__ import annotations

import signal

from leveret.topology.names import dlq_name
from tests.faults.logged import faults
from tests.faults.memory import little_memory
from tests.faults.records import STARTED
from tests.faults.row import Row
from tests.faults.stage import Stage

_MOST_DELIVERIES = 21
_CLOCK_SLACK_SECONDS = 0.05


def kill_own_process(stage: Stage) -> None:
    """Submit tasks that segfault, leave, need more memory than there is, or never end."""
    group = stage.undo.enter_context(little_memory())
    stage.worker()
    poison = [stage.message(f"faults.{how}") for how in ("crash", "exit", "loop", "backtrack") for _ in range(2)]
    poison += [stage.message("faults.eat_memory", group=str(group or "")) for _ in range(2)]
    stage.hit = [message.id for message in poison]
    with stage.load(among=poison):
        stage.await_running(*stage.hit)
        stage.blow()


def be_unruly(stage: Stage) -> None:
    """Submit tasks that flood the log, and that leave a process behind, among others."""
    stage.worker()
    floods = [stage.message("faults.flood", lines=stage.random.randint(10_000, 20_000)) for _ in range(3)]
    left = [stage.message("faults.leave_process") for _ in range(3)]
    with stage.load(among=[*floods, *left]):
        stage.await_running(*(message.id for message in floods))
        stage.blow()


def see_backoff(stage: Stage) -> None:
    """Each poison ran as often as there are attempts, each time after its delay, and then was parked."""
    account = stage.account()
    for task_id in sorted(account.parked):
        starts = [one.seconds for one in account.executions if one.id == task_id and one.what == STARTED]
        stage.expect(len(starts) <= faults.attempts, f"{task_id} ran {len(starts)} times")
        for delay, earlier, later in zip(faults.retry_delays, starts, starts[1:], strict=False):
            gap = later - earlier
            stage.expect(gap >= delay - _CLOCK_SLACK_SECONDS, f"{task_id} came back after {gap:.2f} s, not {delay} s")
    poison = {one.id for one in account.executions} - set(account.finished)
    stage.expect(poison == set(account.parked), f"parked: {sorted(account.parked)}, but poison: {sorted(poison)}")


def kill_own_worker(stage: Stage) -> None:
    """Submit a task that kills its worker, and start a worker whenever one died, as a service manager does."""
    (poison,) = stage.submit(stage.message("faults.kill_worker"))
    stage.submit(*stage.messages(20))
    stage.blow()
    for _ in range(_MOST_DELIVERIES + 4):
        doomed = stage.worker(may_end=True)
        stage.leaving[doomed] = None
        while doomed.process.poll() is None:
            if stage.vhost.count(dlq_name(faults.name)):
                return
            stage.wait_a_moment(0.1, 0.1)
        stage.expect(doomed.wait() == -signal.SIGKILL, f"a worker left with {doomed.process.returncode}")
    stage.problems.append(f"{poison} still kills workers after {_MOST_DELIVERIES + 4} of them")


def see_deliveries(stage: Stage) -> None:
    """The poison was parked, and nothing else, with a number of deliveries the worker's own limit allows."""
    account = stage.account()
    poison = min(account.confirmed)
    deliveries = account.starts[poison]
    stage.expect(set(account.parked) == {poison}, f"parked instead of {poison}: {sorted(account.parked)}")
    stage.expect(deliveries <= _MOST_DELIVERIES, f"{poison} was begun {deliveries} times")


ROWS = [
    Row(
        17,
        "poison",
        "tasks that segfault, exit, eat all memory, loop for ever, or keep the GIL in C for ever",
        "1, a neighbour",
        kill_own_process,
        lambda _stage: 1,
        afterwards=see_backoff,
    ),
    Row(17, "unruly", "tasks that flood the log, and that leave a process of their own behind", "0", be_unruly),
    Row(
        18,
        "poison-for-worker",
        "a task that kills its worker's parent, which is restarted each time",
        "what was prefetched, for each kill",
        kill_own_worker,
        lambda stage: 4 * stage.account().starts[min(stage.account().confirmed)],
        afterwards=see_deliveries,
        patience_seconds=120.0,
    ),
]
