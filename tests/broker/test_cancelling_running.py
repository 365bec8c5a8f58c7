"""Cancelling what runs: it may clean up, it cannot go on, and nobody beside it pays for that."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskCancelled, TaskMessage, WorkQueue, cancel
from tests.broker.cancelled_jobs import looped, plain, threaded
from tests.broker.support import Vhost, Worker, Workers, await_value

JOBS = "tests.broker.cancelled_jobs"
KINDS = {"plain": plain, "looped": looped, "threaded": threaded}


class Stage:
    """A worker of one process, and the folder in which tasks say that they have begun."""

    def __init__(self, vhost: Vhost, workers: Workers, path: Path) -> None:
        self.vhost = vhost
        self._workers = workers
        self.path = path

    def publish(self, queue: WorkQueue, task: str, *ids: str) -> None:
        for task_id in ids:
            self.vhost.publish_task(Route.direct(queue.name), f"{queue.name}.{task}", task_id, folder=str(self.path))

    def worker(self, queue: WorkQueue, *options: str, processes: int = 1) -> Worker:
        more = ("--threads", "20") if queue is threaded else ()
        count = ("--processes", str(processes))
        return self._workers.start(*count, *more, *options, queue=queue.name, tasks=[JOBS])

    @property
    def began(self) -> list[tuple[str, int]]:
        file = self.path / "began"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(task, int(process)) for task, _, process in map(str.split, lines)]

    def await_begun(self, count: int) -> int:
        """Wait until so many have begun, and return the process of the last."""
        return await_value(lambda: self.began if len(self.began) >= count else None, f"{count} to begin")[-1][1]

    def cancel(self, *ids: str) -> None:
        cancel(*ids, reason="enough", configured=self.vhost.settings)


@pytest.fixture
def stage(vhost: Vhost, workers: Workers, tmp_path: Path) -> Stage:
    for queue in KINDS.values():
        vhost.declare(queue)
    return Stage(vhost, workers, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_and_cleans_up(stage: Stage, kind: str) -> None:
    """Though it lets no `Exception` pass; its process goes on with the next one, and no other attempt follows."""
    queue = KINDS[kind]
    stage.publish(queue, "wait_for_cancel", "running")
    worker = stage.worker(queue)
    process = stage.await_begun(1)
    stage.cancel("running")
    event = worker.await_event("cancelled", id="running")

    assert (event["task"], event["reason"], event["attempt"]) == (f"{kind}.wait_for_cancel", "enough", 1)
    assert "error" not in event
    assert worker.find("told to end while it runs: cancelled by ", id="running")
    assert (stage.path / "cleaned").exists()
    stage.publish(queue, "wait_for_cancel", "next")
    assert stage.await_begun(2) == process
    stage.cancel("next")
    worker.await_event("cancelled", id="next")
    assert worker.stop() == 0
    assert stage.vhost.counts(queue) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_goes_on_loses_its_process(stage: Stage, kind: str) -> None:
    """After the grace; what waits runs in another."""
    queue = KINDS[kind]
    stage.publish(queue, "swallow", "stubborn")
    worker = stage.worker(queue)
    process = stage.await_begun(1)
    stage.cancel("stubborn")
    event = worker.await_event("cancelled", id="stubborn")
    stage.publish(queue, "wait_for_cancel", "next")

    assert event["seconds"] >= 2
    assert stage.await_begun(2) != process
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    stage.cancel("next")
    worker.await_event("cancelled", id="next")
    assert worker.stop() == 0
    assert stage.vhost.counts(queue) == {}


def test_one_that_holds_the_gil_loses_its_process(stage: Stage) -> None:
    """No signal reaches its code."""
    stage.publish(plain, "hold", "held")
    worker = stage.worker(plain)
    stage.await_begun(1)
    stage.cancel("held")

    assert worker.await_event("cancelled", id="held")["task"] == "plain.hold"
    assert worker.stop() == 0
    assert stage.vhost.counts(plain) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_ends_well_has_succeeded(stage: Stage, kind: str) -> None:
    """The cancel has come too late, or was taken for a sign to hurry."""
    queue = KINDS[kind]
    stage.publish(queue, "finish", "hurried")
    worker = stage.worker(queue)
    stage.await_begun(1)
    stage.cancel("hurried")
    worker.await_event("done", id="hurried", attempt=1)

    assert worker.stop() == 0
    assert not worker.find("cancelled")


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_raises_instead_is_told(stage: Stage, kind: str) -> None:
    """It is cancelled all the same."""
    queue = KINDS[kind]
    stage.publish(queue, "fail", "clumsy")
    worker = stage.worker(queue)
    stage.await_begun(1)
    stage.cancel("clumsy")

    assert worker.await_event("cancelled", id="clumsy")["error"] == "ValueError: while cleaning up"
    assert worker.stop() == 0
    assert stage.vhost.counts(queue) == {}


@pytest.mark.parametrize("kind", ["looped", "threaded"])
def test_the_neighbours_of_one_that_goes_on_run_again(stage: Stage, kind: str) -> None:
    """Once more each, and none of them has failed or used up an attempt."""
    queue = KINDS[kind]
    neighbours = [f"neighbour-{number}" for number in range(5)]
    stage.publish(queue, "swallow", "stubborn")
    stage.publish(queue, "wait_for_word", *neighbours)
    worker = stage.worker(queue)
    stage.await_begun(6)
    stage.cancel("stubborn")
    worker.await_event("cancelled", id="stubborn")
    stage.await_begun(11)
    (stage.path / "go").touch()
    for neighbour in neighbours:
        worker.await_event("done", id=neighbour, attempt=1)

    assert [task for task, _ in stage.began].count("stubborn") == 1
    assert worker.stop() == 0
    assert stage.vhost.counts(queue) == {}


@pytest.mark.parametrize("kind", ["looped", "threaded"])
def test_the_neighbours_of_one_that_ends_notice_nothing(stage: Stage, kind: str) -> None:
    """Two of four are cancelled at once."""
    queue = KINDS[kind]
    stage.publish(queue, "wait_for_cancel", "one", "two")
    stage.publish(queue, "wait_for_word", "three", "four")
    worker = stage.worker(queue)
    stage.await_begun(4)
    stage.cancel("one", "two")
    worker.await_event("cancelled", id="one")
    worker.await_event("cancelled", id="two")
    (stage.path / "go").touch()
    worker.await_event("done", id="three", attempt=1)
    worker.await_event("done", id="four", attempt=1)

    assert len(stage.began) == 4
    assert worker.stop() == 0


def test_what_waits_in_a_child_is_taken_back(stage: Stage) -> None:
    """A child may hold several that it has not begun: of these those are settled that were cancelled."""
    stage.publish(looped, "wait_for_word", "first")
    worker = stage.worker(looped, "--concurrency", "1", "--prefetch", "10")
    stage.await_begun(1)
    stage.publish(looped, "wait_for_word", "second", "third", "fourth")
    await_value(lambda: stage.vhost.count("looped") == 0, "the worker to hold all")
    stage.cancel("second", "fourth")
    worker.await_event("cancelled", id="second", task="looped.wait_for_word")
    worker.await_event("cancelled", id="fourth")
    (stage.path / "go").touch()
    worker.await_event("done", id="third", attempt=1)

    assert [task for task, _ in stage.began] == ["first", "third"]
    assert worker.stop() == 0


def test_a_coroutine_alone_in_its_child(stage: Stage) -> None:
    """It runs in the loop of a child that runs one after the other, and is cancelled there."""
    stage.publish(looped, "wait_for_cancel", "alone")
    worker = stage.worker(looped, "--concurrency", "1")
    process = stage.await_begun(1)
    stage.cancel("alone")
    worker.await_event("cancelled", id="alone")
    stage.publish(looped, "swallow", "stubborn")

    assert stage.await_begun(2) == process
    assert (stage.path / "cleaned").exists()
    stage.cancel("stubborn")
    worker.await_event("cancelled", id="stubborn")
    assert worker.stop() == 0


def test_a_worker_that_is_killed_meanwhile(stage: Stage) -> None:
    """The message comes again, and another worker knows that it was cancelled."""
    stage.publish(plain, "swallow", "stubborn")
    worker = stage.worker(plain)
    stage.await_begun(1)
    stage.cancel("stubborn")
    worker.await_event("told to end while it runs")
    worker.signal(signal.SIGKILL)
    worker.wait()
    heir = stage.worker(plain, "--until-empty")

    assert heir.wait() == 0
    assert heir.find("cancelled", id="stubborn")
    assert len(stage.began) == 1
    assert stage.vhost.counts(plain) == {}


def test_who_waits_for_the_result_is_told(stage: Stage) -> None:
    """With the reason, whether it had begun or not."""
    worker = stage.worker(plain)
    with Publisher(stage.vhost.settings) as publisher:
        running, waiting = (
            publisher.publish(
                TaskMessage.create(
                    "plain.wait_for_cancel",
                    kwargs={"folder": str(stage.path)},
                    route=Route.direct("plain"),
                    follow=True,
                )
            )
            for _ in range(2)
        )
        stage.await_begun(1)
        stage.cancel(running, waiting)
        for sent in (running, waiting):
            with pytest.raises(TaskCancelled, match="enough"):
                sent.result(timeout=30)
    assert worker.stop() == 0
