"""Faults of who reserves the keys of unique tasks: no key is ever held by two."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from leveret import BrokerError, Publisher, QuestionError, TaskMessage
from leveret.producers.following.handle import Submitted
from tests.broker.recording import Recorders
from tests.faults import records
from tests.faults.row import Row
from tests.faults.stage import Stage

_KEYS = 40
_PRODUCERS = 4
_KILLS = 3


def kill(stage: Stage) -> None:
    """Kill the recorder a few times while several producers submit each key at once; another one takes over."""
    recorders = Recorders(stage.vhost, stage.folder)
    stage.undo.callback(recorders.kill_all)
    active = [recorders.start(), recorders.start()]
    stage.worker("--concurrency", str(_KEYS * _PRODUCERS), tasks="tests.faults.waiting_jobs")
    go = stage.folder / "go"
    publishers = [stage.undo.enter_context(Publisher(stage.vhost.settings)) for _ in range(_PRODUCERS)]
    told: dict[str, list[Submitted[object]]] = defaultdict(list)
    calls = [
        (publisher, f"key-{key}", dataclasses.replace(stage.message("faults.wait", until=str(go)), follow="record"))
        for key in range(_KEYS)
        for publisher in publishers
    ]

    def submit(call: tuple[Publisher, str, TaskMessage]) -> None:
        publisher, key, message = call
        handle = _until_answered(publisher, key, message)
        if not handle.was_already_there:
            records.append(stage.submissions_log, message.id, records.CONFIRMED, "")
        told[key].append(handle)

    with ThreadPoolExecutor(2 * _PRODUCERS) as threads:
        submitting = [threads.submit(submit, call) for call in calls]
        for _ in range(_KILLS):
            stage.wait_a_moment(0.1, 0.8)
            victim = active.pop(stage.random.randrange(len(active)))
            stage.blow()
            victim.process.kill()
            if stage.random.random() < 0.5:  # also where there is none for a while
                active.pop().process.kill()
            active.append(recorders.start())
            if len(active) < 2:
                active.append(recorders.start())
        for one in submitting:
            one.result()
    go.touch()
    _see_one_each(stage, told)


def _until_answered(publisher: Publisher, key: str, message: TaskMessage) -> Submitted[object]:
    """Submit until somebody answers, as the error advises under the same id."""
    while True:
        try:
            return publisher.publish_unique(message, key)
        except (QuestionError, BrokerError) as error:
            if f"options(id='{message.id}'" not in str(error):
                raise


def _see_one_each(stage: Stage, told: dict[str, list[Submitted[object]]]) -> None:
    for key, handles in told.items():
        accepted = [one for one in handles if not one.was_already_there]
        stage.expect(len(accepted) == 1, f"{key} was accepted {len(accepted)} times")
        stage.expect(len(set(handles)) == 1, f"{key} is held by {sorted(set(handles))}")
        stage.expect(len(handles) == _PRODUCERS, f"{key} was answered {len(handles)} times")


def see_one_run_each(stage: Stage) -> None:
    """As many tasks have run as there are keys."""
    ran = len(stage.account().starts)
    stage.expect(ran == _KEYS, f"for {_KEYS} keys {ran} tasks have run")


ROWS = [
    Row(
        79,
        "unique-kill-recorder",
        f"kill -9 of a recorder, {_KILLS} times, while {_PRODUCERS} producers submit {_KEYS} unique tasks",
        "nothing: the worker is not hit",
        kill,
        afterwards=see_one_run_each,
        patience_seconds=60.0,
    ),
]
