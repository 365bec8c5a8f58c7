"""Delayed tasks, on a real RabbitMQ: when they come, by which way, and where those lie that nobody takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leveret import AccessRefused, MessageError, NotRouted, Publisher, Route, State, TaskMessage, WorkQueue, declare
from leveret.producers.calls import make_message
from leveret.topology.access.rights import ROLES, rights_of
from leveret.topology.apply.declare import declare_ladder
from leveret.topology.ladder import delayed
from tests.broker.jobs import fail_once, jobs, write
from tests.broker.recording import Recorders
from tests.broker.support import Vhost, Workers, await_value, run

LOST = "tasks.later.lost"


@pytest.fixture
def delaying(vhost: Vhost) -> Iterator[Publisher]:
    """A publisher on a virtual host where the ladder is declared, and no queue."""
    declare_ladder(vhost.settings)
    with Publisher(vhost.settings) as made:
        yield made


def later(seconds: float, path: Path | str = "", route: Route | None = None, **more: object) -> TaskMessage:
    """A message that is due so many seconds from now."""
    return make_message(write, kwargs={"path": str(path)}, route=route, due=time.time() + seconds, **more)  # type: ignore[arg-type]


def runs_in(path: Path) -> list[list[str]]:
    """Id, attempt and process of what has run."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    "route",
    [None, Route.direct("jobs"), Route.topic("jobs.write"), Route.fanout("any")],
    ids=["usual", "direct", "topic", "fanout"],
)
def test_a_delayed_task_runs_when_it_is_due(
    delaying: Publisher, workers: Workers, tmp_path: Path, route: Route | None
) -> None:
    """By every exchange, also where nobody has declared its queue, and not before its time."""
    submitted = time.time()
    sent = delaying.publish(later(2, tmp_path / "runs", route))
    worker = workers.start()
    worker.await_event("done")

    assert [run[:2] for run in runs_in(tmp_path / "runs")] == [[sent.id, "1"]]
    assert time.time() - submitted >= 2.0


@pytest.mark.parametrize(
    ("route", "reached"),
    [
        (Route.direct("one"), ["one"]),
        (Route.topic("jobs.write"), ["jobs"]),
        (Route.topic("one"), ["one"]),
        (Route.fanout("one"), ["jobs", "two"]),
        (Route.topic("nobody"), [LOST]),
    ],
)
def test_a_delayed_task_comes_to_the_queues_of_its_exchange_and_to_no_other(
    vhost: Vhost, delaying: Publisher, route: Route, reached: list[str]
) -> None:
    """The key alone does not decide."""
    vhost.declare(jobs, WorkQueue("one"), WorkQueue("two", fanout=True))
    sent = delaying.publish(later(4, route=route))

    await_value(lambda: all(vhost.count(queue) for queue in reached), f"the message in {reached}")
    assert {queue: vhost.ids_in(queue) for queue in ("jobs", "one", "two", LOST)} == {
        queue: [sent.id] if queue in reached else [] for queue in ("jobs", "one", "two", LOST)
    }


@pytest.mark.parametrize("way", [Route.direct("levels"), Route.topic("levels.x"), Route.again("levels", 2)])
def test_a_delayed_task_comes_to_its_level(vhost: Vhost, way: Route) -> None:
    """By the entrance of a queue with priorities; the attempt is what it was."""
    levels = WorkQueue("levels", priorities=True)
    vhost.declare(levels)
    declare_ladder(vhost.settings)
    route, headers = delayed(way, {"priority": "high"}, 1)
    vhost.publish(route, b"{}", message_id="the-id", headers=headers)

    await_value(lambda: vhost.count("levels.high"), "the message")
    assert vhost.counts(levels) == {"levels.high": 1}
    assert vhost.count(LOST) == 0


def test_the_first_delayed_task_declares_the_ladder_and_its_queue(vhost: Vhost) -> None:
    """Where nothing is on the broker yet."""
    with Publisher(vhost.settings) as new:
        sent = new.publish(later(3600))

    holding = [queue for queue in vhost.queues() if queue.startswith("tasks.delay.") and vhost.count(queue)]
    assert [vhost.ids_in(queue) for queue in holding] == [[sent.id]]
    assert vhost.counts(jobs) == {}


def test_nothing_waits_behind_what_waits_longer(vhost: Vhost, delaying: Publisher) -> None:
    """Whatever was submitted before it."""
    for _ in range(3):
        delaying.publish(later(3600))
    short = delaying.publish(later(3)).id

    await_value(lambda: vhost.count("jobs"), "the one that is due")
    assert vhost.ids_in("jobs") == [short]
    assert vhost.count("tasks.delay.1h") == 3


def test_a_delay_of_several_steps_comes_by_its_own_key_and_keeps_its_headers(vhost: Vhost, delaying: Publisher) -> None:
    """And what the publisher said is all there."""
    vhost.declare(jobs)
    route, headers = delayed(Route.topic("jobs.of.mine"), {"priority": "high"}, 13)
    vhost.publish(route, b"{}", headers=headers)

    await_value(lambda: vhost.count("jobs"), "the message")
    with vhost.connect() as connection:
        method, properties, _ = connection.channel().basic_get("jobs", auto_ack=True)
    assert (method.exchange, method.routing_key) == ("tasks.delay.out", "jobs.of.mine")
    assert properties.headers["priority"] == "high"
    assert [death["queue"] for death in properties.headers["x-death"]] == ["tasks.delay.3s", "tasks.delay.10s"]


def test_what_was_delayed_is_retried_and_redriven_as_anything(
    vhost: Vhost, delaying: Publisher, workers: Workers, tmp_path: Path
) -> None:
    """Its tiers take it, its attempts count, and its DLQ gives it back."""
    from tests.broker.jobs import fail

    once = delaying.publish(make_message(fail_once, due=time.time() + 3)).id
    always = delaying.publish(make_message(fail, due=time.time() + 3)).id
    worker = workers.start()
    done = worker.await_event("done")
    buried = await_value(lambda: vhost.count("jobs.dlq"), "the dead message")

    assert (done["id"], done["attempt"], buried) == (once, 2, 1)
    ended = run("leveret", "redrive", "jobs", AMQP_URL=vhost.amqp_url)
    assert ended.stdout.split()[0] == always
    await_value(lambda: vhost.count("jobs.dlq"), "it failed again")


def test_a_restart_of_the_broker_loses_no_delayed_task(vhost: Vhost) -> None:
    """All of the ladder is durable."""
    declare_ladder(vhost.settings)
    kept = vhost.api("GET", f"queues/{vhost.name}")
    assert {(one["durable"], one["arguments"]["x-queue-type"]) for one in kept} == {(True, "quorum")}
    assert len(kept) == 59


def test_what_nobody_takes_when_it_is_due_is_kept(vhost: Vhost, delaying: Publisher, workers: Workers) -> None:
    """`leveret info` warns of it, and `leveret redrive` sends it where it was to go, once somebody takes it there."""
    nowhere = Route.topic("late.one")
    lost = delaying.publish(later(3, route=nowhere))
    await_value(lambda: vhost.count(LOST), "the message that nobody takes")

    shown = run("leveret", "info", AMQP_URL=vhost.amqp_url, MANAGEMENT_URL=vhost.broker.management_url)
    assert f"! {LOST}: 1 delayed task" in shown.stdout
    refused = run("leveret", "redrive", LOST, AMQP_URL=vhost.amqp_url)
    assert refused.returncode == 1
    assert "late.one" in refused.stderr
    assert vhost.count(LOST) == 1

    vhost.declare(WorkQueue("late"))
    redriven = run("leveret", "redrive", LOST, AMQP_URL=vhost.amqp_url)
    assert redriven.stdout.split()[0] == lost.id
    assert vhost.ids_in("late") == [lost.id]
    assert vhost.count(LOST) == 0


def test_a_queue_that_is_not_there_is_refused_at_once(delaying: Publisher) -> None:
    """A delayed message could not come back later."""
    with pytest.raises(NotRouted, match="there is no queue 'nowhere' on the broker"):
        delaying.publish(later(60, route=Route.direct("nowhere")))


def test_a_queue_of_another_version_is_bound_for_what_is_due(vhost: Vhost, delaying: Publisher) -> None:
    """One that was declared without the exchanges of delays."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("old", durable=True, arguments={"x-queue-type": "quorum"})
    delaying.publish(later(3, route=Route.direct("old")))

    await_value(lambda: vhost.count("old"), "the message")


def test_an_exchange_of_others_takes_nothing_later(delaying: Publisher) -> None:
    """The ladder knows no way to it."""
    with pytest.raises(MessageError, match=r"'amq\.topic' cannot be delayed"):
        delaying.publish(later(60), Route("amq.topic", "x"))


def test_a_ladder_that_vanished_is_declared_again(vhost: Vhost, delaying: Publisher) -> None:
    """As in a virtual host that somebody made anew while a producer lives."""
    delaying.publish(later(3600))
    for exchange in ("tasks.delay.0", "tasks.delay.whole"):
        vhost.api("DELETE", f"exchanges/{vhost.name}/{exchange}")
    sent = delaying.publish(later(9))

    await_value(lambda: vhost.count("jobs"), "the message")
    assert vhost.ids_in("jobs") == [sent.id]


def test_each_role_delays_with_its_own_rights(vhost: Vhost) -> None:
    """A producer and a worker once the topology's owner has declared the ladder; before, they are told what to do."""
    producer, worker, topology, *_ = (rights_of(role, [jobs])._asdict() for role in ROLES)
    with vhost.limited_user(**topology) as url:
        own = vhost.settings_for(url)
        declare(own, [jobs])
        vhost.give_limited_user(**producer)
        with Publisher(own) as limited, pytest.raises(AccessRefused, match="leveret declare --delays"):
            limited.publish(later(5))
        vhost.give_limited_user(**topology)
        declare_ladder(own)
        for rights in (producer, worker):
            vhost.give_limited_user(**rights)
            with Publisher(own) as limited:
                sent = limited.publish(later(5))
            await_value(lambda: vhost.count("jobs"), "the message")
            assert vhost.ids_in("jobs") == [sent.id]


def test_nobody_but_the_broker_publishes_to_what_is_due(vhost: Vhost) -> None:
    """The mirrors are internal, whatever rights somebody has."""
    vhost.declare(jobs)
    for mirror in ("direct", "topic", "fanout", "again"):
        (one,) = (e for e in vhost.api("GET", f"exchanges/{vhost.name}") if e["name"] == f"tasks.later.{mirror}")
        assert one["internal"]


def test_what_a_client_writes_into_a_delayed_message_is_taken_off(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """Keys of attempts in a CC would have it skip attempts when it fails."""
    vhost.declare(jobs)
    declare_ladder(vhost.settings)
    route, headers = delayed(Route.direct("jobs"), {"CC": ["jobs@3"]}, 1)
    vhost.publish(route, b'{"task": "jobs.fail_once"}', message_id="the-id", headers=headers)
    worker = workers.start()

    assert worker.await_event("done")["attempt"] == 2
    assert vhost.count("jobs.dlq") == 0


def test_a_client_of_any_language_delays_without_an_id(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """It gets one when it comes, and runs once."""
    vhost.declare(jobs)
    declare_ladder(vhost.settings)
    body = f'{{"task": "jobs.write", "kwargs": {{"path": "{tmp_path / "runs"}"}}}}'.encode()
    vhost.publish(*((made := delayed(Route.direct("jobs"), {}, 11))[0], body), headers=made[1])
    workers.start().await_event("done")

    ((task_id, attempt, _),) = runs_in(tmp_path / "runs")
    assert (len(task_id), attempt) == (36, "1")


def test_a_cancelled_task_does_not_run_when_it_is_due(vhost: Vhost, delaying: Publisher, workers: Workers) -> None:
    """The cancel is found then, also by a worker that starts later."""
    declare(vhost.settings, [jobs])
    assert run("leveret", "declare", "-a", "tests.broker.jobs", AMQP_URL=vhost.amqp_url).returncode == 0
    sent = delaying.publish(later(10, "/nowhere"))
    assert run("leveret", "cancel", sent.id, AMQP_URL=vhost.amqp_url).returncode == 0
    worker = workers.start()

    assert worker.await_event("cancelled")["id"] == sent.id


def test_the_command_submits_for_later(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """By --delay and by --at; a time that is over runs now, and that is said."""
    path = f"path={tmp_path / 'runs'}"
    ahead = (datetime.now(UTC) + timedelta(seconds=15)).isoformat()
    for option, value in (("--delay", "3s"), ("--at", ahead), ("--at", "2020-01-01T09:00+01:00")):
        ended = run(
            "leveret", "submit", "jobs.write", path, option, value, "-a", "tests.broker.jobs", AMQP_URL=vhost.amqp_url
        )
        assert ended.returncode == 0, ended.stderr
        assert ("is over, so it runs now" in ended.stderr) == value.startswith("2020")
    workers.start()
    await_value(lambda: len(runs_in(tmp_path / "runs")) == 3, "all three")


POLL = """
from leveret import RetryLater

@task("jobs.poll", queue=jobs)
def poll(path: str, times: int, seconds: float, failing: bool = False) -> str:
    write.function(path)
    runs = len(Path(path).read_text().splitlines())
    if failing and runs == 1:
        raise ValueError("the first time")
    if runs <= times:
        raise RetryLater(seconds, "not yet")
    return "there"
"""


def test_a_task_that_asks_to_be_run_later_comes_back_as_the_same_attempt(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """By two queues of the ladder and without any rejection, which brokers before 4.0 would take for a cycle.

    The ladder is not there before: the worker declares it.
    """
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.poll", "the-id", path=str(tmp_path / "runs"), times=2, seconds=11)
    worker = workers.start_with(POLL)

    assert worker.await_event("later", id="the-id")["again_in"] == 11.0
    assert worker.await_event("done", id="the-id")["attempt"] == 1
    assert [run[:2] for run in runs_in(tmp_path / "runs")] == [["the-id", "1"]] * 3
    assert vhost.counts(jobs) == {}


def test_a_later_attempt_comes_back_as_what_it_is(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """After a failure, too; and what it says is counted in its headers."""
    declare_ladder(vhost.settings)
    vhost.declare(jobs)
    path = str(tmp_path / "runs")
    vhost.publish_task(Route.direct("jobs"), "jobs.poll", "the-id", path=path, times=3, seconds=1, failing=True)
    worker = workers.start_with(POLL)

    assert worker.await_event("done", id="the-id")["attempt"] == 2
    assert [run[1] for run in runs_in(tmp_path / "runs")] == ["1", "2", "2", "2"]


def test_who_has_asked_too_often_is_buried_with_the_reason(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """The header counts; a redrive begins anew."""
    vhost.declare(jobs)
    body = f'{{"task": "jobs.poll", "kwargs": {{"path": "{tmp_path / "runs"}", "times": 99, "seconds": 1}}}}'.encode()
    headers = {"retried-later": 1000, "retried-later-since": int(time.time() * 1000)}
    vhost.publish(Route.direct("jobs"), body, message_id="the-id", headers=headers)
    worker = workers.start_with(POLL)
    await_value(lambda: vhost.count("jobs.dlq"), "the dead message")

    assert run("leveret", "redrive", "jobs", AMQP_URL=vhost.amqp_url).returncode == 0
    assert worker.await_event("later", id="the-id")


def test_who_follows_is_told_until_when(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Of what was delayed, and of what asks to be run later."""
    declare_ladder(vhost.settings)
    vhost.declare(jobs)
    path = str(tmp_path / "runs")
    call = {"path": path, "times": 1, "seconds": 3600}
    with Publisher(vhost.settings) as publisher:
        sent = publisher.publish(TaskMessage.create("jobs.poll", (), call, follow=True, due=time.time() + 5))
        assert sent.status().state is State.DELAYED
        assert time.time() < (sent.status().next_at or 0) < time.time() + 6
        workers.start_with(POLL)
        await_value(lambda: sent.status().reason == "not yet", "it asked to be run later")
        assert (sent.status().state, sent.status().attempt) == (State.DELAYED, 1)
        assert 3500 < (sent.status().next_at or 0) - time.time() <= 3600


def test_the_record_lists_what_is_delayed(vhost: Vhost, delaying: Publisher, tmp_path: Path) -> None:
    """With when it is due; also where only its producer has told of it."""
    recorders = Recorders(vhost, tmp_path)
    try:
        recorders.start()
        sent = delaying.publish(later(3600, follow="record"))
        asked = {"AMQP_URL": vhost.amqp_url}
        await_value(lambda: sent.id in run("leveret", "list", "--state", "delayed", **asked).stdout, "it in the list")
        shown = run("leveret", "status", sent.id, **asked).stdout
        status = json.loads(run("leveret", "status", sent.id, "--json", **asked).stdout)
    finally:
        recorders.kill_all()

    assert f"{sent.id}  delayed since" in shown
    assert "\n  due " in shown
    assert 3500 < status["next_at"] - time.time() <= 3600
    assert set(status["times"]) == {"submitted", "delayed"}
