"""Faults of the recorder and of what it writes to: the work goes on, and nothing is missing of the record."""

from __future__ import annotations

import dataclasses
import resource
import time
from collections import Counter

from leveret import Settings, State, TaskMessage
from leveret.consumers.recorder import looking
from leveret.consumers.recorder.store import Store
from leveret.producers.following.handle import Submitted, gather
from leveret.topology.message import Follow
from tests import postgresql
from tests.broker.recording import Recorders
from tests.broker.support import Worker
from tests.faults import records
from tests.faults.row import Row
from tests.faults.stage import Stage

_MANY = 5000
_FEW = 1500
_AT_ONCE = 250
_KILLS = 3
_ROOM_BYTES = 64 * 1024


def kill(stage: Stage) -> None:
    """Kill the recorder a few times amid thousands of tasks; another one is started each time."""
    recorders = recorders_of(stage)
    recorder = recorders.start()
    _worker(stage)
    handles: list[Submitted[None]] = []
    for kill_number in range(_KILLS):
        _submit(stage, _MANY // _KILLS, handles)
        stage.wait_a_moment(0.0, 0.5)
        stage.blow()
        recorder.process.kill()
        if kill_number % 2:  # with and without a moment in which nobody records
            stage.wait_a_moment(0.0, 1.0)
        recorder = recorders.start()
    _submit(stage, _AT_ONCE, handles)
    see_recorded(stage, sqlite_of(stage), handles)


def fill(stage: Stage) -> None:
    """Leave the recorder's file no room to grow for a while."""
    recorder = recorders_of(stage).start()
    _worker(stage)
    handles: list[Submitted[None]] = []
    _submit(stage, _AT_ONCE, handles)
    stage.wait_a_moment(0.0, 0.5)
    with stage.fault():
        _, most = resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (_ROOM_BYTES, most))
        _submit(stage, _FEW, handles)
        recorder.await_event("the record in")
        stage.await_finished(*handles)  # the work does not wait for the record
        resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (most, most))
    _submit(stage, _AT_ONCE, handles)
    see_recorded(stage, sqlite_of(stage), handles)
    said = recorder.find("the record in")
    stage.expect(len(said) == 1, f"the recorder said {len(said)} times that its record is full")
    stage.expect(recorder.process.poll() is None, "the recorder has ended")


def restart_database(stage: Stage) -> None:
    """Stop PostgreSQL as a crash would, amid what is written, and start it again."""
    programs = postgresql.find_programs()
    assert programs, "no PostgreSQL is installed: apt-get install postgresql"
    cluster = stage.undo.enter_context(postgresql.running(programs))
    url = cluster.make_database()
    recorder = recorders_of(stage).start(RECORD_URL=url)
    _worker(stage)
    handles: list[Submitted[None]] = []
    _submit(stage, _FEW, handles)
    stage.wait_a_moment(0.0, 0.5)
    with stage.fault():
        cluster.stop()
        _submit(stage, _FEW, handles)
        stage.wait_a_moment()
        cluster.start()
    _submit(stage, _AT_ONCE, handles)
    see_recorded(stage, Settings(record_url=url), handles)
    stage.expect(recorder.process.poll() is None, "the recorder has ended")


def stay_away(stage: Stage) -> None:
    """Have no recorder while the tasks run: who waits gets the results, and the next recorder gets the events."""
    recorders = recorders_of(stage)
    recorders.start().stop()  # what it takes from is there
    _worker(stage)
    handles: list[Submitted[None]] = []
    stage.blow()
    _submit(stage, _FEW, handles)
    waited_for: list[Submitted[None]] = []
    _submit(stage, _FEW, waited_for, waits=True)
    gather(waited_for, timeout=stage.row.patience_seconds)
    stage.await_finished(*handles)
    recorders.start()
    see_recorded(stage, sqlite_of(stage), [*handles, *waited_for])


def recorders_of(stage: Stage) -> Recorders:
    made = Recorders(stage.vhost, stage.folder)
    stage.undo.callback(made.kill_all)
    return made


def sqlite_of(stage: Stage) -> Settings:
    return Settings(output_dir=stage.folder / "output")


def _worker(stage: Stage) -> Worker:
    return stage.worker("--concurrency", "50", tasks="tests.faults.waiting_jobs")


def _submit(stage: Stage, count: int, handles: list[Submitted[None]], waits: bool = False) -> None:
    """Submit so many short tasks, a batch at a time, that the record follows, and this process where it waits."""
    follow: Follow = True if waits else "record"
    while count > 0:
        messages = [dataclasses.replace(_message(stage), follow=follow) for _ in range(min(_AT_ONCE, count))]
        made = stage.publisher.submit_many(messages)
        for one in made:
            records.append(stage.submissions_log, one.id, records.CONFIRMED, "", synced=False)
        handles.extend(made)
        count -= len(messages)


def _message(stage: Stage) -> TaskMessage:
    return stage.message("faults.wait_briefly", seconds=stage.random.uniform(0.001, 0.05))


def see_recorded(stage: Stage, configured: Settings, handles: list[Submitted[None]]) -> None:
    """Wait until all are recorded as what they are, with their results."""
    stage.await_finished(*handles)
    store = Store(configured)
    ids = [one.id for one in handles]

    def states() -> Counter[str]:
        found = looking.find(store, ids)
        return Counter(f"{one.state} without a result" if one.result is None else str(one.state) for one in found)

    try:
        whole = Counter({str(State.SUCCEEDED): len(ids)})
        deadline = time.monotonic() + stage.row.patience_seconds
        while states() != whole and time.monotonic() < deadline:
            time.sleep(0.1)
        stage.expect(states() == whole, f"of {len(ids)} tasks the record has {dict(states())}")
    finally:
        store.close()


ROWS = [
    Row(
        57,
        "record-kill",
        f"kill -9 of the recorder, {_KILLS} times amid {_MANY} followed tasks",
        "nothing: the worker is not hit",
        kill,
        patience_seconds=60.0,
    ),
    Row(
        58,
        "record-full",
        f"the disk of the record is full while {_FEW} followed tasks end",
        "nothing: the worker is not hit",
        fill,
        patience_seconds=60.0,
    ),
    Row(
        59,
        "record-database",
        f"PostgreSQL crashes and comes back while {2 * _FEW} followed tasks are recorded",
        "nothing: the worker is not hit",
        restart_database,
        patience_seconds=60.0,
    ),
    Row(
        60,
        "record-away",
        f"no recorder runs while {2 * _FEW} followed tasks do, half of them waited for",
        "nothing: the worker is not hit",
        stay_away,
        patience_seconds=60.0,
    ),
]
