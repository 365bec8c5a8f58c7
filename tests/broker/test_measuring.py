"""What a worker serves: exact numbers, and whether it lives and is ready, over cuts and stuck children."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from leveret.topology.events import Kind
from leveret.topology.names import Route
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders, await_recorded, tell
from tests.broker.served import ask, port_of, promtool
from tests.broker.support import Vhost, Workers, await_value, child_that_runs, children_of, start_waiting_task
from tests.faults.proxy import Proxy


def test_numbers_are_exact(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Ten done, three retried, two buried; what nobody has loaded counts as other; and promtool likes the page."""
    vhost.declare(jobs)
    vhost.publish(Route("", "jobs.dlq"), b"dead before", message_id="dead")
    tasks = ["jobs.write"] * 7 + ["jobs.fail_once"] * 3 + ["jobs.reject"] * 2 + ["evil\u202e.name{}"]
    for task in tasks:
        more = {"path": str(tmp_path / "written")} if task == "jobs.write" else {}
        vhost.publish_task(Route.direct("jobs"), task, **more)
    worker = workers.start("--metrics", "127.0.0.1:0", "--processes", "2")
    port = port_of(worker, "metrics")
    await_value(lambda: (len(worker.find("done")), len(worker.find("bury"))) == (10, 3), "all to have ended")
    await_value(lambda: ask(port, "/metrics").samples("leveret_queue_messages"), "the count of the broker")
    page = ask(port, "/metrics")
    attempts = {labels[1:]: count for labels, count in page.samples("leveret_attempts_total").items() if count}

    assert attempts == {
        ("jobs.write", "done"): 7,
        ("jobs.fail_once", "done"): 3,
        ("jobs.fail_once", "retry"): 3,
        ("jobs.reject", "bury"): 2,
        ("other", "retry"): 2,
        ("other", "bury"): 1,
    }
    assert page.samples("leveret_queue_messages")["jobs", "dead"] >= 1
    assert page.samples("leveret_failures_total")["rejected", "jobs", "jobs.reject"] == 2
    assert page.samples("leveret_attempt_duration_seconds_count")["jobs", "jobs.write"] == 7
    assert page.samples("leveret_children") == {("plain", "busy"): 0, ("plain", "idle"): 2}
    assert page.samples("leveret_confirms_total")["confirmed",] >= 3  # a copy in the DLQ for each that was buried
    assert page.samples("leveret_consuming") == {(): 1}
    assert promtool("check", "metrics", stdin=page.text) == ""


def test_a_queue_that_cannot_be_seen_is_left_out(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Nothing is said of it, the others are counted, and the worker works on as if nothing was."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        connection.channel().queue_delete("jobs.dlq")
    worker = workers.start("--metrics", "127.0.0.1:0", "--no-declare")
    port = port_of(worker, "metrics")
    await_value(lambda: ask(port, "/metrics").samples("leveret_queue_messages"), "the count of the broker")

    assert ask(port, "/metrics").samples("leveret_queue_messages").keys() == {("jobs", "ready"), ("jobs", "retrying")}

    vhost.publish_task(Route.direct("jobs"), "jobs.write", path=str(tmp_path / "written"))
    worker.await_event("done")

    assert len(worker.find("consuming")) == 1
    assert worker.find("lost the broker") == []


def test_ready_while_it_consumes(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Not while the broker does not answer at the start, nor over a cut, nor when it is told to stop; alive always."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    with Proxy.before(vhost.amqp_url) as proxy:
        proxy.hold()
        options = ("--health", "127.0.0.1:0", "--no-declare")
        worker = workers.launch(*options, AMQP_URL=proxy.url(vhost.amqp_url), SHUTDOWN_TIMEOUT_SECONDS="60")
        port = port_of(worker, "health")

        def await_ready(status: int, text: str) -> None:
            await_value(lambda: ask(port, "/readyz").status == status, f"readyz to be {status}")
            assert (ask(port, "/readyz").text, ask(port, "/healthz").status) == (f"{text}\n", 200)

        await_ready(503, "not ready: not connected to the broker")
        proxy.heal()
        await_ready(200, "ready")
        child_that_runs(started)
        proxy.refuse()
        proxy.reset()
        await_ready(503, "not ready: not connected to the broker")
        proxy.heal()
        await_ready(200, "ready")
        worker.signal(signal.SIGTERM)
        await_ready(503, "not ready: stopping")
        go.touch()
        worker.wait()

    with pytest.raises(OSError, match="refused"):
        ask(port, "/healthz")


SHORT = "import leveret.consumers.measuring.health as health; health.CHILD_SECONDS = 1.0"
"""What is long enough for a test."""


@pytest.mark.once
def test_busy_is_not_stuck(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """All children run a long task and others wait: alive. A child that is stopped with what it has not begun: not."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    options = ("--health", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--processes", "1")
    worker = workers.start_with("", *options, before=SHORT)
    port, metrics = port_of(worker, "health"), port_of(worker, "metrics")
    child = child_that_runs(started)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", path=str(tmp_path / "written"))
    await_value(lambda: ask(port, "/healthz").status == 200, "a look after the child has begun")  # it may start slowly
    seen = []

    def has_run_long() -> bool:
        seen.append(ask(port, "/healthz"))
        return ask(metrics, "/metrics").samples("leveret_longest_running_seconds")["jobs",] > 2.5

    await_value(has_run_long, "the task to run for longer than a child may do nothing")

    assert {(one.status, one.text) for one in seen} == {(200, "alive\n")}

    go.touch()
    await_value(lambda: len(worker.find("done")) == 2, "the child to have told of both")
    os.kill(child, signal.SIGSTOP)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", path=str(tmp_path / "written"))
    await_value(lambda: ask(port, "/healthz").status == 503, "the child to be seen")

    assert ask(port, "/healthz").text.startswith(
        f"stuck: child process {child} has begun none of the 1 task(s) it has, for "
    )

    os.kill(child, signal.SIGCONT)
    await_value(lambda: ask(port, "/healthz").status == 200, "the child to move again")


@pytest.mark.once
def test_a_port_that_is_taken(vhost: Vhost, workers: Workers) -> None:
    """The worker does not begin, and says why."""
    vhost.declare(jobs)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = workers.start("--health", f"127.0.0.1:{port}")

        assert worker.wait() == 2

    assert f"cannot listen at 127.0.0.1:{port}: Address already in use; name another address or port" in worker.text
    assert worker.find("consuming") == []


@pytest.mark.once
def test_one_port_for_both(vhost: Vhost, workers: Workers) -> None:
    """Numbers and health are served at one address, if it is the same; the port goes with the worker."""
    vhost.declare(jobs)
    worker = workers.start(LEVERET_METRICS="127.0.0.1:0", LEVERET_HEALTH="127.0.0.1:0")
    port = port_of(worker, "metrics")

    assert port_of(worker, "health") == port
    assert [ask(port, path).status for path in ("/metrics", "/healthz", "/readyz", "/")] == [200, 200, 200, 404]
    for child in children_of(worker.process.pid):  # no child has the port: another worker can have it at once
        assert not [link for link in Path(f"/proc/{child}/fd").iterdir() if is_listening(link, port)]
    assert worker.stop() == 0


def is_listening(link: Path, port: int) -> bool:
    """Whether an open file of a process is the socket that listens there."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {one.split()[9] for one in lines if one.split()[1].endswith(f":{port:04X}") and one.split()[3] == "0A"}
    return str(link.readlink()) in {f"socket:[{inode}]" for inode in inodes}


def test_numbers_of_a_recorder(vhost: Vhost, recorders: Recorders) -> None:
    """What was recorded is counted, and promtool likes the page."""
    recorder = recorders.start(LEVERET_METRICS="127.0.0.1:0")
    port = port_of(recorder, "metrics")
    tell(vhost, Kind.SUCCEEDED, ["a", "b", "c"])
    await_recorded(vhost)
    await_value(lambda: ask(port, "/metrics").samples("leveret_recorder_events_total") == {(): 3}, "all to be counted")
    page = ask(port, "/metrics")

    assert page.samples("leveret_recorder_connected") == {(): 1}
    assert page.samples("leveret_recorder_waiting_messages") == {(): 0}
    assert promtool("check", "metrics", stdin=page.text) == ""
