"""Pausing a work queue: nothing of it is taken, by no worker, until somebody has it go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leveret import MessageError, Route, pause, resume
from leveret.topology.names import PAUSED_QUEUE
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, Worker, Workers, await_value, run, start_waiting_task


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file in which tasks write that they ran."""
    return tmp_path / "ran"


def runs(ran: Path) -> list[str]:
    return [line.split()[0] for line in ran.read_text().splitlines()] if ran.exists() else []


def write(vhost: Vhost, ran: Path, *ids: str) -> None:
    for task_id in ids:
        vhost.publish_task(Route.direct("jobs"), "jobs.write", task_id, path=str(ran))


def hold(vhost: Vhost, reason: str = "") -> None:
    pause("jobs", reason=reason, configured=vhost.settings)


def go_on(vhost: Vhost) -> None:
    resume("jobs", configured=vhost.settings)


def test_what_runs_ends_and_the_rest_waits(vhost: Vhost, workers: Workers, tmp_path: Path, ran: Path) -> None:
    """What the worker held and had not begun is handed back; after a resume it is taken again, as its first attempt."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start("--processes", "1", "--prefetch", "10")
    await_value(started.exists, "the task to start")
    write(vhost, ran, "one", "two", "three")
    await_value(lambda: vhost.count("jobs") == 0, "the worker to hold them")
    hold(vhost, "the relay\nis down")
    paused = worker.await_event("paused by ", queue="jobs")
    assert paused["message"].endswith(": the relay\\nis down")
    assert "@" in paused["message"]
    await_value(lambda: vhost.count("jobs") == 3, "what was held to be handed back")
    go.touch()
    worker.await_event("done", id="the-id")
    write(vhost, ran, "four")

    assert vhost.count("jobs") == 4
    assert runs(ran) == []
    go_on(vhost)
    worker.await_event("resumed by ", queue="jobs")
    for name in ("one", "two", "three", "four"):
        worker.await_event("done", id=name, attempt=1)
    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}


@pytest.mark.parametrize("options", [(), ("--prefetch", "1"), ("--prefetch", "50")])
def test_a_worker_that_starts_later_knows(vhost: Vhost, workers: Workers, ran: Path, options: tuple[str, ...]) -> None:
    """It says so, and takes nothing until the queue goes on; of another queue it takes at once."""
    vhost.declare(jobs)
    hold(vhost, "before it started")
    write(vhost, ran, "one", "two")
    worker = workers.start(*options)
    assert worker.await_event("paused by ", queue="jobs")["message"].endswith(": before it started")
    write(vhost, ran, "three")

    assert vhost.count("jobs") == 3
    shown = run("leveret", "info", "jobs", "--json", "--tasks", JOBS, AMQP_URL=vhost.amqp_url)
    assert '"reason": "before it started"' in shown.stdout
    go_on(vhost)
    for name in ("one", "two", "three"):
        worker.await_event("done", id=name)
    assert worker.stop() == 0
    assert sorted(runs(ran)) == ["one", "three", "two"]


def test_the_last_word_counts(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """However often it was paused before."""
    vhost.declare(jobs)
    for _ in range(3):
        hold(vhost)
        go_on(vhost)
    write(vhost, ran, "one")
    worker = workers.drain()

    assert runs(ran) == ["one"]
    assert not worker.find("paused")


def test_a_lost_link_changes_nothing(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """A worker that comes again takes nothing of a paused queue, and still hears that it goes on."""
    vhost.declare(jobs)
    worker = workers.start()
    hold(vhost)
    worker.await_event("paused by ")
    close_connections(vhost, worker)
    worker.await_event("consuming again")
    write(vhost, ran, "one")

    assert vhost.count("jobs") == 1
    go_on(vhost)
    worker.await_event("done", id="one")
    assert worker.stop() == 0


def close_connections(vhost: Vhost, worker: Worker) -> None:
    """Have the broker close what consumes."""

    def found() -> list[str]:
        said = vhost.api("GET", f"vhosts/{vhost.name}/connections")
        role = "leveret worker of"
        return [
            one["name"] for one in said if one.get("client_properties", {}).get("connection_name", "").startswith(role)
        ]

    from urllib.parse import quote

    for name in await_value(found, "the worker's connection"):
        vhost.api("DELETE", f"connections/{quote(name, safe='')}")
    worker.await_event("lost the broker")


def test_the_verbs(vhost: Vhost) -> None:
    """The queue may be named by its DLQ; what is paused, and what to do next, is said."""
    vhost.declare(jobs)
    paused = run("leveret", "pause", "jobs.dlq", "--reason", "why", "--json", AMQP_URL=vhost.amqp_url)
    resumed = run("leveret", "resume", "jobs", AMQP_URL=vhost.amqp_url)

    assert (paused.returncode, json.loads(paused.stdout)) == (0, {"queue": "jobs", "paused": True})
    assert paused.stderr == "jobs is paused: workers finish what runs, and take again after leveret resume jobs\n"
    assert (resumed.returncode, resumed.stdout) == (0, "")
    assert resumed.stderr == "jobs goes on: workers take from it again\n"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_wrong_name_is_answered_with_the_nearest(vhost: Vhost, verb: str) -> None:
    """And nothing is said to workers."""
    vhost.declare(jobs)
    environment = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    near = run("leveret", verb, "jbos", **environment)
    far = run("leveret", verb, "a\x1b[2J", **environment)

    assert (near.returncode, near.stdout) == (1, "")
    assert "there is no queue 'jbos' on the broker at " in near.stderr
    assert near.stderr.endswith("; did you mean 'jobs'?\n")
    assert (far.returncode, "\x1b" in far.stderr) == (1, False)
    assert PAUSED_QUEUE not in vhost.queues()


def test_from_python_a_name_is_checked(vhost: Vhost) -> None:
    """Before anybody is asked."""
    with pytest.raises(MessageError, match="the name of the queue is empty"):
        pause("", configured=vhost.settings)
    with pytest.raises(MessageError, match="is longer than the 255 bytes"):
        resume("x" * 256, configured=vhost.settings)
