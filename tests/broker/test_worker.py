"""A worker's life: start, running until all is done, stop, being killed, losing its broker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskMessage
from leveret.topology.message import new_id
from leveret.topology.names import dlq_name
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.other_jobs import others
from tests.broker.support import (
    JOBS,
    Restart,
    Vhost,
    Worker,
    Workers,
    attempt_of,
    await_value,
    child_that_runs,
    children_of,
    is_alive,
    run,
    start_waiting_task,
)

STOPPED, HANDED_BACK = 0, 3


def test_declares_what_it_needs(workers: Workers, vhost: Vhost) -> None:
    """On a fresh broker a worker declares its queues and consumes."""
    worker = workers.start()

    assert worker.find("consuming")
    assert vhost.count("jobs.retry.2.after.600ms") == 0


def test_without_declaring_a_missing_queue_is_an_error(workers: Workers) -> None:
    """With --no-declare a queue that nobody declared is one clear line and exit status 1."""
    worker = workers.start("--no-declare")

    assert worker.wait() == 1
    assert "no queue 'jobs' in vhost" in worker.text
    assert "leveret declare" in worker.text
    assert "Traceback" not in worker.text


def test_no_right_to_declare(vhost: Vhost, workers: Workers) -> None:
    """Without the configure right the worker says so; with --no-declare it works."""
    vhost.declare(jobs)
    user = f"{vhost.name}-worker"
    vhost.api("PUT", f"users/{user}", {"password": "secret", "tags": ""})
    vhost.api("PUT", f"permissions/{vhost.name}/{user}", {"configure": "^$", "write": "^tasks", "read": "^jobs"})
    url = vhost.amqp_url.replace(f"//{vhost.user}:", f"//{user}:secret@x:").split("@x:")
    limited = url[0] + "@" + url[1].partition("@")[2]
    try:
        refused = workers.start(AMQP_URL=limited)
        assert refused.wait() == 1
        assert "--no-declare" in refused.text
        assert "secret" not in refused.text

        vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")
        worker = workers.drain("--no-declare", AMQP_URL=limited)
        assert [attempt_of(event) for event in worker.find("done")] == [(2, 3)]
    finally:
        vhost.api("DELETE", f"users/{user}")


def test_sigterm_finishes_what_runs(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Told to stop, a worker finishes the running task, acknowledges it and leaves with status 0."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail", "not-begun")
    worker = workers.start("--processes", "1", "--prefetch", "5")
    await_value(started.exists, "the task to start")

    worker.signal(signal.SIGTERM)
    await_value(lambda: vhost.count(jobs.name), "what was not begun back in the queue")
    go.touch()

    assert worker.wait() == STOPPED
    assert [event["id"] for event in worker.find("done")] == ["the-id"]
    assert vhost.counts(jobs) == {"jobs": 1}


def test_second_sigterm_hands_back(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Told twice, a worker gives the running task back to the queue, kills it, and says so with its exit status."""
    vhost.declare(jobs)
    started, _ = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child = child_that_runs(started)

    worker.signal(signal.SIGTERM)
    worker.await_event("SIGTERM: finishing")
    worker.signal(signal.SIGTERM)

    assert worker.wait() == HANDED_BACK
    assert not is_alive(child)
    assert vhost.counts(jobs) == {"jobs": 1}


def test_shutdown_timeout_hands_back(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A task that does not finish within the shutdown timeout goes back to the queue."""
    vhost.declare(jobs)
    started, _ = start_waiting_task(vhost, tmp_path)
    worker = workers.start(SHUTDOWN_TIMEOUT_SECONDS="0.2")
    await_value(started.exists, "the task to start")

    assert worker.stop() == HANDED_BACK
    assert vhost.counts(jobs) == {"jobs": 1}


def test_ctrl_c_stops_the_parent_only(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Ctrl-C reaches every process of a terminal; the running task is finished all the same."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child = child_that_runs(started)

    os.kill(child, signal.SIGINT)
    worker.signal(signal.SIGINT)
    worker.await_event("SIGINT: finishing")
    go.touch()

    assert worker.wait() == STOPPED
    assert [event["id"] for event in worker.find("done")] == ["the-id"]


def test_killed_parent_takes_its_children_along(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """When the parent is killed, its children die too and the message is delivered again."""
    vhost.declare(jobs)
    started, _ = start_waiting_task(vhost, tmp_path)
    worker = workers.start()
    child = child_that_runs(started)

    worker.process.kill()

    await_value(lambda: not is_alive(child), "the child's end")
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")


def test_heartbeats_hold_while_a_task_holds_the_gil(vhost: Vhost, workers: Workers) -> None:
    """A task that holds the GIL for many heartbeats loses no connection and runs once."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.hold_gil", "the-id", seconds=6)

    worker = workers.drain(HEARTBEAT_SECONDS="1")

    assert [attempt_of(event) for event in worker.find("done", id="the-id")] == [(1, 3)]
    assert worker.find("lost the broker") == []


def close_connections(vhost: Vhost, name: str) -> None:
    """Close every connection whose name begins like this in the virtual host, as an operator can."""
    for connection in vhost.api("GET", f"vhosts/{vhost.name}/connections"):
        if connection["client_properties"].get("connection_name", "").startswith(name):
            with contextlib.suppress(urllib.error.HTTPError):  # it is gone meanwhile
                vhost.api("DELETE", f"connections/{connection['name'].replace(' ', '%20').replace('>', '%3E')}")


def lose_connection(vhost: Vhost, worker: Worker) -> None:
    def look() -> bool:
        close_connections(vhost, f"leveret worker of {jobs.name} at ")
        return bool(worker.find("lost the broker"))

    await_value(look, "the worker to notice")


def test_lost_connection_costs_no_task(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A closed connection is said once; the worker comes back by itself and everything is done."""
    worker = workers.start()
    ran = tmp_path / "ran"
    ids = [new_id() for _ in range(50)]
    for task_id in ids[:25]:
        vhost.publish_task(Route.direct(jobs.name), "jobs.write", task_id, path=str(ran))
    lose_connection(vhost, worker)
    for task_id in ids[25:]:
        vhost.publish_task(Route.direct(jobs.name), "jobs.write", task_id, path=str(ran))

    for task_id in ids:
        worker.await_event("done", id=task_id)
    assert worker.stop() == STOPPED
    assert {line.split()[0] for line in ran.read_text().splitlines()} == set(ids)
    assert vhost.counts(jobs) == {}
    assert "Traceback" not in worker.text


def test_sigterm_finishes_what_runs_of_a_lost_connection(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Its message was delivered again, and goes back; the run ends by itself, and nothing is said to be unfinished."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start("--processes", "1")
    await_value(started.exists, "the task to start")
    lose_connection(vhost, worker)
    worker.await_event("consuming again")

    worker.signal(signal.SIGTERM)
    worker.await_event("SIGTERM: finishing 1 running task(s)")
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")
    go.touch()

    assert worker.wait() == STOPPED
    assert worker.find("finished, but the connection it came by is gone", id="the-id")
    assert worker.find("handed back unfinished") == []


@pytest.mark.parametrize(
    ("victim", "number", "status", "said"),
    [
        ("worker", signal.SIGTERM, 0, "stopped"),
        ("forkserver", signal.SIGKILL, 1, "the process that forks children died"),
    ],
)
def test_an_end_is_noticed_while_the_broker_does_not_answer(
    victim: str, number: signal.Signals, status: int, said: str
) -> None:
    """Something listens at its address, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}/"
        worker = subprocess.Popen(
            [sys.executable, "-m", "consumers.run", "--queue", jobs.name, "--tasks", JOBS, "--no-declare"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "AMQP_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = silent.accept()
        (forkserver,) = children_of(worker.pid)
        os.kill(worker.pid if victim == "worker" else forkserver, number)
        _, log = worker.communicate()
        connection.close()

    assert worker.returncode == status, log
    assert said in log
    assert "Traceback" not in log
    assert "never retrieved" not in log


def test_what_could_not_be_buried_is_handed_back(vhost: Vhost, workers: Workers) -> None:
    """A copy that the DLQ has not confirmed leaves the message in its queue, and the exit status says so."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        connection.channel().queue_delete(dlq_name(jobs.name))
    vhost.publish_task(Route.direct(jobs.name), "jobs.reject", "the-id")
    worker = workers.start("--no-declare", SHUTDOWN_TIMEOUT_SECONDS="0.2")
    worker.await_event("keeping the-id")

    assert worker.stop() == HANDED_BACK
    assert worker.find("stopped", handed_back=1)
    assert vhost.count(jobs.name) == 1


def test_deleted_queue_comes_back(vhost: Vhost, workers: Workers) -> None:
    """When the work queue is deleted under it, the worker declares it again and goes on."""
    worker = workers.start()
    with vhost.connect() as connection:
        connection.channel().queue_delete(jobs.name)
    worker.await_event("lost the broker")
    worker.await_event("consuming again")

    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")
    worker.await_event("done", id="the-id")


def test_two_queues_at_once(vhost: Vhost, workers: Workers) -> None:
    """One worker serves several queues."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "the-id")
    worker = workers.drain(
        "--queue", "others", "--queue", "jobs", tasks=("tests.broker.jobs", "tests.broker.other_jobs")
    )

    assert [event["queue"] for event in worker.find("done")] == ["jobs"]


@pytest.mark.parametrize(
    "options",
    [
        ["jobs", "others", "--until-empty"],
        ["jobs,others", "--until-empty"],
        ["jobs", "--queue", "others", "--until-empty"],
        ["--until-empty"],
        ["--queue", "others,jobs", "--drain"],
    ],
)
def test_ways_to_name_queues(vhost: Vhost, workers: Workers, options: list[str]) -> None:
    """As arguments, as options, or as all of the modules'; and ending when they are empty has a former name."""
    vhost.declare(jobs, others)
    for queue in (jobs, others):
        vhost.publish_task(Route.direct(queue.name), "jobs.fail_once", f"in-{queue.name}")

    ended = run("leveret", "run", *options, "-a", f"{JOBS},tests.broker.other_jobs", **workers.environment)

    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert vhost.counts(jobs) == vhost.counts(others) == {}


def test_coroutines_run(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """An `async def` task runs and knows its attempt."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.later_write", "the-id", path=str(tmp_path / "ran"))

    workers.drain()

    assert (tmp_path / "ran").read_text().startswith("the-id 1 ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_reason_not_to_work(
    closed: str, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """As some service managers start a process; what is printed goes nowhere, and not into a connection."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.write", "the-id", path=str(tmp_path / "ran"))
    command = f"{sys.executable} -m consumers.run --queue jobs --tasks {JOBS} --until-empty {closed}"

    assert subprocess.call(command, shell=True, env=workers.environment, cwd=CHECKOUT) == STOPPED
    assert (tmp_path / "ran").read_text().startswith("the-id 1 ")


def test_a_thread_of_a_task_module_does_not_keep_the_worker(workers: Workers, tmp_path: Path) -> None:
    """When its work is done it ends, with its own exit status."""
    (tmp_path / "lingering.py").write_text(
        "import threading\nfrom tests.broker.jobs import jobs\n"
        "threading.Thread(target=threading.Event().wait, name='lingerer').start()\n"
    )
    worker = workers.start(tasks=["lingering"], PYTHONPATH=f"{tmp_path}:{CHECKOUT}")

    assert worker.stop() == STOPPED
    assert worker.find("stopped")
    assert worker.find("ending without waiting for threads of task modules: lingerer")


def test_errors_before_work_are_one_line(vhost: Vhost, tmp_path: Path) -> None:
    """What keeps a worker from starting is said in one line that names it, with exit status 1."""
    (tmp_path / "broken_tasks.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "twice.py").write_text(
        "from leveret import WorkQueue, task\nq = WorkQueue('q')\n"
        "@task('q.a', queue=q)\ndef one(): pass\n@task('q.a', queue=q)\ndef two(): pass\n"
    )
    path = {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}", "AMQP_URL": vhost.amqp_url}
    wrong = vhost.amqp_url.replace(f"{vhost.user}:", f"{vhost.user}:no")
    for environment, options, text in (
        (path, ["--queue", "words", "--tasks", "no_such_module"], "there is no module 'no_such_module'"),
        (path, ["--queue", "words", "--tasks", "broken_tasks"], "RuntimeError: not today"),
        (path, ["--queue", "q", "--tasks", "twice"], "task 'q.a' is defined twice"),
        (path, ["--queue", "wrods"], "no task module is named"),
        (path, ["wrods", "--tasks", "leveret.consumers.samples"], "did you mean 'words'?"),
        ({**path, "AMQP_URL": "amqp://localhost:1/"}, ["--queue", "words"], "does not answer"),
        ({**path, "AMQP_URL": wrong}, ["--queue", "words"], "refused user"),
        ({**path, "AMQP_URL": vhost.amqp_url + "-nope"}, ["--queue", "words"], "has no virtual host"),
        ({**path, "AMQP_URL": "localhost"}, ["--queue", "words"], "is no AMQP URL"),
        ({**path, "HEARTBEAT_SECONDS": "soon"}, ["--queue", "words"], "HEARTBEAT_SECONDS"),
    ):
        ended = run("consumers.run", *options, **environment)

        assert ended.returncode == 1, (options, ended)
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("leveret run: ")]
        assert text in line
        assert "Traceback" not in ended.stderr


@pytest.mark.alone
def test_broker_restart_costs_no_task(vhost: Vhost, workers: Workers, tmp_path: Path, restart_broker: Restart) -> None:
    """When the broker stops and starts amid the work, the worker comes back and every task is done."""
    vhost.declare(jobs)
    ran = tmp_path / "ran"
    ids = [new_id() for _ in range(200)]
    messages = [TaskMessage.create("jobs.write", kwargs={"path": str(ran)}, id=task_id) for task_id in ids]
    worker = workers.start()
    with Publisher(vhost.settings) as publisher:
        assert [error for _, error in publisher.publish_many(messages[:100]) if error] == []
        restart_broker()
        assert [error for _, error in publisher.publish_many(messages[100:]) if error] == []

    for task_id in ids:
        worker.await_event("done", id=task_id)
    worker.await_event("consuming again")
    assert len(worker.find("lost the broker")) == 1
    assert "Traceback" not in worker.text
    assert worker.stop() == STOPPED
    assert {line.split()[0] for line in ran.read_text().splitlines()} == set(ids)
    assert vhost.counts(jobs) == {}
