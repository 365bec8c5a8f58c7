"""Tasks that take many calls at once: they are gathered, run together, and each is settled by itself."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskMessage, cancel
from leveret.topology.message import FAILURE_HEADERS
from leveret.topology.names import Priority, dlq_name
from tests.broker.batch_jobs import Row, batches, few, load_ranked, ranked
from tests.broker.support import Vhost, Worker, Workers, await_value

JOBS = "tests.broker.batch_jobs"


class Folder:
    """Where batches leave their lines."""

    def __init__(self, vhost: Vhost, path: Path) -> None:
        self._vhost = vhost
        self.path = path

    @property
    def batches(self) -> list[dict[int, int]]:
        """The attempt of each call of each batch that began, in their order."""
        return [
            {int(number): int(attempt) for number, attempt in re.findall(r" (\d+)/(\d+)", line)}
            for line in self._lines("batches")
        ]

    @property
    def processes(self) -> list[int]:
        """The process of each."""
        return [int(line.split()[0]) for line in self._lines("batches")]

    def publish(self, task: str, *numbers: int, **properties: object) -> None:
        """Submit calls of these numbers, which are their ids."""
        messages = [
            TaskMessage.create(
                f"batches.{task}",
                kwargs={"number": number, "folder": str(self.path)},
                id=f"{task}-{number}",
                route=Route.direct(batches.name),
            )
            for number in numbers
        ]
        with Publisher(self._vhost.settings) as publisher:
            assert [error for _, error in publisher.publish_many(messages) if error] == []

    def await_batches(self, count: int) -> None:
        await_value(lambda: len(self.batches) >= count, f"{count} batches")

    def _lines(self, name: str) -> list[str]:
        file = self.path / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def folder(vhost: Vhost, tmp_path: Path) -> Folder:
    vhost.declare(batches)
    return Folder(vhost, tmp_path)


def start(workers: Workers, *options: str, **more: str) -> Worker:
    return workers.start("--processes", "1", *options, queue=batches.name, tasks=[JOBS], **more)


def drain(workers: Workers, *options: str) -> Worker:
    return workers.drain("--processes", "1", *options, queue=batches.name, tasks=[JOBS])


@pytest.mark.parametrize("task", ["load", "later"])
def test_calls_run_together(vhost: Vhost, workers: Workers, folder: Folder, task: str) -> None:
    """Full batches at once; those that are left when the first of them has waited long enough."""
    folder.publish(task, *range(25))
    worker = drain(workers)
    size = 10 if task == "load" else 5

    assert [len(batch) for batch in folder.batches] == [size] * (25 // size) + ([5] if task == "load" else [])
    assert [number for batch in folder.batches for number in batch] == list(range(25))
    assert len(worker.find("done", task=f"batches.{task}")) == 25
    assert vhost.counts(batches) == {}


def test_no_process_is_kept_while_calls_are_gathered(workers: Workers, folder: Folder) -> None:
    """Another task's batch, and a plain task, run meanwhile."""
    folder.publish("slowly", 1, 2)
    folder.publish("load", *range(10))
    folder.publish("single", 7)
    worker = start(workers)
    worker.await_event("done", id="load-9")
    worker.await_event("done", id="single-7")
    assert worker.find("done", task="batches.slowly") == []

    folder.publish("slowly", *range(3, 11))  # now it is full
    worker.await_event("done", id="slowly-10")
    assert folder.batches[-1] == dict.fromkeys(range(1, 11), 1)
    assert worker.stop() == 0


def test_a_raise_fails_all_and_each_comes_back(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """By its own tier, and in the end to the DLQ."""
    folder.publish("fail", 0, 1, 2)
    drain(workers)

    assert Counter(attempt for batch in folder.batches for attempt in batch.values()) == {1: 3, 2: 3, 3: 3}
    dead = vhost.take(dlq_name(batches.name))
    assert sorted(str(one.properties.message_id) for one in dead) == ["fail-0", "fail-1", "fail-2"]
    assert {one.headers[FAILURE_HEADERS + "message"] for one in dead} == {"none of them"}


def test_some_may_fail(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """`BatchFailed` says which, and with what; the others are done, and never run again."""
    folder.publish("odd", *range(10))
    worker = drain(workers)

    runs = Counter(number for batch in folder.batches for number in batch)
    assert runs == {0: 1, 1: 3, 2: 1, 3: 3, 4: 1, 5: 3, 6: 1, 7: 3, 8: 1, 9: 1}
    assert {event["id"] for event in worker.find("done")} == {f"odd-{number}" for number in range(0, 10, 2)}
    dead = {str(one.properties.message_id): one.headers for one in vhost.take(dlq_name(batches.name))}
    assert sorted(dead) == ["odd-1", "odd-3", "odd-5", "odd-7", "odd-9"]
    assert dead["odd-9"][FAILURE_HEADERS + "type"] == "Reject"
    assert dead["odd-1"][FAILURE_HEADERS + "attempts"] == 3


def test_one_that_failed_joins_a_later_batch(workers: Workers, folder: Folder) -> None:
    """With calls that come for the first time."""
    folder.publish("odd", 1)
    worker = start(workers)
    worker.await_event("retry", id="odd-1", attempt=1)
    folder.publish("odd", 2, 4)
    worker.await_event("done", id="odd-4")

    assert await_value(lambda: any(batch.get(1) == 2 for batch in folder.batches), "the second attempt")
    assert worker.stop() == 0


def test_one_that_cannot_be_read_is_buried_alone(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """What is no call of the task, or no message at all, keeps no neighbour from running."""
    folder.publish("load", *range(4))
    vhost.publish_task(Route.direct(batches.name), "batches.load", "mistyped", number="x", folder="")
    vhost.publish(Route.direct(batches.name), b"no JSON", message_id="unreadable")
    vhost.publish(Route.direct(batches.name), b'{"task": "batches.load", "args": [1, 2]}', message_id="two")
    folder.publish("load", *range(4, 8))
    drain(workers)

    assert folder.batches == [dict.fromkeys(range(8), 1)]
    dead = {str(one.properties.message_id): one.headers for one in vhost.take(dlq_name(batches.name))}
    assert sorted(dead) == ["mistyped", "two", "unreadable"]
    assert dead["mistyped"][FAILURE_HEADERS + "message"] == "number: expected int, got str"
    assert "brings one call" in dead["two"][FAILURE_HEADERS + "message"]


def test_who_crashes_amid_a_batch_is_found(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Each runs again alone; only the culprit uses up attempts, and his neighbours run twice."""
    folder.publish("crash", *range(6))
    worker = drain(workers)

    assert worker.find("a child process died (exit status -11) with 6 tasks begun")
    assert folder.batches[0] == dict.fromkeys(range(6), 1)
    runs = Counter(number for batch in folder.batches for number in batch)
    assert runs == {0: 2, 1: 2, 2: 2, 3: 4, 4: 2, 5: 2}
    assert all(len(batch) == 1 for batch in folder.batches[1:])
    (dead,) = vhost.take(dlq_name(batches.name))
    assert dead.properties.message_id == "crash-3"
    assert "SIGSEGV" in dead.headers[FAILURE_HEADERS + "message"]


def test_the_time_limit_is_for_the_whole_batch(workers: Workers, folder: Folder) -> None:
    """All of its calls have overrun it."""
    folder.publish("overrun", 0, 1)
    worker = start(workers)
    for name in ("overrun-0", "overrun-1"):
        retry = worker.await_event("retry", id=name, attempt=1)
        assert retry["error"].startswith("TimeLimitExceeded: the task overran its time limit and was killed")


def test_one_that_waits_for_others_can_be_cancelled(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """And the others run without it."""
    folder.publish("slowly", *range(9))
    worker = start(workers)
    cancel("slowly-4", configured=vhost.settings)
    worker.await_event("cancelled", id="slowly-4")
    folder.publish("slowly", 9, 10)
    worker.await_event("done", id="slowly-10")

    assert folder.batches == [dict.fromkeys([0, 1, 2, 3, 5, 6, 7, 8, 9, 10], 1)]


def test_a_batch_that_runs_ends_when_all_of_it_is_cancelled(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """One of several is too late for that: it ends with the others."""
    folder.publish("wait", 0, 1, 2)
    worker = start(workers)
    folder.await_batches(1)
    cancel("wait-0", "wait-1", configured=vhost.settings)
    cancel("wait-2", configured=vhost.settings)
    for number in range(3):
        worker.await_event("cancelled", id=f"wait-{number}")

    folder.publish("wait", 3, 4, 5)
    folder.await_batches(2)
    cancel("wait-3", configured=vhost.settings)
    folder.publish("load", *range(1))  # behind it
    (folder.path / "go").touch()
    worker.await_event("done", id="wait-3")
    assert worker.stop() == 0


def test_a_stop_hands_back_what_waits_for_others(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """At once, and it is not counted as an attempt."""
    folder.publish("slowly", 1, 2, 3)
    worker = start(workers, "--log-level", "debug")
    await_value(lambda: vhost.count(batches.name) == 0, "the worker to take them")
    assert worker.stop() == 0

    await_value(lambda: vhost.count(batches.name) == 3, "them to come back")
    assert folder.batches == []


def test_each_call_has_a_result(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """That of its place in the list; where none is returned it is None. What runs together is told together."""
    with Publisher(vhost.settings) as publisher:
        kinds = [("load", n) for n in range(10)] + [("slowly", n) for n in range(10)]
        handles = [
            publisher.publish(
                TaskMessage.create(
                    f"batches.{task}",
                    kwargs={"number": number, "folder": str(folder.path)},
                    route=Route.direct(batches.name),
                    follow=True,
                )
            )
            for task, number in kinds
        ]
        start(workers)
        assert [handle.result(30) for handle in handles] == [*range(10), *[None] * 10]


def test_a_batch_s_progress_is_that_of_each_call(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Who follows one is told of it."""
    with Publisher(vhost.settings) as publisher:
        row = {"number": 1, "folder": str(folder.path)}
        messages = [
            TaskMessage.create("batches.wait", kwargs=row, route=Route.direct(batches.name), follow=True)
            for _ in range(3)
        ]
        handles = [publisher.publish(message) for message in messages]
        start(workers)
        await_value(lambda: all(handle.status().note == "waiting" for handle in handles), "the note of each")
        (folder.path / "go").touch()
        assert [handle.result(30) for handle in handles] == [None] * 3


def test_who_waits_is_told_at_sigusr1(workers: Workers, folder: Folder) -> None:
    """Every call of the batch that runs."""
    folder.publish("wait", 0, 1, 2)
    worker = start(workers)
    folder.await_batches(1)
    worker.signal(signal.SIGUSR1)
    for number in range(3):
        worker.await_event("still running", id=f"wait-{number}")
    (folder.path / "go").touch()
    assert worker.stop() == 0


def test_children_are_recycled_between_batches(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """A batch is not cut for it."""
    folder.publish("load", *range(60))
    drain(workers, "--tasks-per-child", "15")

    assert [len(batch) for batch in folder.batches] == [10] * 6
    assert len(set(folder.processes)) > 1
    assert vhost.counts(batches) == {}


def test_a_prefetch_below_the_batch_is_refused(workers: Workers, folder: Folder) -> None:
    """Such a worker would never fill one."""
    worker = start(workers, "--prefetch", "9")

    assert worker.wait() != 0
    assert "--prefetch 9 is fewer than the 10 calls that task 'batches." in worker.text


def test_gathering_longer_than_the_broker_waits_is_refused(workers: Workers, folder: Folder) -> None:
    """With the times that matter."""
    worker = start(workers, CONSUMER_TIMEOUT_SECONDS="100")

    assert worker.wait() != 0
    assert "gathers a batch within 30 s, but a message may wait for 12.5 s at most" in worker.text


def test_what_a_queue_lets_run_at_a_time_is_a_batch(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """Calls that have no token of its limit are no part of one."""
    vhost.declare(few)
    for number in range(9):
        row = {"number": number, "folder": str(folder.path)}
        vhost.publish_task(Route.direct(few.name), "few.load", f"few-{number}", **row)
    workers.drain("--processes", "1", queue=few.name, tasks=[JOBS])

    assert max(len(batch) for batch in folder.batches) <= 3
    assert sorted(number for batch in folder.batches for number in batch) == list(range(9))
    assert vhost.counts(few) == {}


def test_bodies_that_fill_the_memory_are_not_waited_for(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """A batch is what could be held, after its time; the rest comes later, and all of it does."""
    with Publisher(dataclasses.replace(vhost.settings, message_limit_bytes=5_000_000)) as publisher:
        for number in range(12):
            page = {"number": number, "folder": str(folder.path), "text": "x" * 4_000_000}
            publisher.publish(TaskMessage.create("batches.large", kwargs=page, route=Route.direct(batches.name)))
    workers.drain("--processes", "1", queue=batches.name, tasks=[JOBS], MESSAGE_LIMIT_BYTES="5000000")

    assert sorted(number for batch in folder.batches for number in batch) == list(range(12))
    assert len(folder.batches) > 1


def test_a_batch_takes_of_each_level_its_share(vhost: Vhost, workers: Workers, folder: Folder) -> None:
    """What is low is not left for the end."""
    vhost.declare(ranked)
    levels: tuple[Priority, ...] = ("high", "normal", "low")
    with Publisher(vhost.settings) as publisher:
        publisher.submit_many(
            load_ranked.options(priority=level).message(Row(100 * place + number, str(folder.path)))
            for number in range(20)
            for place, level in enumerate(levels)
        )
    workers.drain("--processes", "1", queue=ranked.name, tasks=[JOBS])

    numbers = [number for batch in folder.batches for number in batch]
    assert len(numbers) == 60
    assert any(number >= 200 for number in numbers[:40])
    assert vhost.counts(ranked) == {}
