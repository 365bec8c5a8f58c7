"""The fault matrix: a few of its rows, once each, and that it sees what is lost. `make faults` runs all, often."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.topology.local.finding import Broker
from leveret.topology.names import retry_queue
from tests.broker.support import await_value
from tests.faults.brokers import Place, opened
from tests.faults.logged import faults
from tests.faults.results import line
from tests.faults.row import Row
from tests.faults.rows import find
from tests.faults.running import run_all, run_once
from tests.faults.settling import STUCK, held
from tests.faults.stage import Stage

pytestmark = pytest.mark.once  # the matrix has these rows on every version

QUICK = (
    "kill-child",
    "kill-parent",
    "sigterm-twice",
    "queue-deleted",
    "unreadable",
    "poison",
    "producer-killed",
    "killed-while-burying",
    "no-confirm",
    "beside-crash",
)


@pytest.fixture
def place(used_broker: Broker) -> Iterator[Place]:
    """The broker of the tests, to be used and not to be broken."""
    with opened(used_broker.amqp_url, used_broker.management_url, 1) as made:
        yield made


def test_nothing_is_lost(place: Place) -> None:
    """Rows that need no power over the broker, each at a random moment, run as promised."""
    seed = random.SystemRandom().randrange(10**6)

    results = run_all(find(QUICK), place, seed, repeat=1, jobs=4, say=lambda _result: None)

    assert [line(result) for result in results if not result.is_good] == []
    assert len(results) == len(QUICK)


def test_a_stolen_message_is_a_lost_one(place: Place) -> None:
    """A message that somebody takes and does not run is found to be missing, and the run's logs are kept."""

    def steal(stage: Stage) -> None:
        stage.submit(*stage.messages(3))
        with stage.vhost.connect() as connection:
            connection.channel().basic_get(faults.name, auto_ack=True)
        stage.worker()

    result = run_once(Row(0, "stolen", "a message is stolen", "0", steal, patience_seconds=3), place, 1)

    assert result.lost == ["m00001"]
    assert not result.is_good
    assert (result.folder / "executions.log").exists()
    shutil.rmtree(result.folder)


def test_a_broken_bound_and_a_crashed_worker_are_problems(place: Place) -> None:
    """More duplicates than allowed, and a worker that ended otherwise than it should, are not passed over."""

    def twice(stage: Stage) -> None:
        worker = stage.worker()
        (message,) = stage.messages(1)
        stage.submit(message, message)
        stage.await_finished(message.id)
        worker.process.kill()
        stage.worker()

    result = run_once(Row(0, "twice", "a message is sent twice", "0", twice), place, 1)

    assert result.lost == []
    assert any("duplicates, but at most 0" in problem for problem in result.problems)
    assert any("left with -9 instead of 0" in problem for problem in result.problems)
    shutil.rmtree(result.folder)


def test_a_stuck_dead_letter_is_seen(place: Place, tmp_path: Path) -> None:
    """A message that a queue cannot hand to its dead-letter side is neither ready nor unacknowledged, and seen."""
    row = Row(0, "stuck", "the first retry tier is deleted", "0", lambda _stage: None)
    with Stage(row, place, 1, tmp_path) as stage:
        stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{retry_queue(faults.name, 1, faults.retry_delays[0])}")
        (task_id,) = stage.submit(*stage.messages(1))
        stage.vhost.fail(faults.name, task_id)

        await_value(lambda: held(stage).get(faults.name, {}).get(STUCK), "the dead letter")

        assert stage.account().missing == {task_id}
