"""Faults of schedulers: every time that was planned is fired, and if twice then with the same id."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leveret.topology.schedules import fire_id
from tests.broker.scheduling import Schedulers
from tests.broker.support import Worker, await_value
from tests.faults import logged, records
from tests.faults.jumping_schedule import OFFSET_FILE
from tests.faults.proxy import Proxy
from tests.faults.row import Need, Row
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.stage import PREFETCH, Stage

_SCHEDULES = tuple(f"tick-{number}" for number in range(5))
_KILLS = 3
_JUMPS = 4
_FARTHEST_SECONDS = 3600.0
_TAKEOVER_SECONDS = 35.0
"""The broker takes a consumer for dead after three heartbeats of 10 s."""


def kill(stage: Stage) -> None:
    """Kill the scheduler that fires, again and again; another one waits beside it each time."""
    with fired(stage) as schedulers:
        holder = start_scheduler(schedulers)
        for _ in range(_KILLS):
            waiting = schedulers.start_waiting(tasks=_TASKS)
            stage.wait_a_moment(1.0, 3.0)
            stage.breaks += 1
            stage.blow()
            holder.signal(signal.SIGKILL)
            waiting.await_event("scheduling")
            holder = waiting
        await_fires(schedulers)


def stop(stage: Stage) -> None:
    """Stop the scheduler that fires for longer than the broker waits, and let it go on when another one fires."""
    with fired(stage) as schedulers:
        holder = start_scheduler(schedulers)
        waiting = schedulers.start_waiting(tasks=_TASKS)
        stage.wait_a_moment()
        stage.breaks = 1
        with stage.fault():
            holder.signal(signal.SIGSTOP)
            waiting.await_event("scheduling")
            stage.wait_a_moment(0.0, 5.0)
            holder.signal(signal.SIGCONT)
        seconds = stage.ended - stage.began
        stage.expect(seconds <= _TAKEOVER_SECONDS + 5.0, f"another scheduler took over after {seconds:.1f} s")
        holder.await_event("lost the broker")
        await_fires(schedulers)


def stall(stage: Stage) -> None:
    """Let nothing through between the broker and the scheduler that fires, until another one fires."""
    with Proxy.before(stage.vhost.amqp_url) as proxy, fired(stage) as schedulers:
        holder = start_scheduler(schedulers, AMQP_URL=proxy.url(stage.vhost.amqp_url))
        waiting = schedulers.start_waiting(tasks=_TASKS)
        stage.wait_a_moment()
        stage.breaks = 1
        with stage.fault():
            proxy.hold()
            waiting.await_event("scheduling")
            stage.wait_a_moment(0.0, 3.0)
        proxy.heal()
        await_fires(schedulers)
        await_value(lambda: len(holder.find("another scheduler fires")) > 0, "the one that was cut off to wait")


def interrupt(stage: Stage) -> None:
    """Kill or stop the node, and start it again."""
    stage.place.has_fast_statistics = False
    end = stage.random.choice([stage.nodes.kill, stage.nodes.stop])
    with fired(stage) as schedulers:
        start_scheduler(schedulers)
        schedulers.start_waiting(tasks=_TASKS)
        time.sleep(SETTLED_SECONDS)
        stage.wait_a_moment()
        stage.breaks = 2
        with stage.fault():
            end(1)
            stage.nodes.start(1)
        await_fires(schedulers)


def jump(stage: Stage) -> None:
    """Have the clock of the scheduler that fires jump to and fro for a moment, and kill it amid a last jump."""
    offset = stage.folder / "offset"
    with fired(stage) as schedulers:
        holder = start_scheduler(schedulers, module="tests.faults.jumping_schedule", **{OFFSET_FILE: str(offset)})
        waiting = schedulers.start_waiting(tasks=_TASKS)
        stage.breaks = 1
        with stage.fault():
            for number in range(_JUMPS):
                offset.write_text(str(stage.random.choice([-1, 1]) * stage.random.uniform(60.0, _FARTHEST_SECONDS)))
                stage.wait_a_moment(1.0, 4.0)
                if number < _JUMPS - 1:
                    offset.write_text("0")
                    stage.wait_a_moment(0.0, 2.0)
        stage.expect(holder.find("this machine's clock has jumped"), "the jump was not said")
        holder.signal(signal.SIGKILL)
        waiting.await_event("scheduling")
        await_fires(schedulers)


_TASKS = "tests.faults.jobs"


@contextmanager
def fired(stage: Stage, *options: str) -> Iterator[Schedulers]:
    """Yield what starts schedulers, with a worker at work that has these options.

    Afterwards note what was planned as what has to be run.
    """
    schedulers = Schedulers(stage.vhost, stage.folder)
    schedulers.environment |= stage.workers.environment
    schedulers.write(
        "".join(
            f'[schedules.{name}]\ntask = "faults.work"\nargs = [0.001]\nqueue = "{logged.faults.name}"\n'
            'every = "1s"\nmissed = "all"\n'
            for name in _SCHEDULES
        )
    )
    stage.undo.callback(schedulers.kill_all)
    stage.worker("--prefetch", str(PREFETCH), *options)
    began = int(time.time())
    yield schedulers
    schedulers.stop_all()
    _keep_log(schedulers, stage.folder / "schedulers.log")
    fired = {str(one["id"]) for one in schedulers.fired()}
    known = {
        fire_id(name, second * 1000): second for name in _SCHEDULES for second in range(began, int(time.time()) + 1)
    }
    strange = fired - set(known)
    stage.expect(not strange, f"{len(strange)} fires are for no time between begin and end")
    seconds = sorted(known[one] for one in fired & set(known))
    for second in range(seconds[0], seconds[-1] + 1):
        for name in _SCHEDULES:
            records.append(stage.submissions_log, fire_id(name, second * 1000), records.CONFIRMED, "")


def see_none_strange(stage: Stage) -> None:
    """See that what ran was what was planned: if something was fired twice, then with the same id."""
    strange = set(stage.account().starts) - stage.account().confirmed
    stage.expect(not strange, f"{len(strange)} tasks ran that no time was planned for")


def start_scheduler(schedulers: Schedulers, module: str = "leveret", **environment: str) -> Worker:
    started = schedulers.launch(module, tasks=_TASKS, **environment)
    started.await_event("scheduling")
    await_fires(schedulers)
    return started


def await_fires(schedulers: Schedulers) -> None:
    schedulers.await_fires(3 * len(_SCHEDULES))


def _keep_log(schedulers: Schedulers, file: Path) -> None:
    file.write_text("".join(f"{event}\n" for one in schedulers.started for event in one.events))


def most_duplicates(stage: Stage) -> int:
    """Return how many fires may come twice: those of one turn for each scheduler that was cut off."""
    return stage.breaks * len(_SCHEDULES)


def most_with_the_broker(stage: Stage) -> int:
    """Return how many tasks may run twice when the broker was away: what the worker held besides."""
    return most_duplicates(stage) + PREFETCH


_BOUND = "with the same id: what was fired in the moment before"
ROWS = [
    Row(74, "schedule-kill", f"kill -9 of the scheduler that fires, {_KILLS} times; another one waits", _BOUND, kill,
        most_duplicates, afterwards=see_none_strange),
    Row(75, "schedule-stop", "SIGSTOP of the scheduler that fires, for some 30 s", _BOUND, stop,
        most_duplicates, afterwards=see_none_strange),
    Row(76, "schedule-stall", "a link of the scheduler that fires that lets nothing through", _BOUND, stall,
        most_duplicates, afterwards=see_none_strange),
    Row(77, "schedule-broker", "kill -9 or a graceful stop of the broker under two schedulers, and a start",
        f"{_BOUND}; and what the worker held, {PREFETCH}", interrupt, most_with_the_broker,
        needs=frozenset({Need.NODES}), afterwards=see_none_strange),
    Row(78, "schedule-clock", "the clock of the scheduler that fires jumps by up to an hour, to and fro; it is killed",
        _BOUND, jump, most_duplicates, afterwards=see_none_strange),
]  # fmt: skip
