"""Progress: who follows a task sees it run, wherever it runs; what nobody follows says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leveret import Publisher, State, Submitted
from leveret.producers import default
from leveret.topology import events
from leveret.topology.events import Event, Kind
from leveret.topology.names import EVENTS_EXCHANGE
from tests.broker import progress_jobs
from tests.broker.progress_jobs import steps
from tests.broker.support import Vhost, Worker, Workers, await_value

JOBS = "tests.broker.progress_jobs"


@pytest.fixture
def publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """This process's own publisher."""
    vhost.declare(steps)
    with Publisher(vhost.settings) as made:
        monkeypatch.setattr(default, "_default", made)
        yield made


@pytest.fixture
def worker(publisher: Publisher, workers: Workers) -> Worker:
    return start(workers)


def start(workers: Workers, *options: str) -> Worker:
    return workers.start("--processes", "1", "--threads", "4", *options, queue=steps.name, tasks=[JOBS])


def until(sent: Submitted[Any], kind: Kind, **fields: object) -> list[tuple[Kind, Event]]:
    """Follow a task until it is told such an event of it; returns all up to that one."""
    told = []
    for one, event in sent.events(60):
        told.append((one, event))
        if one is kind and fields.items() <= event.items():
            return told
    raise AssertionError(f"it ended without {kind} {fields}: {told}")


def test_a_plain_task_is_seen_to_come_along(worker: Worker, tmp_path: Path) -> None:
    """It has begun, in that process; then half is done, which stands in its status until it has ended."""
    sent = progress_jobs.plain.options(follow=True).submit(str(tmp_path))
    *_, (_, begun), (_, half) = until(sent, Kind.PROGRESS)
    status = sent.status()

    assert (half["done"], half["total"], half["note"]) == (1.0, 2.0, "attempt 1\\x1b[2J")
    assert (begun["attempt"], begun["of"], begun["queue"]) == (1, 2, "steps")
    assert begun["child"] != worker.process.pid
    assert (status.state, status.done, status.total, status.note) == (State.STARTED, 1.0, 2.0, half["note"])
    (tmp_path / "go").touch()
    assert sent.result(60) is None
    assert sent.status().state is State.SUCCEEDED


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_each_of_many_is_seen(worker: Worker, publisher: Publisher, tmp_path: Path, kind: str) -> None:
    """With its own part, in one process."""
    task = progress_jobs.side_by_side if kind == "async" else progress_jobs.in_thread
    all_sent = [task.options(follow=True).submit(str(tmp_path), part) for part in range(4)]
    seen = [until(sent, Kind.PROGRESS)[-1][1] for sent in all_sent]

    assert [(event["done"], event["total"]) for event in seen] == [(float(part), 10.0) for part in range(4)]
    assert [event["id"] for event in seen] == all_sent
    (tmp_path / "go").touch()
    assert [sent.result(60) for sent in all_sent] == [None] * 4


def test_what_nobody_follows_says_nothing(worker: Worker, vhost: Vhost, tmp_path: Path) -> None:
    """Nor does what has ended within a moment say that it began."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("listening", durable=True)
        channel.queue_bind("listening", EVENTS_EXCHANGE, "#")
    unfollowed = progress_jobs.side_by_side.submit(str(tmp_path), 1)
    followed = progress_jobs.side_by_side.options(follow=True).submit(str(tmp_path), 2)
    until(followed, Kind.PROGRESS)
    (tmp_path / "go").touch()
    worker.await_event("done", id=unfollowed)
    brief = progress_jobs.many.options(follow=True).submit(3)
    assert (brief.result(60), followed.result(60)) == (3, None)
    told: list[events.Told] = []

    def kinds() -> set[Kind]:
        told.extend(events.read(message.body) for message in vhost.take("listening"))
        return {one.kind for one in told for event in one.events if event["id"] == brief}

    await_value(lambda: {Kind.SUBMITTED, Kind.SUCCEEDED} <= kinds(), "that it was submitted and has succeeded")
    assert {event["id"] for one in told for event in one.events} == {followed, brief}


def test_a_tight_loop_is_told_of_a_few_times(worker: Worker) -> None:
    """A million steps are no million messages, and what is told only grows."""
    sent = progress_jobs.many.options(follow=True).submit(3_000_000)
    parts = [event["done"] for kind, event in sent.events(60) if kind is Kind.PROGRESS]

    assert sent.result() == 3_000_000
    assert 1 <= len(parts) < 500
    assert parts == sorted(parts)


def test_what_runs_again_alone_is_seen_to_begin_again(worker: Worker, tmp_path: Path) -> None:
    """As the same attempt, when another of its process has killed that."""
    sent = progress_jobs.side_by_side.options(follow=True).submit(str(tmp_path), 5)
    first = until(sent, Kind.PROGRESS)[0][1]
    progress_jobs.kill.submit(str(tmp_path))
    (tmp_path / "kill").touch()
    again = next(event for kind, event in sent.events(60) if kind is Kind.STARTED and event["child"] != first["child"])

    assert (again["attempt"], first["attempt"]) == (1, 1)
    (tmp_path / "go").touch()
    assert sent.result(60) is None
