"""`leveret info`: who is there and what waits, for people and machines, with whatever rights the account has."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from leveret import Route
from leveret.topology.settings import CHECKOUT
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, Workers, await_value, child_that_runs, run, start_waiting_task
from tests.broker.test_worker import close_connections
from tests.unit.test_worker_info import queue_told, told


def environment(vhost: Vhost, **more: str) -> dict[str, str]:
    return {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url, **more}


def info(vhost: Vhost, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run("leveret", "info", *arguments, **environment(vhost, **more))


def look(vhost: Vhost, *arguments: str, **more: str) -> dict[str, Any]:
    """Look once, and return what it says to machines."""
    ended = info(vhost, "--json", *arguments, **more)

    assert (ended.returncode, ended.stderr) == (0, "")
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def await_look(vhost: Vhost, wanted: Callable[[dict[str, Any]], object], *arguments: str) -> dict[str, Any]:
    """Look until it is as wanted."""

    def there() -> dict[str, Any] | None:
        found = look(vhost, *arguments)
        return found if wanted(found) else None

    return await_value(there, "the look that is wanted")


def test_workers_are_told_whether_busy_or_idle_and_not_when_they_are_gone(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """One computes, one is idle, one is stopped: two answer in time. One that is killed vanishes by itself."""
    vhost.declare(jobs)
    busy, idle, stopped = (workers.start("--processes", "1") for _ in range(3))
    started, go = start_waiting_task(vhost, tmp_path)
    child = child_that_runs(started)
    await_look(vhost, lambda found: len(found["workers"]) == 3)

    stopped.signal(signal.SIGSTOP)
    found = look(vhost)
    stopped.signal(signal.SIGKILL)
    stopped.wait()

    pids = {busy.process.pid, idle.process.pid, stopped.process.pid}
    seen = {one["pid"] for one in found["workers"]}
    runs = found["running"]
    if stopped.process.pid == _parent(child):  # it was given the task: then it is the others that answer
        assert runs == []
    else:
        assert [(one["id"], one["pid"]) for one in runs] == [("the-id", child)]
    assert seen == pids - {stopped.process.pid}
    assert len(look(vhost)["workers"]) == 2
    go.touch()


def _parent(child: int) -> int:
    """The worker of a child: its parent's parent, the process between forks children."""

    def parent_of(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    return parent_of(parent_of(child))


def test_how_far_a_task_has_come_is_told(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """By its own word, as long as it runs."""
    vhost.declare(jobs)
    workers.start_with(
        "import leveret\n"
        "@leveret.task('jobs.steps', queue=jobs)\n"
        "def steps(path: str, started: str) -> None:\n"
        "    leveret.progress(3, 4, 'pages')\n"
        "    wait_for(path, started)\n",
        "--processes",
        "1",
    )
    go = tmp_path / "go"
    vhost.publish_task(Route.direct("jobs"), "jobs.steps", "steps", path=str(go), started=str(tmp_path / "started"))

    found = await_look(vhost, lambda found: found["running"] and found["running"][0]["progress"])

    assert found["running"][0]["progress"] == {"done": 3.0, "total": 4.0, "note": "pages"}
    go.touch()


def test_a_paused_queue_says_by_whom_and_why(vhost: Vhost, workers: Workers) -> None:
    """As long as it is."""
    vhost.declare(jobs)
    workers.start("--processes", "1")
    said = {"version": 1, "at": time.time(), "by": "ops@desk", "reason": "the shop is closed"}
    vhost.publish(Route("tasks.control", "pause"), json.dumps({"pause": "jobs", **said}).encode())

    found = await_look(vhost, lambda found: found["queues"][0]["paused"])

    assert [(one["kind"], one["text"]) for one in found["warnings"]] == [
        ("paused", "paused by ops@desk: the shop is closed")
    ]
    vhost.publish(Route("tasks.control", "pause"), json.dumps({"resume": "jobs", **said}).encode())
    await_look(vhost, lambda found: not found["queues"][0]["paused"])


def test_what_waits_is_counted_where_it_is(vhost: Vhost, workers: Workers) -> None:
    """Ready, in a tier, dead; and that no worker takes it, until one does."""
    vhost.declare(jobs)
    for number in range(3):
        vhost.publish_task(Route.direct("jobs"), "jobs.write", f"id-{number}", path="/dev/null")
    vhost.publish_task(Route.dead("jobs"), "jobs.fail", "dead")

    found = look(vhost, "-a", JOBS, "jobs.dlq")
    (queue,) = found["queues"]

    assert (queue["name"], queue["ready"], queue["retrying"], queue["dead"]) == ("jobs", 3, 0, 1)
    assert (queue["workers"], queue["oldest_seconds"], queue["empty_in_seconds"]) == (0, None, None)
    assert [(one["kind"], one["about"]) for one in found["warnings"]] == [("no_worker", "jobs")]
    assert found["desired_processes"] == 1
    workers.drain()
    (queue,) = look(vhost, "-a", JOBS, "jobs")["queues"]
    assert (queue["ready"], queue["retrying"], queue["dead"], queue["empty_in_seconds"]) == (0, 0, 1, 0.0)


def test_the_oldest_is_as_old_as_its_message_says(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """What waits at a worker tells how long, by the time its publisher put on it."""
    vhost.declare(jobs)
    workers.start("--processes", "1")
    started, go = start_waiting_task(vhost, tmp_path)
    child_that_runs(started)
    body = json.dumps({"task": "jobs.write", "kwargs": {"path": "/dev/null"}}).encode()
    vhost.publish(Route.direct("jobs"), body, message_id="behind", timestamp=1_700_000_000)

    found = await_look(vhost, lambda found: found["queues"][0]["waiting"])

    assert found["queues"][0]["oldest_seconds"] > 80_000_000
    go.touch()


def test_without_the_management_api_amqp_tells_what_it_can(vhost: Vhost, workers: Workers) -> None:
    """One line says what is missing, and why."""
    vhost.declare(jobs)
    workers.start("--processes", "1")

    found = look(vhost, MANAGEMENT_URL="http://127.0.0.1:9/")
    (queue,) = found["queues"]

    assert (queue["ready"], queue["in_per_second"], len(found["workers"])) == (0, None, 1)
    assert [note.partition(":")[0] for note in found["notes"]] == ["IN/s is not known"]
    assert look(vhost)["queues"][0]["in_per_second"] == 0.0


def test_with_the_management_api_no_silence_is_waited_for(vhost: Vhost, workers: Workers) -> None:
    """It knows how many there are to answer."""
    vhost.declare(jobs)
    workers.start("--processes", "1")

    assert look(vhost)["notes"] == []


def test_who_has_no_rights_sees_no_workers_and_is_told_so(vhost: Vhost, workers: Workers) -> None:
    """What may be counted is counted all the same, and nothing is called missing."""
    vhost.declare(jobs)
    workers.start("--processes", "1")
    with vhost.limited_user(read=r"^jobs(\..*)?$") as url:
        found = look(vhost, "-a", JOBS, "jobs", AMQP_URL=url)

    assert found["workers"] == []
    assert [one["kind"] for one in found["warnings"]] == []
    assert any("workers cannot be asked" in note for note in found["notes"])
    assert [queue["workers"] for queue in found["queues"]] == [None]
    assert any("IN/s is not known" in note for note in found["notes"])


@pytest.mark.alone
def test_in_an_alarm_nothing_false_is_said_of_workers(vhost: Vhost, workers: Workers, control: BrokerControl) -> None:
    """The broker takes no question then, so nobody can answer; what may be counted is counted."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1")
    worker.signal(signal.SIGSTOP)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "one", path="/dev/null")
    with control.memory_alarm():
        found = await_look(vhost, lambda found: any("in an alarm" in note for note in found["notes"]), "-a", JOBS)
        page = info(vhost, "-a", JOBS).stdout
    worker.signal(signal.SIGCONT)

    (queue,) = found["queues"]
    assert (queue["workers"], found["warnings"]) == (None, [])
    assert "workers not known" in page.splitlines()[0]


def test_a_user_who_may_ask_sees_all(vhost: Vhost, workers: Workers) -> None:
    """It takes a queue of its own for the answers, the right to ask, and to read what it counts."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1")
    own = r"tasks\.reply\..+"
    rights = {
        "configure": f"^{own}$",
        "write": rf"^({own}|tasks\.control)$",
        "read": rf"^({own}|tasks\.events|jobs(\..*)?)$",
    }
    with vhost.limited_user(**rights) as url:
        found = look(vhost, AMQP_URL=url)

    assert [one["pid"] for one in found["workers"]] == [worker.process.pid]
    assert [one["ready"] for one in found["queues"]] == [0]


def test_a_worker_with_few_rights_can_be_asked(vhost: Vhost, workers: Workers) -> None:
    """What it takes: its own queue, to bind it, and to answer."""
    vhost.declare(jobs)
    rights = {
        "configure": r"^tasks\.worker\..+$",
        "write": r"^tasks\.(direct|topic|fanout|again|dead|events|worker\..+)$",
        "read": r"^(jobs(\.retry\..*)?|tasks\.(control|worker\..+))$",
    }
    with vhost.limited_user(**rights) as url:
        worker = workers.start("--no-declare", AMQP_URL=url)
        found = await_look(vhost, lambda found: found["workers"])

        assert [one["pid"] for one in found["workers"]] == [worker.process.pid]
        assert worker.find("this worker cannot be asked") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("jbos", "-a", JOBS), "there is no queue 'jbos'; did you mean 'jobs'?"),
        (("nothing\x1b[31m",), r"there is no queue 'nothing\x1b[31m'; there are: none"),
        (("q" * 300,), "255"),
        (("-a", "nix"), "there is no module 'nix'"),
    ],
)
def test_a_wrong_name_is_one_clear_error(vhost: Vhost, arguments: tuple[str, ...], said: str) -> None:
    """With the nearest one there is."""
    vhost.declare(jobs)
    ended = info(vhost, *arguments)

    assert ended.returncode == 1
    assert ended.stderr.startswith("leveret info: ")
    assert said in ended.stderr
    assert "\x1b" not in ended.stderr
    assert ended.stdout == ""


def test_a_queue_that_nobody_here_knows_is_counted(vhost: Vhost) -> None:
    """It is on the broker; which tiers it has is not known."""
    vhost.declare(jobs)
    (queue,) = look(vhost, "jobs")["queues"]

    assert (queue["ready"], queue["retrying"], queue["dead"]) == (0, None, 0)


def test_no_broker_is_one_clear_error(vhost: Vhost) -> None:
    """It names the broker and what to do."""
    ended = info(vhost, AMQP_URL="amqp://guest:guest@127.0.0.1:9/")

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "127.0.0.1:9" in ended.stderr


@contextlib.contextmanager
def answering(vhost: Vhost, *answers: bytes) -> Iterator[None]:
    """Answer every question as workers would, with these."""
    opened = threading.Event()
    connection = vhost.connect()

    def serve() -> None:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "tasks.control", "ask.workers")

        def answer(_channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
            for body in answers:
                sent = pika.BasicProperties(correlation_id=properties.correlation_id)
                channel.basic_publish("tasks.events", properties.reply_to, body, sent)

        channel.basic_consume(queue, answer, auto_ack=True)
        opened.set()
        channel.start_consuming()

    thread = threading.Thread(target=serve)
    thread.start()
    assert opened.wait(30)
    try:
        yield
    finally:
        connection.add_callback_threadsafe(lambda: connection._impl._channels[1]._cookie.stop_consuming())
        thread.join(30)
        connection.close()


def test_forged_answers_reach_no_terminal(vhost: Vhost) -> None:
    """What is no answer is told of, and what is one is shown without its control characters."""
    vhost.declare(jobs)
    evil = "\x1b]0;owned\x07\u202e"
    good = json.dumps(told(worker=evil, queues=[queue_told(name="jobs")])).encode()
    with answering(vhost, good, b"\xff", b"[" * 50_000, b'{"version":1,"error":"\\u001b[31m"}', b"x" * 1_000_000):
        shown = info(vhost, MANAGEMENT_URL="http://127.0.0.1:9/")  # where it is not known that one is there to answer
        found = look(vhost)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(line.isprintable() for line in shown.stdout.split("\n"))
    assert r"\x1b]0;owned" in shown.stdout
    assert "an answer that no worker gives" in shown.stdout
    assert [one["worker"] for one in found["workers"]] == [evil]
    assert found["queues"][0]["name"] == "jobs"


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self._master, slave = pty.openpty()
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TERM": "xterm", "COLUMNS": "100", "LINES": "30", **more}
        env.pop("NO_COLOR", None) if "NO_COLOR" not in more else None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "leveret", *arguments],
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=CHECKOUT,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it has ended, and the terminal with it
            while data := os.read(self._master, 65536):
                self.text += data.decode()

    def end(self) -> int:
        """Press Ctrl-C; returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        self._reader.join(30)
        os.close(self._master)
        return status


def test_watch_draws_over_what_it_drew_until_ctrl_c(vhost: Vhost) -> None:
    """In colour where something needs a look, and without a traceback at the end."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "one", path="/dev/null")
    screen = Screen("info", "--watch", "--every", "0.2", "-a", JOBS, "jobs", **environment(vhost))
    try:
        await_value(lambda: screen.text.count("\x1b[H") >= 3, "the third picture")
    finally:
        status = screen.end()

    assert status == 130
    assert screen.text.count("\x1b[2J") == 1
    assert "\x1b[33m! jobs: no worker takes it" in screen.text
    assert "Traceback" not in screen.text


def test_no_colour_where_it_is_not_wanted(vhost: Vhost) -> None:
    """By NO_COLOR."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "one", path="/dev/null")
    screen = Screen("info", "--watch", "-a", JOBS, "jobs", **environment(vhost, NO_COLOR="1"))
    try:
        await_value(lambda: "no worker takes it" in screen.text, "the picture")
    finally:
        screen.end()

    assert not re.search(r"\x1b\[\d+m", screen.text)


def test_watch_into_a_pipe_is_plain_and_survives_a_lost_broker(vhost: Vhost, tmp_path: Path) -> None:
    """One object a look; what goes wrong between two is said on stderr."""
    vhost.declare(jobs)
    said = tmp_path / "said"
    with said.open("w") as stderr:
        watching = subprocess.Popen(
            [sys.executable, "-m", "leveret", "info", "--watch", "--every", "0.2", "--json", "-a", JOBS, "jobs"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **environment(vhost)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=CHECKOUT,
        )
    looks: list[Any] = []
    assert watching.stdout
    lines = watching.stdout
    reader = threading.Thread(target=lambda: looks.extend(map(json.loads, lines)), daemon=True)
    reader.start()

    def has_lost() -> bool:
        close_connections(vhost, "leveret info")
        return "looking again" in said.read_text()

    try:
        await_value(lambda: looks, "a look")
        await_value(has_lost, "a lost link")
        before = len(looks)
        await_value(lambda: len(looks) > before, "a look after that")
    finally:
        watching.send_signal(signal.SIGINT)
        status = watching.wait(30)
        reader.join(30)

    assert {one["queues"][0]["name"] for one in looks} == {"jobs"}
    assert status == 130
    assert said.read_text().endswith("leveret info: interrupted\n")
    assert "Traceback" not in said.read_text()
