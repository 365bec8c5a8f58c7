"""What followed tasks log and print: who follows them reads it while they run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leveret import Publisher, Submitted, TaskFailed
from leveret.consumers.child.protocol import Lines, pack_lines
from leveret.producers import default
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.names import EVENTS_EXCHANGE
from tests.broker import logging_jobs as jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, run

JOBS = "tests.broker.logging_jobs"


@pytest.fixture
def publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """This process's own publisher."""
    vhost.declare(jobs.logging_jobs)
    with Publisher(vhost.settings) as made:
        monkeypatch.setattr(default, "_default", made)
        yield made


def start(workers: Workers, *options: str) -> Worker:
    return workers.start("--processes", "1", *options, queue="logging", tasks=[JOBS])


@pytest.fixture
def worker(publisher: Publisher, workers: Workers) -> Worker:
    return start(workers, "--threads", "4")


def lines_of(sent: Submitted[Any]) -> list[str]:
    """What was told so far, each line without its time."""
    assert sent._entry is not None
    told = [event["lines"] for kind, event in sent._entry.history if kind is Kind.LOG]
    return [line.split(" ", 1)[1] for lines in told for line in lines]


@pytest.mark.parametrize("task", [jobs.plain, jobs.threaded, jobs.side_by_side], ids=["plain", "threads", "async"])
def test_what_tasks_write_is_told_while_they_run(task: Any, worker: Worker, tmp_path: Path) -> None:
    """The first line at once, the rest at the end at the latest; of two that run side by side each its own."""
    path = tmp_path / "go"
    names = ["one"] if task is jobs.plain else ["one", "two"]
    sent = {name: task.options(follow=True).submit(name, str(path)) for name in names}
    for name, handle in sent.items():
        await_value(lambda handle=handle: lines_of(handle), f"the first line of {name}")  # type: ignore[misc]
        assert lines_of(handle)[0] == f"stdout {name} begins"
    path.touch()

    for name, handle in sent.items():
        handle.result(60)
        assert lines_of(handle) == [
            f"stdout {name} begins",
            f"warning {name} warns",
            f"stderr {name} on stderr",
            f"stdout {name} ends",
        ]
    for name in names:
        assert len(worker.find(f"{name} warns", level="warning", task=task.name)) == 1
        assert worker.text.count(f"{name} on stderr") == 1


def test_it_is_told_to_who_listens_with_attempt_and_time_and_of_nobody_else(
    worker: Worker, vhost: Vhost, tmp_path: Path
) -> None:
    """A task with follow=True is followed; a message without is not. Each line begins with its time."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("heard", durable=True)
        channel.queue_bind("heard", EVENTS_EXCHANGE, "task.log.#")
    (tmp_path / "go").touch()
    jobs.plain.submit("nobody", str(tmp_path / "go"))
    sent = jobs.always.submit("hello")
    worker.await_event("done", id=sent.id)

    (
        (
            kind,
            task,
            _,
            (event),
        ),
    ) = [
        (told.kind, told.task, told.worker, told.events[0])
        for told in await_value(lambda: [events.read(one.body) for one in vhost.take("heard")], "the event")
    ]
    assert (kind, task, event["id"], event["attempt"], event["of"]) == (Kind.LOG, "logging.always", sent.id, 1, 2)
    moment, stream, text = event["lines"][0].split(" ", 2)
    assert (len(moment), stream, text) == (len("2026-11-28T15:27:23.120Z"), "stdout", "hello")


def test_what_was_printed_before_a_failure_is_told_before_it(worker: Worker) -> None:
    """In each attempt, half a line as well."""
    sent = jobs.fails.options(follow=True).submit()
    with pytest.raises(TaskFailed):
        sent.result(60)

    assert sent._entry is not None
    told = [kind for kind, _ in sent._entry.history if kind is not Kind.STARTED]  # which only what runs for long has
    assert told == [Kind.LOG, Kind.RETRYING, Kind.LOG, Kind.FAILED]
    assert lines_of(sent) == ["stdout before it fails"] * 2


def test_more_than_an_attempt_may_log_is_counted_and_the_task_goes_on(worker: Worker) -> None:
    """The worker's own log has all of it."""
    sent = jobs.much.options(follow=True).submit(1000)
    sent.result(60)

    assert sent._entry is not None
    dropped = sum(event["dropped"] for kind, event in sent._entry.history if kind is Kind.LOG)
    lines = lines_of(sent)
    assert "256 KiB" in lines[-1]
    assert len(lines) - 1 + dropped == 1000
    assert 0 < len(lines) < 300


def test_a_soft_time_limit_comes_between_two_frames(worker: Worker) -> None:
    """However much the task writes at that moment: it is the task that fails, and not its child."""
    sent = jobs.late.options(follow=True).submit()
    with pytest.raises(TaskFailed) as failed:
        sent.result(60)

    assert failed.value.failure["type"] == "SoftTimeLimitExceeded"
    assert worker.find("a child process is killed") == []


def test_a_child_that_writes_more_than_a_task_may_is_killed(worker: Worker) -> None:
    """It does not go by the rules, so nothing it says is believed any more; the worker goes on."""
    flood = b"".join(pack_lines(Lines(1, "logging.wild", ["x" * 4000] * 40, 0)) for _ in range(3))
    jobs.wild.options(follow=True).submit(flood.hex())
    worker.await_event("a child process is killed")
    sent = jobs.always.submit("still here")

    assert worker.await_event("done", id=sent.id)


def test_files_have_what_each_process_writes_to_stderr(publisher: Publisher, workers: Workers, tmp_path: Path) -> None:
    """One of the worker and one of its child; moved away amid the run, they are followed by others of that name."""
    worker = start(workers, "--log-dir", str(tmp_path / "logs"))
    (tmp_path / "go").touch()

    def run_one(name: str) -> dict[str, str]:
        sent = jobs.plain.options(follow=True).submit(name, str(tmp_path / "go"))
        sent.result(60)
        worker.await_event("done", id=sent.id)
        return {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}

    first = run_one("first")
    for name in first:
        (tmp_path / "logs" / name).rename(tmp_path / name)
    second = run_one("second")

    assert sorted(name.partition("-")[0] for name in first) == ["child", "worker"]
    assert first.keys() == second.keys()
    for files, name, other in ((first, "first", "second"), (second, "second", "first")):
        (child,) = (text for file, text in files.items() if file.startswith("child"))
        assert f"{name} on stderr\n" in child
        assert f"{name} warns" in child
        assert other not in child
    assert worker.stop() == 0
    rest = "".join(path.read_text() for path in (tmp_path / "logs").glob("worker-*"))
    assert '"message": "stopped"' in rest


def test_a_log_directory_that_is_taken_away_fails_no_task(
    publisher: Publisher, workers: Workers, tmp_path: Path
) -> None:
    """It is told once by each process, on stderr."""
    worker = start(workers, "--log-dir", str(tmp_path / "logs"))
    (tmp_path / "go").touch()
    jobs.plain.options(follow=True).submit("before", str(tmp_path / "go")).result(60)
    shutil.rmtree(tmp_path / "logs")
    (tmp_path / "logs").touch()
    for name in ("one", "two"):
        jobs.plain.options(follow=True).submit(name, str(tmp_path / "go")).result(60)

    assert worker.stop() == 0
    news = worker.find(str(tmp_path / "logs"), level="warning")
    assert len({event["pid"] for event in news}) == len(news) == 2
    assert len(worker.find("done")) == 3


def test_a_log_directory_that_cannot_be_used_is_one_clear_error(vhost: Vhost, tmp_path: Path) -> None:
    """Before the worker takes anything."""
    (tmp_path / "file").touch()
    ended = run("leveret", "run", "logging", "-a", JOBS, "--log-dir", str(tmp_path / "file" / "logs"))

    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert "name a directory in which this user may write" in ended.stderr
