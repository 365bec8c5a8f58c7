"""Tiny tasks run in batches; what a batch must not change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskMessage
from leveret.topology.message import new_id
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers, attempt_of, await_value


def submit_writes(vhost: Vhost, path: Path, count: int, *others: TaskMessage) -> set[str]:
    """Submit tiny tasks with others in the middle; returns the ids of the tiny ones."""
    tiny = [TaskMessage.create("jobs.write", kwargs={"path": str(path)}) for _ in range(count)]
    messages = [*tiny[: count // 2], *others, *tiny[count // 2 :]]
    with Publisher(vhost.settings) as publisher:
        assert [error for _, error in publisher.publish_many(messages) if error] == []
    return {message.id for message in tiny}


def runs(path: Path) -> Counter[str]:
    """How often each task wrote its line."""
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


@pytest.mark.parametrize("task", ["jobs.exit", "jobs.crash", "jobs.loop"])
def test_a_crash_in_a_batch_costs_one_attempt_of_one_task(
    vhost: Vhost, workers: Workers, tmp_path: Path, task: str
) -> None:
    """When a task kills its process amid a batch, every other task of the batch runs exactly once."""
    vhost.declare(jobs)
    poison = [TaskMessage.create(task) for _ in range(3)]
    ids = submit_writes(vhost, tmp_path / "ran", 600, *poison)

    worker = workers.drain("--prefetch", "700")

    assert runs(tmp_path / "ran") == Counter(ids)
    retries = {(one.id, attempt): 1 for one in poison for attempt in ((1, 3), (2, 3))}
    assert Counter((retry["id"], attempt_of(retry)) for retry in worker.find("retry")) == retries
    assert vhost.ids_in(dlq_name(jobs.name)) == sorted(one.id for one in poison)
    assert vhost.counts(jobs) == {}


def test_tiny_tasks_do_not_wait_behind_a_slow_one(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """While one child runs a slow task, the other does everything that came with it and after it."""
    vhost.declare(jobs)
    go, started = tmp_path / "go", tmp_path / "started"
    slow = TaskMessage.create("jobs.wait_for", kwargs={"path": str(go), "started": str(started)})
    ids = submit_writes(vhost, tmp_path / "ran", 600, slow)

    worker = workers.start("--processes", "2", "--prefetch", "700")
    await_value(lambda: runs(tmp_path / "ran").keys() == ids, "every tiny task")

    assert worker.find("done", id=slow.id) == []
    assert runs(tmp_path / "ran") == Counter(ids)
    go.touch()
    worker.await_event("done", id=slow.id)


def test_stopping_hands_back_what_a_batch_has_not_begun(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Told to stop while a slow task runs in a batch, the worker finishes that one and hands back the rest."""
    vhost.declare(jobs)
    go, started = tmp_path / "go", tmp_path / "started"
    slow = TaskMessage.create("jobs.wait_for", kwargs={"path": str(go), "started": str(started)})
    ids = submit_writes(vhost, tmp_path / "ran", 600, slow)
    worker = workers.start("--processes", "1", "--prefetch", "700")
    await_value(started.exists, "the slow task to start")

    worker.process.terminate()
    await_value(lambda: vhost.count(jobs.name), "what was not begun back in the queue")
    go.touch()

    assert worker.wait() == 0
    ran = runs(tmp_path / "ran")
    assert set(ran) < ids
    assert vhost.counts(jobs) == {jobs.name: 600 - len(ran)}
    workers.drain()
    assert runs(tmp_path / "ran") == Counter(ids)


def test_prefetch_grows_with_tiny_tasks(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Left to itself a worker comes to hold many tiny tasks, and loses none while its consumer is replaced."""
    vhost.declare(jobs)
    ids = submit_writes(vhost, tmp_path / "ran", 3000)

    workers.drain()

    assert runs(tmp_path / "ran") == Counter(ids)
    assert vhost.counts(jobs) == {}


def test_a_worker_killed_amid_batches_loses_nothing(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Kill the parent while tiny tasks fly: everything runs, and what runs twice was in flight."""
    vhost.declare(jobs)
    ids = submit_writes(vhost, tmp_path / "ran", 3000)
    first = workers.start("--prefetch", "200")
    await_value(lambda: len(runs(tmp_path / "ran")) > 300, "some of the work")
    first.process.kill()
    first.wait()

    workers.drain()

    ran = runs(tmp_path / "ran")
    assert set(ran) == ids
    assert sum(ran.values()) - len(ids) <= 200
    assert vhost.counts(jobs) == {}


def test_failures_amid_successes_are_told_apart(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """In a batch of successes each failing task is retried, and no other."""
    vhost.declare(jobs)
    failing = [TaskMessage.create("jobs.fail_once", id=new_id()) for _ in range(20)]
    ids = submit_writes(vhost, tmp_path / "ran", 400, *failing)
    vhost.publish_task(Route.direct(jobs.name), "jobs.reject", "rejected")

    worker = workers.drain()

    assert {event["id"] for event in worker.find("retry")} == {one.id for one in failing}
    assert {event["id"] for event in worker.find("done", attempt=2, of=3)} == {one.id for one in failing}
    assert runs(tmp_path / "ran") == Counter(ids)
    assert [dead.properties.message_id for dead in vhost.take(dlq_name(jobs.name))] == ["rejected"]
