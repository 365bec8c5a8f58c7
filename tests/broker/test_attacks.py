"""What somebody who may publish tries: to skip attempts, to end dead-lettering, to fill a worker's memory."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leveret import Route
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, child_that_runs, start_waiting_task

MEGABYTE = 1024 * 1024
FAILS = b'{"task": "jobs.fail"}'
DEATH: dict[str, Any] = {
    "count": 1,
    "reason": "rejected",
    "queue": "jobs",
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "exchange": "tasks.direct",
    "routing-keys": ["jobs"],
}


def attempts_of(worker: Worker, task_id: str) -> list[int]:
    """The attempts of a task that failed in the end, in their order."""
    worker.await_event("bury", id=task_id)
    return [event["attempt"] for event in (*worker.find("retry", id=task_id), *worker.find("bury", id=task_id))]


@pytest.mark.parametrize(
    ("route", "headers"),
    [
        (Route.fanout("jobs@3"), {}),
        (Route.fanout("jobs@2"), {"x-death": [DEATH]}),
        (Route.direct("jobs"), {"CC": ["jobs@3"]}),
        (Route.direct("jobs"), {"CC": ["jobs@2", "jobs@3", "jobs.dlq"]}),
        (Route.fanout("jobs@3"), {"x-death": [{**DEATH, "count": 2}], "x-delivery-count": 30}),
    ],
)
def test_no_producer_skips_an_attempt(vhost: Vhost, workers: Workers, route: Route, headers: dict[str, Any]) -> None:
    """Whatever key and history it gives a message, that begins at attempt 1, has all of them, and is one message."""
    vhost.declare(jobs)
    vhost.publish(route, FAILS, message_id="the-id", headers=headers)
    worker = workers.start()

    assert attempts_of(worker, "the-id") == [1, 2, 3]
    await_value(lambda: vhost.counts(jobs) == {dlq_name(jobs.name): 1}, "one dead message, and nothing else")


@pytest.mark.parametrize("key", ["jobs@2", "jobs@3", "jobs.dlq"])
def test_no_key_leads_a_producer_behind_the_work_queue(vhost: Vhost, key: str) -> None:
    """On the exchanges that producers may write to, neither a later attempt nor a DLQ has a key."""
    vhost.declare(jobs)
    with (
        vhost.limited_user(write=r"^tasks\.(direct|topic|fanout)$") as url,
        pytest.raises(Exception, match="unroutable"),
    ):
        vhost.publish(Route.direct(key), FAILS, url=url)
    assert vhost.counts(jobs) == {}


@pytest.mark.parametrize("forged", [[1], ["x"], [{"count": "many"}], {"queue": "jobs"}, 7])
def test_no_forged_history_ends_dead_lettering(vhost: Vhost, workers: Workers, forged: Any) -> None:
    """It is taken off at the first attempt, and from who may write there at any; others go on failing as ever."""
    vhost.declare(jobs)
    vhost.publish(Route.direct("jobs"), FAILS, message_id="first", headers={"x-death": forged})
    vhost.publish(Route.again("jobs", 2), FAILS, message_id="second", headers={"x-death": forged})
    worker = workers.start()

    assert attempts_of(worker, "first") == [1, 2, 3]
    assert attempts_of(worker, "second") == [2, 3]
    vhost.publish(Route.direct("jobs"), FAILS, message_id="another")
    assert attempts_of(worker, "another") == [1, 2, 3]


def test_no_flood_of_large_bodies_fills_the_memory(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """With every process busy and a prefetch of hundreds it stays small; the large are buried, whole, the rest runs."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1", "--prefetch", "512")
    started, go = start_waiting_task(vhost, tmp_path)
    child_that_runs(started)
    large = (60 if vhost.takes(60 * MEGABYTE) else 15) * MEGABYTE
    body = b'{"task": "jobs.fail", "args": ["' + b"x" * large + b'"]}'
    for number in range(8):
        vhost.publish(Route.direct("jobs"), body, message_id=f"large-{number}")
    ran = tmp_path / "ran"
    allowed = json.dumps({"task": "jobs.write", "kwargs": {"path": str(ran)}}).encode().ljust(MEGABYTE)
    for number in range(100):
        vhost.publish(Route.direct("jobs"), allowed, message_id=f"allowed-{number}")

    worker.await_event("handing back messages: those that are held are too large to take more of them")
    go.touch()
    for number in range(8):
        assert "over the limit" in worker.await_event("bury", id=f"large-{number}")["error"]
    await_value(lambda: ran.exists() and len(ran.read_text().splitlines()) == 100, "all that may run")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.process.pid}/status").read_text())
    assert peak
    assert int(peak[1]) < 128 * 1024
    with vhost.connect() as connection:
        channel = connection.channel()
        for _ in range(8):
            method, properties, dead = channel.basic_get(dlq_name(jobs.name), auto_ack=True)
            assert method
            assert dead == body
            assert "over the limit" in properties.headers["failure-message"]
