"""Limits across all workers: never more at once, nor in a period, whatever dies."""

from __future__ import annotations

import bisect
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import pytest

from leveret import Publisher, Route, State, TaskMessage, WorkQueue, declare
from leveret.topology import names, queues
from tests.broker.limited_jobs import both, few, graded, keyed, paced, run_graded
from tests.broker.support import Vhost, Workers, await_value, children_of, run

MODULE = ("tests.broker.limited_jobs",)
AT_ONCE, PER_SECOND = names.at_once_tokens("few"), names.rate_tokens("paced", 1)


class Run:
    """One run of a task, as it wrote it down."""

    def __init__(self, line: str) -> None:
        self.id, self.began, self.ended, self.about, self.pid = json.loads(line)


def runs_in(path: Path) -> list[Run]:
    """Return the runs that were written down in whole lines."""
    if not path.exists():
        return []
    return [Run(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def most_at_once(runs: list[Run]) -> int:
    """Return how many ran at the same moment."""
    moments = sorted([(one.began, 1) for one in runs] + [(one.ended, -1) for one in runs])
    most = now = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def most_within(runs: list[Run], seconds: float) -> int:
    """Return how many began in any window of so many seconds."""
    moments = sorted(one.began for one in runs)
    return max(bisect.bisect_left(moments, moment + seconds) - at for at, moment in enumerate(moments))


def submit(vhost: Vhost, task: str, count: int, path: Path, queue: str, **kwargs: object) -> None:
    with Publisher(vhost.settings) as publisher:
        publisher.submit_many(task, [{"path": str(path), **kwargs} for _ in range(count)], route=Route.direct(queue))


def start(workers: Workers, count: int, queue: str, *options: str, **environment: str) -> list:  # type: ignore[type-arg]
    return [workers.start("--processes", "2", *options, queue=queue, tasks=MODULE, **environment) for _ in range(count)]


def await_runs(path: Path, count: int) -> list[Run]:
    await_value(lambda: len({one.id for one in runs_in(path)}) >= count, f"{count} runs")
    return runs_in(path)


def await_tokens(vhost: Vhost, queue: str, count: int) -> None:
    """Wait until so many tokens lie in their queue, and stay there."""
    for _ in range(3):
        await_value(lambda: vhost.count(queue) == count, f"{count} tokens in {queue}")


def test_never_more_run_at_once_whoever_runs_them(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Three workers with six processes run three at a time, always three, and the tokens are there at the end."""
    vhost.declare(few)
    path = tmp_path / "runs"
    start(workers, 3, "few")
    submit(vhost, "few.run", 60, path, "few")

    runs = await_runs(path, 60)

    assert len(runs) == 60
    assert most_at_once(runs) == 3
    await_tokens(vhost, AT_ONCE, 3)


def test_never_more_begin_in_any_second_and_a_killed_worker_changes_nothing(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """Of a rate of 20 per second no window of a second has more, and all 20 tokens come back."""
    vhost.declare(paced)
    path = tmp_path / "runs"
    submit(vhost, "paced.run", 100, path, "paced")
    started = start(workers, 3, "paced")
    await_runs(path, 30)
    started[0].signal(signal.SIGKILL)

    runs = await_runs(path, 100)

    assert most_within(runs, 1.0) <= 20
    assert max(one.began for one in runs) - min(one.began for one in runs) < 12
    await_tokens(vhost, PER_SECOND, 20)


def test_a_killed_worker_gives_its_tokens_back(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Killed while it holds tokens, one after the other; never are there more or fewer.

    Its processes follow it within a moment, and on a busy machine the broker may be quicker.
    """
    vhost.declare(few)
    path = tmp_path / "runs"
    started = start(workers, 4, "few")
    killed: dict[int, float] = {}
    submit(vhost, "few.run", 60, path, "few", seconds=0.2)
    for worker in started[:3]:
        done = len(runs_in(path))
        await_runs(path, done + 5)
        (forkserver,) = children_of(worker.process.pid)
        killed |= dict.fromkeys(children_of(forkserver), time.time())
        worker.signal(signal.SIGKILL)
        worker.wait()

    runs = await_runs(path, 60)
    for one in runs:
        one.ended = min(one.ended, max(one.began, killed.get(one.pid, one.ended)))

    assert most_at_once(runs) <= 3
    await_tokens(vhost, AT_ONCE, 3)


def redeclare(vhost: Vhost, at_once: int) -> None:
    """Declare the queue with another limit, as a newer version of the program does."""
    known = dict(queues._known)
    queues.forget()
    try:
        declare(vhost.settings, [WorkQueue("few", topics=("few.#",), retry_delays=(0.3,), at_once=at_once)])
    finally:
        queues.forget()
        queues._known.update(known)


def test_a_limit_changes_while_tasks_run(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Declared again as 5 and as 2, the limit is that: at once, or as soon as what runs has ended."""
    vhost.declare(few)
    path = tmp_path / "runs"
    start(workers, 3, "few")
    submit(vhost, "few.run", 300, path, "few")
    assert most_at_once(await_runs(path, 20)) == 3
    redeclare(vhost, 5)
    await_value(lambda: most_at_once(runs_in(path)) == 5, "five to run at once")
    redeclare(vhost, 2)
    with_two = len(runs_in(path)) + 20  # each of five may have been held for a moment longer

    runs = await_runs(path, 300)

    assert most_at_once(runs) == 5
    assert most_at_once(runs[with_two:]) == 2
    await_tokens(vhost, AT_ONCE, 2)


def test_two_who_declare_at_once_make_no_more(vhost: Vhost) -> None:
    """Whoever declares, however many at the same time: there are as many tokens as the limit says."""
    code = (
        "from leveret import declare\nfrom leveret.topology import settings\n"
        "from tests.broker.limited_jobs import few, paced\ndeclare()"
    )
    told = {**os.environ, "AMQP_URL": vhost.amqp_url}
    started = [subprocess.Popen([sys.executable, "-c", code], env=told) for _ in range(4)]

    assert [one.wait(60) for one in started] == [0] * 4
    assert (vhost.count(AT_ONCE), vhost.count(PER_SECOND)) == (3, 20)


def test_tokens_whose_queue_is_deleted_are_made_again_but_not_at_once(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """What runs at that moment may have them still, so the new ones come when no task can run any longer."""
    vhost.declare(few)
    path = tmp_path / "runs"
    start(workers, 3, "few")
    submit(vhost, "few.run", 30, path, "few", seconds=0.3)
    await_runs(path, 6)
    with vhost.connect() as connection:
        connection.channel().queue_delete(AT_ONCE)

    runs = await_runs(path, 30)

    assert most_at_once(runs) == 3
    await_tokens(vhost, AT_ONCE, 3)


def test_both_limits_of_a_queue_hold_for_tasks_that_run_side_by_side(
    vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """Two at once, and ten in a second."""
    vhost.declare(both)
    path = tmp_path / "runs"
    submit(vhost, "both.run", 30, path, "both")
    start(workers, 2, "both")

    runs = await_runs(path, 30)

    assert most_at_once(runs) <= 2
    assert most_within(runs, 1.0) <= 10


def test_a_limit_is_of_all_levels_of_a_queue_together(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Whatever the priority of a task, two of the queue run at once."""
    vhost.declare(graded)
    path = tmp_path / "runs"
    start(workers, 2, "graded")
    levels: list[Literal["high", "normal", "low"]] = ["high", "normal", "low"]
    with Publisher(vhost.settings) as publisher:
        for priority in levels * 8:
            publisher.publish(run_graded.options(priority=priority).message(path=str(path)))

    runs = await_runs(path, 24)

    assert most_at_once(runs) == 2


def test_each_key_has_the_limit_for_itself(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Of each customer two run at once, those of others beside them, and who has no limit waits for none."""
    vhost.declare(keyed)
    path = tmp_path / "runs"
    for customer in ("ann", "a customer of many words", "bob"):
        submit(vhost, "keyed.run", 12, path, "keyed", customer=customer)
    submit(vhost, "keyed.paced", 12, path, "keyed", customer="carl")
    submit(vhost, "keyed.free", 5, path, "keyed")
    start(workers, 2, "keyed", "--threads", "4")

    runs = await_runs(path, 53)

    of = defaultdict(list)
    for one in runs:
        of[one.about].append(one)
    assert Counter(one.about for one in runs) == {
        "ann": 12,
        "a customer of many words": 12,
        "bob": 12,
        "carl": 12,
        "": 5,
    }
    assert {customer: most_at_once(of[customer]) for customer in ("ann", "a customer of many words", "bob")} == {
        "ann": 2,
        "a customer of many words": 2,
        "bob": 2,
    }
    assert most_at_once([one for one in runs if one.about != "carl"]) > 2
    assert most_within(of["carl"], 1.0) <= 5
    assert {f"{names.at_once_tokens('keyed.run', 2)}/ann", f"{names.at_once_tokens('keyed.run', 2)}/bob"} <= (
        vhost.queues()
    )


def test_a_key_that_is_no_text_is_buried_with_the_reason(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A foreign client may send anything; nothing is lost, and nothing runs past its limit."""
    vhost.declare(keyed)
    vhost.publish_task(Route.direct("keyed"), "keyed.run", "odd", path=str(tmp_path / "runs"), customer=["a"])
    start(workers, 1, "keyed")

    dead = vhost.take_one("keyed.dlq")

    assert dead.properties.message_id == "odd"
    assert "takes text or a number" in dead.headers["failure-message"]


@pytest.mark.parametrize("task", ["few.fail", "few.die"])
def test_whatever_becomes_of_a_task_its_token_comes_back(vhost: Vhost, workers: Workers, task: str) -> None:
    """A failure, a retry, and a process that dies."""
    vhost.declare(few)
    for number in range(6):
        vhost.publish_task(Route.direct("few"), task, f"id-{number}")
    start(workers, 1, "few")

    await_value(lambda: vhost.count("few.dlq") == 6, "all to be dead", 120)

    await_tokens(vhost, AT_ONCE, 3)


def test_a_message_among_the_tokens_that_is_none_is_dropped(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """It is no token, and it keeps nobody from one."""
    vhost.declare(few)
    vhost.publish(Route(names.LIMITS_EXCHANGE, AT_ONCE), b"what", priority=1)
    path = tmp_path / "runs"
    submit(vhost, "few.run", 3, path, "few")
    (worker,) = start(workers, 1, "few")

    await_runs(path, 3)

    assert worker.find(f"a message in {AT_ONCE} that is no token is dropped")
    await_tokens(vhost, AT_ONCE, 3)


def test_info_shows_who_waits_for_what(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """The limit, its tokens, how many are in use, and how many tasks wait for one."""
    vhost.declare(few)
    path = tmp_path / "runs"
    start(workers, 3, "few")
    submit(vhost, "few.run", 60, path, "few", seconds=1.0)

    def look() -> bool:
        shown = run("leveret", "info", "--json", AMQP_URL=vhost.amqp_url, MANAGEMENT_URL=vhost.broker.management_url)
        told = json.loads(shown.stdout)["limits"]
        return bool(told) and told[0]["name"] == "few" and told[0]["in_use"] == 3 and told[0]["waiting"] > 0

    await_value(look, "the limit in what info shows")
    shown = run("leveret", "info", AMQP_URL=vhost.amqp_url, MANAGEMENT_URL=vhost.broker.management_url)
    assert any(line.split()[:2] == ["LIMIT", "TOKENS"] for line in shown.stdout.splitlines())


def test_who_follows_a_task_hears_what_it_waits_for(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """One that waits for a token for longer than a moment is blocked, by its limit, and then runs like any other."""
    vhost.declare(few)
    start(workers, 3, "few")
    path = tmp_path / "runs"
    with Publisher(vhost.settings) as publisher:
        messages = [
            TaskMessage.create(
                "few.run", (), {"path": str(path), "seconds": 2.0}, route=Route.direct("few"), follow=True
            )
            for _ in range(6)
        ]
        start(workers, 2, "few")
        handles = [publisher.publish(message) for message in messages]

        def blocked() -> list[str]:
            return [one.status().reason for one in handles if one.status().state is State.BLOCKED]

        assert await_value(blocked, "a task that is blocked")[0] == "limit few"
        for handle in handles:
            handle.result(timeout=60)

    assert most_at_once(runs_in(path)) == 3


def test_a_task_that_may_outlast_its_token_is_refused(vhost: Vhost, workers: Workers) -> None:
    """After the consumer timeout the broker would give the token to another."""
    vhost.declare(few)
    worker = workers.start(queue="few", tasks=MODULE, CONSUMER_TIMEOUT_SECONDS="8")

    assert worker.wait() == 1
    assert "the broker gives the token of its limit 'few' to another after 8 s" in worker.text + str(worker.events)


def test_pausing_and_leaving_give_tokens_back(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """What waited for a token lies in its queue again, and the tokens are there for others."""
    vhost.declare(few)
    path = tmp_path / "runs"
    submit(vhost, "few.run", 40, path, "few", seconds=0.3)
    (worker,) = start(workers, 1, "few")
    await_runs(path, 3)

    assert worker.stop() == 0, (worker.events[-5:], worker.text)

    await_tokens(vhost, AT_ONCE, 3)
    assert vhost.count("few") == 40 - len(runs_in(path))
