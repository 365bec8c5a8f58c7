"""Where a message goes for each way a delivery can end, by whichever exchange it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from leveret import Route
from leveret.topology.message import FAILURE_HEADERS, new_id
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.support import Dead, Vhost, Workers, attempt_of, await_value

DLQ = dlq_name(jobs.name)
ENTRIES: dict[str, Callable[[str], Route]] = {
    "direct": lambda _task: Route.direct(jobs.name),
    "topic": Route.topic,
    "fanout": Route.fanout,
    "default": lambda _task: Route("", jobs.name),
}


@pytest.fixture(params=ENTRIES)
def entry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def reason(dead: Dead) -> dict[str, object]:
    return {
        name.removeprefix(FAILURE_HEADERS): value
        for name, value in dead.headers.items()
        if name.startswith(FAILURE_HEADERS)
    }


def test_done_leaves_nothing_behind(vhost: Vhost, workers: Workers, tmp_path: Path, entry: str) -> None:
    """A task that returns is acknowledged, and its message is in no queue any more."""
    vhost.declare(jobs)
    vhost.publish_task(ENTRIES[entry]("jobs.write"), "jobs.write", new_id(), path=str(tmp_path / "ran"))

    worker = workers.drain()

    assert len((tmp_path / "ran").read_text().splitlines()) == 1
    assert len(worker.find("done", task="jobs.write", attempt=1, of=3)) == 1
    assert vhost.counts(jobs) == {}


def test_retries_then_dlq(vhost: Vhost, workers: Workers, entry: str) -> None:
    """A task that always raises waits in each retry tier in turn and ends in the DLQ with its reason."""
    vhost.declare(jobs)
    task_id = new_id()
    vhost.publish_task(ENTRIES[entry]("jobs.fail"), "jobs.fail", task_id, text="no such luck")

    worker = workers.drain()

    assert [event["waits_in"] for event in worker.find("retry", id=task_id)] == [
        "jobs.retry.1.after.300ms",
        "jobs.retry.2.after.600ms",
    ]
    assert vhost.counts(jobs) == {DLQ: 1}
    dead = vhost.take_one(DLQ)
    assert dead.properties.message_id == task_id
    assert json.loads(dead.body) == {"task": "jobs.fail", "kwargs": {"text": "no such luck"}}
    told = reason(dead)
    assert told["type"] == "ValueError"
    assert told["message"] == "no such luck"
    assert "raise ValueError(text)" in str(told["traceback"])
    assert told["fingerprint"] == "ValueError@jobs.py:fail"
    assert (told["attempts"], told["queue"], told["task"]) == (3, "jobs", "jobs.fail")
    assert str(told["first-time"]) < str(told["time"])
    assert "x-death" not in dead.headers


def test_retry_succeeds_under_the_same_id(vhost: Vhost, workers: Workers, entry: str) -> None:
    """A task that fails once is done at its second attempt, under the id it had at the first."""
    vhost.declare(jobs)
    task_id = new_id()
    vhost.publish_task(ENTRIES[entry]("jobs.fail_once"), "jobs.fail_once", task_id)

    worker = workers.drain()

    assert [attempt_of(event) for event in worker.find("done", id=task_id)] == [(2, 3)]
    assert vhost.counts(jobs) == {}


def test_fanout_repeats_only_where_it_failed(vhost: Vhost, workers: Workers) -> None:
    """A fanout task that fails in one queue comes back to that queue and not to the others."""
    from tests.broker import other_jobs

    vhost.declare(jobs, other_jobs.others)
    vhost.publish_task(Route.fanout(), "jobs.fail_once", new_id())

    worker = workers.drain("--queue", "others", tasks=("tests.broker.jobs", "tests.broker.other_jobs"))

    assert sorted((e["queue"], attempt_of(e)) for e in worker.find("done")) == [("jobs", (2, 3)), ("others", (2, 2))]
    assert len(worker.find("retry")) == 2
    assert vhost.counts(jobs) == {}
    assert vhost.counts(other_jobs.others) == {}


def test_reject_goes_straight_to_the_dlq(vhost: Vhost, workers: Workers, entry: str) -> None:
    """A task that raises Reject is not tried again."""
    vhost.declare(jobs)
    vhost.publish_task(ENTRIES[entry]("jobs.reject"), "jobs.reject", new_id())

    worker = workers.drain()

    assert worker.find("retry") == []
    told = reason(vhost.take_one(DLQ))
    assert (told["type"], told["message"], told["attempts"]) == ("Reject", "no use", 1)


def test_what_never_retries_goes_straight_to_the_dlq(vhost: Vhost, workers: Workers) -> None:
    """What a task names is final, and its own type and traceback are the reason."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.never", new_id())

    worker = workers.drain()

    assert worker.find("retry") == []
    told = reason(vhost.take_one(DLQ))
    assert (told["type"], told["message"], told["attempts"]) == ("KeyError", "'final'", 1)
    assert "raise KeyError" in str(told["traceback"])


@pytest.mark.parametrize(
    ("task", "kind", "text"),
    [
        ("jobs.exit", "ProcessDied", "exit status 7"),
        ("jobs.crash", "ProcessDied", "SIGSEGV"),
        ("jobs.loop", "TimeLimitExceeded", "overran its time limit"),
        ("jobs.soft", "SoftTimeLimitExceeded", "overran its soft time limit"),
        ("jobs.sys_exit", "SystemExit", "leaving"),
        ("jobs.unheard_of", "UnknownTask", "no task 'jobs.unheard_of' is known"),
    ],
)
def test_every_failure_is_one_attempt(
    vhost: Vhost, workers: Workers, tmp_path: Path, task: str, kind: str, text: str
) -> None:
    """A crash, a time limit and an unknown task cost one attempt each, and the neighbours run once."""
    vhost.declare(jobs)
    ran = tmp_path / "ran"
    for _ in range(5):
        vhost.publish_task(Route.topic("jobs.write"), "jobs.write", new_id(), path=str(ran))
    task_id = new_id()
    vhost.publish_task(Route.topic("jobs.x"), task, task_id)
    for _ in range(5):
        vhost.publish_task(Route.topic("jobs.write"), "jobs.write", new_id(), path=str(ran))

    worker = workers.drain("--prefetch", "20")

    assert [attempt_of(event) for event in worker.find("retry")] == [(1, 3), (2, 3)]
    assert len(ran.read_text().splitlines()) == 10
    assert vhost.counts(jobs) == {DLQ: 1}
    told = reason(vhost.take_one(DLQ))
    assert (told["type"], told["attempts"]) == (kind, 3)
    assert text in str(told["message"])


def test_message_without_id_keeps_one_id_over_all_attempts(vhost: Vhost, workers: Workers, entry: str) -> None:
    """A message published without an id is given one that all its attempts share."""
    vhost.declare(jobs)
    vhost.publish_task(ENTRIES[entry]("jobs.fail"), "jobs.fail")

    worker = workers.drain()

    ids = {event["id"] for event in (*worker.find("retry"), *worker.find("bury"))}
    assert len(ids) == 1
    assert vhost.take_one(DLQ).properties.message_id in ids


def test_nack_alone_counts_attempts(vhost: Vhost) -> None:
    """With nothing but nack, a message passes every tier under a growing attempt key and ends in the DLQ."""
    vhost.declare(jobs)
    vhost.publish_task(Route.topic("jobs.any"), "jobs.any", "the-id")
    keys = []
    with vhost.connect() as connection:
        channel = connection.channel()
        for _ in range(jobs.attempts):
            method, _, _ = await_value(
                lambda: got if (got := channel.basic_get(jobs.name))[0] else None, "the message in its queue"
            )
            keys.append(method.routing_key)
            channel.basic_nack(method.delivery_tag, requeue=False)
        await_value(lambda: vhost.count(DLQ), "the message in the DLQ")

    assert keys == ["jobs.any", "jobs@2", "jobs@3"]
    assert vhost.counts(jobs) == {DLQ: 1}


def test_message_survives_25_dead_connections(vhost: Vhost, workers: Workers) -> None:
    """A message whose consumer's connection died 25 times is still there, and then buried, not run and not lost."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail", "the-id")
    for _ in range(25):
        connection = vhost.connect()
        channel = connection.channel()
        await_value(lambda c=channel: c.basic_get(jobs.name)[0], "the message")  # type: ignore[misc]
        connection.close()

    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")
    worker = workers.drain()

    assert worker.find("done") == []
    dead = vhost.take_one(DLQ)
    assert dead.properties.message_id == "the-id"
    assert reason(dead)["type"] == "DeliveredTooOften"


def test_nothing_is_acknowledged_while_the_dlq_is_gone(vhost: Vhost, workers: Workers) -> None:
    """A dead message whose copy cannot be confirmed in the DLQ stays in the work queue until it can be."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        connection.channel().queue_delete(DLQ)
    vhost.publish_task(Route.direct(jobs.name), "jobs.reject", "the-id")
    worker = workers.start("--no-declare")
    worker.await_event("keeping the-id")

    assert vhost.api("GET", f"queues/{vhost.name}/{jobs.name}")["name"] == jobs.name
    vhost.declare(jobs)
    dead = vhost.take_one(DLQ)
    assert dead.properties.message_id == "the-id"
    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}


def test_acknowledged_only_after_the_task_finished(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """While a task runs its message is unacknowledged: when the worker is killed, another runs it."""
    vhost.declare(jobs)
    started, go = tmp_path / "started", tmp_path / "go"
    vhost.publish_task(Route.direct(jobs.name), "jobs.wait_for", "the-id", path=str(go), started=str(started))
    first = workers.start()
    await_value(started.exists, "the task to start")
    first.process.kill()
    first.wait()
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")

    go.touch()
    second = workers.drain()

    assert [event["id"] for event in second.find("done")] == ["the-id"]
    assert vhost.counts(jobs) == {}


def test_holds_no_more_than_its_prefetch(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A worker with prefetch 2 leaves the third message to others."""
    vhost.declare(jobs)
    go = tmp_path / "go"
    for number in range(3):
        vhost.publish_task(
            Route.direct(jobs.name), "jobs.wait_for", new_id(), path=str(go), started=str(tmp_path / str(number))
        )
    workers.start("--prefetch", "2", "--processes", "4")
    await_value(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists(), "two tasks to start")

    assert vhost.count(jobs.name) == 1
    assert not (tmp_path / "2").exists()
    go.touch()
    await_value((tmp_path / "2").exists, "the third task")


def test_extreme_properties_survive_the_dlq(vhost: Vhost, workers: Workers) -> None:
    """A dead message keeps its publisher's headers and properties, and loses what would let it vanish."""
    vhost.declare(jobs)
    vhost.publish(
        Route.direct(jobs.name),
        b"not json",
        message_id="the-id",
        correlation_id="c",
        reply_to="r",
        app_id="a",
        expiration="3600000",
        headers={"mine": {"deep": [1, 2]}, "x-death": "forged"},
    )

    workers.drain()

    dead = vhost.take_one(DLQ)
    assert (dead.properties.correlation_id, dead.properties.reply_to, dead.properties.app_id) == ("c", "r", "a")
    assert dead.headers["mine"] == {"deep": [1, 2]}
    assert dead.properties.expiration is None
    assert dead.properties.delivery_mode == pika.DeliveryMode.Persistent.value
