"""Workers that are asked: all answer but those that are not there, whatever they do, and nothing harms them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from leveret import Route
from leveret.topology import workers as agreement
from tests.broker.asking import ask, infos
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, child_that_runs, start_waiting_task
from tests.broker.test_worker import lose_connection

INFO = b'{"version":1,"ask":"info"}'


@pytest.fixture
def worker(vhost: Vhost, workers: Workers) -> Worker:
    vhost.declare(jobs)
    return workers.start("--processes", "1")


def name_of(vhost: Vhost, worker: Worker) -> str:
    (info,) = (info for info in infos(vhost) if info["pid"] == worker.process.pid)
    return str(info["worker"])


def test_a_worker_tells_what_it_does(vhost: Vhost, workers: Workers, worker: Worker, tmp_path: Path) -> None:
    """Also while its only process is busy: what runs, since when, by which process, and what waits behind it."""
    (idle,) = infos(vhost)
    started, go = start_waiting_task(vhost, tmp_path)
    child = child_that_runs(started)
    vhost.publish_task(Route.direct("jobs"), "jobs.fail", "behind", text="x")

    def look() -> object:
        (info,) = infos(vhost)
        return info if info["queues"][0]["waiting"] else None

    busy = await_value(look, "the second task at the worker")

    assert idle["running"] == []
    assert idle["processes"] == {"least": 1, "most": 1, "now": 1, "desired": 1}
    assert isinstance(busy, dict)
    (running,) = busy["running"]
    assert (running["id"], running["task"], running["queue"]) == ("the-id", "jobs.wait_for", "jobs")
    assert (running["pid"], running["attempt"], running["of"], running["seconds"] >= 0) == (child, 1, 3, True)
    assert [(one["pid"], one["kind"]) for one in busy["children"]] == [(child, "plain")]
    assert busy["queues"][0]["retry_delays"] == list(jobs.retry_delays)
    assert busy["memory_bytes"] > 1024 * 1024
    assert agreement.read(busy).worker == busy["worker"]
    go.touch()
    worker.await_event("done", id="the-id")


def test_what_ended_of_late_is_counted_by_how(vhost: Vhost, worker: Worker, tmp_path: Path) -> None:
    """Finished, retried and failed for good, each queue by itself."""
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "good", path=str(tmp_path / "file"))
    vhost.publish_task(Route.direct("jobs"), "jobs.reject", "bad")
    vhost.publish_task(Route.direct("jobs"), "jobs.fail_once", "again")
    worker.await_event("done", id="again")
    worker.await_event("done", id="good")
    vhost.take_one("jobs.dlq")

    (info,) = infos(vhost)
    (queue,) = info["queues"]

    assert (queue["finished"], queue["retried"], queue["failed"]) == (2, 1, 1)


def test_who_is_stopped_or_killed_does_not_answer(vhost: Vhost, workers: Workers, worker: Worker) -> None:
    """And who goes on answers again, while the others answer all the time."""
    second = workers.start("--processes", "1")
    assert len(infos(vhost, 2)) == 2

    second.signal(signal.SIGSTOP)
    assert [info["pid"] for info in infos(vhost, 1)] == [worker.process.pid]
    second.signal(signal.SIGCONT)
    assert len(infos(vhost, 2)) == 2
    second.signal(signal.SIGKILL)
    second.wait()

    assert [info["pid"] for info in infos(vhost, 1)] == [worker.process.pid]


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"version":1,"ask":"everything"}',
        b'{"version":2,"ask":"info"}',
        b'{"version":1,"ask":["info"]}',
        b"[" * 100_000,
        b'{"version":1,"ask":"info","more":"' + b"x" * 10_000_000 + b'"}',
    ],
)
def test_garbage_is_ignored_and_counted(vhost: Vhost, worker: Worker, question: bytes) -> None:
    """And the next question is answered."""
    name = name_of(vhost, worker)

    assert ask(vhost, question) == []
    assert ask(vhost, b'{"version":1,"ask":"ping"}', correlation_id="7") == [("7", {"version": 1, "worker": name})]
    assert infos(vhost)[0]["ignored_questions"] == 1


@pytest.mark.parametrize(
    "reply_to", ["jobs", "jobs.dlq", "", "amq.rabbitmq.reply-to.garbage", "tasks.reply.nobody", "x" * 255]
)
def test_an_answer_goes_to_nobody_but_who_asked(vhost: Vhost, worker: Worker, reply_to: str) -> None:
    """A queue cannot be filled by asking, and an address that nobody has harms no one."""
    for _ in range(3):
        assert ask(vhost, INFO, reply_to=reply_to) == []

    assert vhost.counts(jobs) == {}
    assert len(infos(vhost)) == 1
    assert worker.find("lost the broker") == []


def test_a_worker_without_the_rights_works_and_says_so_once(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """It consumes with its old rights, and again after its connection was lost."""
    vhost.declare(jobs)
    rights = {"read": r"^jobs(\.retry\..*)?$", "write": r"^tasks\.(direct|topic|fanout|again|dead)$"}
    with vhost.limited_user(**rights) as url:
        worker = workers.start("--no-declare", AMQP_URL=url)
        warning = worker.await_event("this worker cannot be asked")
        vhost.publish_task(Route.direct("jobs"), "jobs.write", "first", path=str(tmp_path / "file"))
        worker.await_event("done", id="first")
        lose_connection(vhost, worker)
        worker.await_event("consuming again")
        vhost.publish_task(Route.direct("jobs"), "jobs.write", "second", path=str(tmp_path / "file"))
        worker.await_event("done", id="second")

        assert warning["level"] == "warning"
        assert len(worker.find("this worker cannot be asked")) == 1


def test_a_worker_that_may_be_asked_and_not_answer_says_so_once(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """With the first question, and it is asked no more."""
    vhost.declare(jobs)
    rights = {
        "configure": r"^tasks\.worker\..+$",
        "write": r"^tasks\.(direct|topic|fanout|again|dead|worker\..+)$",
        "read": r"^(jobs(\.retry\..*)?|tasks\.(control|worker\..+))$",
    }
    with vhost.limited_user(**rights) as url:
        worker = workers.start("--no-declare", AMQP_URL=url)

        def refused() -> bool:
            assert ask(vhost, INFO, seconds=0.1) == []
            return bool(worker.find("this worker cannot be asked"))

        await_value(refused, "the warning")
        for _ in range(3):
            assert ask(vhost, INFO, seconds=0.1) == []
        vhost.publish_task(Route.direct("jobs"), "jobs.write", "work", path=str(tmp_path / "file"))
        worker.await_event("done", id="work")

        assert len(worker.find("this worker cannot be asked")) == 1
        assert worker.find("lost the broker") == []


def test_a_worker_answers_again_after_it_lost_the_broker(vhost: Vhost, worker: Worker) -> None:
    """Its queue went with the connection, and the next one brings another."""
    assert len(infos(vhost)) == 1
    lose_connection(vhost, worker)
    worker.await_event("consuming again")

    assert len(infos(vhost)) == 1
