"""Work of a queue with priorities: what goes first, what keeps its level, and what holds for all three queues."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskMessage, pause, resume
from leveret.topology.access.rights import ROLES
from leveret.topology.names import LEVELS, level_queue
from tests.broker.priority_jobs import plain, ranked
from tests.broker.support import Vhost, Worker, Workers, attempt_of, await_value, run

MODULE = "tests.broker.priority_jobs"
DLQ = "ranked.dlq"


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """The file in which tasks tell of themselves, in the order in which they run."""
    return tmp_path / "order"


@pytest.fixture
def start(workers: Workers) -> Callable[..., Worker]:
    def start(*options: str, queue: str = "ranked", **more: str) -> Worker:
        return workers.start(*options, queue=queue, tasks=[MODULE], **more)

    return start


def submit(vhost: Vhost, order: Path, *levels: str, task: str = "ranked.note", seconds: float | None = None) -> None:
    """Submit a task for each of these levels, in this order."""
    more = {} if seconds is None else {"seconds": seconds}
    with Publisher(vhost.settings) as publisher:
        messages = [
            TaskMessage.create(
                task,
                kwargs={"file": str(order), "level": level, **more},
                route=Route.direct(task.partition(".")[0]),
                headers={"priority": level},
            )
            for level in levels
        ]
        assert [error for _, error in publisher.publish_many(messages)] == [None] * len(levels)


def told(order: Path) -> list[str]:
    return order.read_text().splitlines() if order.exists() else []


def ready(vhost: Vhost) -> dict[str, int]:
    return {name: vhost.count(name) for name in ranked.waits_in}


@pytest.mark.parametrize("options", [("--processes", "1"), ("--processes", "3"), ("--processes", "1:4")])
def test_each_level_gets_its_share_while_all_have_work(
    vhost: Vhost, start: Callable[..., Worker], order: Path, options: tuple[str, ...]
) -> None:
    """Of ten, about six are of high priority, three normal, and one is low, in whatever order they came."""
    vhost.declare(ranked)
    submit(vhost, order, *(level for level in reversed(LEVELS) for _ in range(150)), seconds=0.004)

    assert start("--until-empty", *options).wait() == 0

    lines = told(order)
    assert Counter(lines) == dict.fromkeys(LEVELS, 150)
    shares = Counter(lines[60:210])  # what is taken before something of each level has come is out of turn
    assert 70 <= shares["high"] <= 110
    assert 30 <= shares["normal"] <= 60
    assert 7 <= shares["low"] <= 30


def start_busy(vhost: Vhost, start: Callable[..., Worker], order: Path, go: Path, prefetch: int) -> Worker:
    """Start a worker whose only process is kept by a task until there is the file `go`."""
    vhost.declare(ranked)
    vhost.publish_task(Route.direct("ranked"), "ranked.wait_for", "busy", file=str(order), go=str(go))
    worker = start("--processes", "1", "--prefetch", str(prefetch))
    await_value(lambda: told(order), "the task to start")
    return worker


def test_what_is_urgent_goes_before_what_a_worker_holds_already(
    vhost: Vhost, start: Callable[..., Worker], order: Path, tmp_path: Path
) -> None:
    """It is the next that begins, however many low ones have come before."""
    go = tmp_path / "go"
    worker = start_busy(vhost, start, order, go, prefetch=20)
    submit(vhost, order, *["low"] * 50)
    await_value(lambda: vhost.count("ranked.low") == 30, "the worker to hold its low ones")
    submit(vhost, order, "high")
    await_value(lambda: vhost.count("ranked.high") == 0, "the worker to hold the urgent one")
    go.touch()
    await_value(lambda: len(told(order)) == 52, "all to run")

    assert told(order)[:2] == ["started", "high"]
    assert worker.stop() == 0


def test_queues_without_priorities_are_served_beside(vhost: Vhost, start: Callable[..., Worker], order: Path) -> None:
    """By the same worker: all of it runs."""
    vhost.declare(ranked, plain)
    submit(vhost, order, *LEVELS * 20)
    submit(vhost, order, *["plain"] * 60, task="unranked.note")

    assert start("--until-empty", queue="ranked,unranked").wait() == 0

    assert Counter(told(order)) == {"plain": 60, **dict.fromkeys(LEVELS, 20)}


def test_tasks_that_run_side_by_side_have_priorities_too(
    vhost: Vhost, start: Callable[..., Worker], order: Path
) -> None:
    """Beside plain ones of the same queue."""
    vhost.declare(ranked)
    submit(vhost, order, *LEVELS * 20, task="ranked.note_async")
    submit(vhost, order, *LEVELS * 20)

    assert start("--until-empty").wait() == 0

    assert Counter(told(order)) == dict.fromkeys(LEVELS, 40)


@pytest.mark.parametrize("level", LEVELS)
def test_retries_come_back_to_their_level(vhost: Vhost, start: Callable[..., Worker], order: Path, level: str) -> None:
    """As the attempt they are, through both tiers."""
    vhost.declare(ranked)
    submit(vhost, order, level, task="ranked.fail_twice")

    worker = start("--until-empty")

    assert worker.wait() == 0
    assert told(order) == [f"{level} {attempt}" for attempt in (1, 2, 3)]
    assert [attempt_of(event) for event in worker.find("done")] == [(3, 3)]
    assert vhost.counts(ranked) == {}


@pytest.mark.parametrize("level", LEVELS)
def test_a_message_keeps_its_level_stamped_dead_and_redriven(
    vhost: Vhost, start: Callable[..., Worker], level: str
) -> None:
    """One that comes without an id is published again with one, dies, and goes round again: each time by its level."""
    vhost.declare(ranked)
    vhost.publish(Route.fanout(), b'{"task": "ranked.reject"}', headers={"priority": level})
    worker = start("--until-empty")
    assert worker.wait() == 0
    (buried,) = worker.find("bury")
    assert vhost.counts(ranked) == {DLQ: 1}

    ended = run("leveret", "redrive", level_queue("ranked", level), "--quiet", AMQP_URL=vhost.amqp_url)

    assert (ended.returncode, ended.stdout.split()) == (0, [buried["id"]])
    assert vhost.counts(ranked) == {level_queue("ranked", level): 1}
    (again,) = vhost.take(level_queue("ranked", level))
    assert again.headers["priority"] == level


def test_what_is_delayed_comes_into_its_level(vhost: Vhost, order: Path) -> None:
    """By the entrance, as if it were submitted then."""
    vhost.declare(ranked)
    options = ("ranked.note", f"file={order}", "level=any", "-a", MODULE, "--delay", "1")

    for level in LEVELS:
        ended = run("leveret", "submit", *options, "--priority", level, AMQP_URL=vhost.amqp_url)
        assert ended.returncode == 0, ended.stderr

    await_value(lambda: ready(vhost) == dict.fromkeys(ranked.waits_in, 1), "each in its level")


@pytest.mark.parametrize("level", LEVELS)
def test_what_asks_to_run_later_comes_back_to_its_level(
    vhost: Vhost, start: Callable[..., Worker], order: Path, level: str
) -> None:
    """As the attempt it is."""
    vhost.declare(ranked)
    body = json.dumps({"task": "ranked.later", "kwargs": {"file": str(order)}}).encode()
    vhost.publish(Route.direct("ranked"), body, message_id="one", headers={"priority": level})
    worker = start()
    worker.await_event("later", id="one")
    assert worker.stop() == 0

    again = vhost.take_one(level_queue("ranked", level))
    assert (again.properties.message_id, again.headers["priority"]) == ("one", level)
    assert vhost.counts(ranked) == {}


def test_a_pause_is_one_of_all_levels(vhost: Vhost, start: Callable[..., Worker], order: Path, tmp_path: Path) -> None:
    """What the worker holds of any is handed back, nothing is taken until it goes on, and a level's name means it."""
    go = tmp_path / "go"
    worker = start_busy(vhost, start, order, go, prefetch=5)
    submit(vhost, order, *LEVELS * 2)
    await_value(lambda: not sum(ready(vhost).values()), "the worker to hold them")
    ended = run("leveret", "pause", "ranked.low", "--json", AMQP_URL=vhost.amqp_url)
    assert json.loads(ended.stdout) == {"queue": "ranked", "paused": True}
    await_value(lambda: ready(vhost) == dict.fromkeys(ranked.waits_in, 2), "what was held to be handed back")
    go.touch()
    worker.await_event("done", id="busy")
    submit(vhost, order, *LEVELS)

    assert ready(vhost) == dict.fromkeys(ranked.waits_in, 3)
    resume("ranked", configured=vhost.settings)
    await_value(lambda: len(told(order)) == 10, "all to run")
    assert worker.stop() == 0


def test_a_worker_that_starts_paused_takes_of_no_level(vhost: Vhost, start: Callable[..., Worker], order: Path) -> None:
    """Until the queue goes on."""
    vhost.declare(ranked)
    pause("ranked", configured=vhost.settings)
    submit(vhost, order, *LEVELS)
    worker = start()
    worker.await_event("paused by ", queue="ranked")

    assert ready(vhost) == dict.fromkeys(ranked.waits_in, 1)
    resume("ranked", configured=vhost.settings)
    await_value(lambda: len(told(order)) == 3, "all to run")
    assert worker.stop() == 0


@pytest.mark.parametrize("gone", ranked.waits_in)
def test_a_level_that_is_deleted_is_declared_again(
    vhost: Vhost, start: Callable[..., Worker], order: Path, gone: str
) -> None:
    """As any queue of a worker is, and then it takes of all three."""
    vhost.declare(ranked)
    worker = start("--processes", "1")
    with vhost.connect() as connection:
        connection.channel().queue_delete(gone)
    worker.await_event("lost the broker")
    worker.await_event("consuming again")
    submit(vhost, order, *LEVELS)
    await_value(lambda: len(told(order)) == 3, "all to run")

    assert worker.stop() == 0
    assert vhost.counts(ranked) == {}


def test_a_worker_hands_back_what_it_holds_of_each_level(
    vhost: Vhost, start: Callable[..., Worker], order: Path, tmp_path: Path
) -> None:
    """When it is told to stop."""
    go = tmp_path / "go"
    worker = start_busy(vhost, start, order, go, prefetch=5)
    submit(vhost, order, *LEVELS * 2)
    await_value(lambda: not sum(ready(vhost).values()), "the worker to hold them")
    worker.process.terminate()
    await_value(lambda: ready(vhost) == dict.fromkeys(ranked.waits_in, 2), "what was held to be handed back")
    go.touch()

    assert worker.wait() == 0


def test_the_levels_are_shown(vhost: Vhost, start: Callable[..., Worker], order: Path) -> None:
    """What is ready in each, below the queue they make up; also where only a worker knows that there are any."""
    vhost.declare(ranked)
    submit(vhost, order, "high", "low", "low")
    told_here = run("leveret", "info", "ranked.high", "-a", MODULE, AMQP_URL=vhost.amqp_url)
    lines = [line.split() for line in told_here.stdout.splitlines()]
    pause("ranked", configured=vhost.settings)
    worker = start()
    by_worker = run("leveret", "info", "--json", AMQP_URL=vhost.amqp_url)
    assert worker.stop() == 0

    assert [line[:2] for line in lines[2:6]] == [["ranked", "3"], ["high", "1"], ["normal", "0"], ["low", "2"]]
    (queue,) = json.loads(by_worker.stdout)["queues"]
    assert (queue["ready"], queue["ready_by_level"]) == (3, {"high": 1, "normal": 0, "low": 2})


def test_the_command_submits_with_a_priority(vhost: Vhost, order: Path) -> None:
    """And refuses one where the queue has none."""
    vhost.declare(ranked)
    options = ("ranked.note", f"file={order}", "level=high", "-a", MODULE)

    for level in LEVELS:
        assert run("leveret", "submit", *options, "--priority", level, AMQP_URL=vhost.amqp_url).returncode == 0
    refused = run("leveret", "submit", "unranked.note", "file=x", "level=y", "--priority", "low", "-a", MODULE)

    assert ready(vhost) == dict.fromkeys(ranked.waits_in, 1)
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "leveret submit: task 'unranked.note' cannot have priority 'low': queue 'unranked' has no priorities; "
    )


def test_a_worker_says_what_a_queue_has_left_in_its_levels(
    vhost: Vhost, workers: Workers, tmp_path: Path, order: Path
) -> None:
    """The first to start after its priorities were taken away; a worker of the former module still takes it."""
    vhost.declare(ranked)
    submit(vhost, order, "high", "low")
    (tmp_path / "no_levels.py").write_text(
        "from leveret import WorkQueue\nranked = WorkQueue('ranked', retry_delays=(0.3, 0.6), fanout=True)\n"
    )
    path = f"{tmp_path}:{workers.environment['PYTHONPATH']}"
    worker = workers.start(queue="ranked", tasks=["no_levels"], PYTHONPATH=path)
    left = [event["message"].partition(",")[0] for event in worker.find("1 message(s) wait in")]
    assert worker.stop() == 0

    former = workers.start("--no-declare", "--until-empty", queue="ranked", tasks=[MODULE])

    assert former.wait() == 0
    assert left == ["1 message(s) wait in ranked.high", "1 message(s) wait in ranked.low"]
    assert sorted(told(order)) == ["high", "low"]


def test_each_role_does_its_work_with_levels(vhost: Vhost, start: Callable[..., Worker], order: Path) -> None:
    """Declare, submit with a priority, run, stamp an id, bury, redrive: each by its own user, with no other rights."""
    administrator = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    try:
        made = run("leveret", "users", "--prefix", vhost.name, "-a", MODULE, **administrator)
        users = dict(zip(ROLES, made.stdout.split(), strict=True))

        def command(role: str, *words: str) -> str:
            ended = run("leveret", *words, AMQP_URL=users[role])
            assert ended.returncode == 0, ended.stderr
            return ended.stdout

        command("topology", "declare", "-a", MODULE)
        for level in LEVELS:
            options = ("--priority", level, f"file={order}", f"level={level}")
            command("producer", "submit", "ranked.note", "-a", MODULE, *options)
        vhost.publish(
            Route.direct("ranked"), b'{"task": "ranked.reject"}', users["producer"], headers={"priority": "low"}
        )
        assert start("--no-declare", "--until-empty", AMQP_URL=users["worker"]).wait() == 0
        assert Counter(told(order)) == dict.fromkeys(LEVELS, 1)
        command("topology", "redrive", "ranked")
        assert vhost.counts(ranked) == {"ranked.low": 1}
        command("topology", "declare", "-a", MODULE)
    finally:
        for role in ROLES:
            vhost.api("DELETE", f"users/{vhost.name}-{role}")
