"""What the broker would take back unfinished is handed back before; and a queue that was replaced is noticed."""

from __future__ import annotations

from pathlib import Path

from leveret import Publisher, Route
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers, attempt_of, await_value, start_waiting_task


def test_what_waits_too_long_is_handed_back(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """It goes to another worker, at the same attempt, and does not come back before a process is free for it."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    busy = workers.start("--processes", "1", "--prefetch", "10", CONSUMER_TIMEOUT_SECONDS="8")
    await_value(started.exists, "the task that waits")
    done = tmp_path / "done"
    for number in range(5):
        vhost.publish_task(Route.direct("jobs"), "jobs.write", f"id-{number}", path=str(done))

    busy.await_event("handing back", queue="jobs")
    await_value(lambda: vhost.count("jobs") == 5, "all that waited in the queue again")
    other = workers.start("--processes", "1")
    await_value(lambda: done.exists() and len(done.read_text().splitlines()) == 5, "the tasks, in the other worker")
    go.touch()

    assert attempt_of(busy.await_event("done", id="the-id")) == (1, 3)
    assert [line.split()[:2] for line in sorted(done.read_text().splitlines())] == [
        [f"id-{number}", "1"] for number in range(5)
    ]
    assert (busy.stop(), other.stop()) == (0, 0)
    assert vhost.counts(jobs) == {}


def test_what_was_handed_back_is_run_when_a_process_is_free(
    vhost: Vhost, publisher: Publisher, workers: Workers, tmp_path: Path
) -> None:
    """By the same worker, once, when the task that kept it waiting has ended; and all that follows."""
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start("--processes", "2", CONSUMER_TIMEOUT_SECONDS="8")
    vhost.publish_task(Route.direct("jobs"), "jobs.wait_for", "another", path=str(go), started=str(started))
    await_value(started.exists, "the task that waits")
    done = tmp_path / "done"
    publisher.submit_many("jobs.write", [{"path": str(done)}] * 20)

    worker.await_event("handing back", queue="jobs")
    await_value(lambda: vhost.count("jobs") == 20, "all that waited in the queue again")
    go.touch()

    await_value(lambda: done.exists() and len(done.read_text().splitlines()) == 20, "the tasks")
    handed_back = [int(event["message"].split()[2]) for event in worker.find("handing back")]
    assert sum(handed_back) == 2  # each it held for a process, once; in one go, unless the machine is busy
    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}


def test_a_task_that_may_outlast_the_consumer_timeout_is_named(vhost: Vhost, workers: Workers) -> None:
    """The broker would take its message back while it runs."""
    vhost.declare(jobs)

    worker = workers.start(CONSUMER_TIMEOUT_SECONDS="60")

    worker.await_event("a run of task jobs.", level="warning")
    assert worker.stop() == 0


def test_a_queue_deleted_and_declared_again_at_once_is_served(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """RabbitMQ before 4.0 does not cancel the consumer then, and hands messages to one that is no more."""
    vhost.declare(jobs)
    worker = workers.start()
    done = tmp_path / "done"
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "before", path=str(done))
    await_value(done.exists, "the first task")

    with vhost.connect() as connection:
        connection.channel().queue_delete("jobs")
    vhost.declare(jobs)
    for number in range(10):
        vhost.publish_task(Route.direct("jobs"), "jobs.write", f"after-{number}", path=str(done))

    await_value(lambda: len(done.read_text().splitlines()) == 11, "the tasks of the new queue")
    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}
