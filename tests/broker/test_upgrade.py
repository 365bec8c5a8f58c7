"""The former version beside this one: messages, queues and workers of each meet the other, and nothing is lost.

The former version is taken from the history of this repository.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from leveret import Publisher, Route, TaskMessage, WorkQueue
from leveret.topology.names import PRIORITY_HEADER, dlq_name
from leveret.topology.settings import CHECKOUT
from tests.broker.support import Started, Vhost, Worker, Workers, await_value, run

FORMER = ("v0.1.0", "6d0dd4b5f0d2d6205bfc37ba572a2f55f20a42de")
"""What was released last: a tag, and the commit that it is to stand at."""
MODULE = '''
import os
import pathlib
import time

try:
    from topology import WorkQueue
    from consumers import current_attempt, task
except ImportError:
    from leveret import WorkQueue, current_attempt, task

both = WorkQueue("upgraded", retry_delays=(0.3, 0.6))


@task("upgraded.write", queue=both)
def write(path: str, fails: int = 0, until: str = "") -> None:
    """Append a line to a file, after so many attempts that fail."""
    attempt = current_attempt()
    if attempt.number <= fails:
        raise ValueError(f"attempt {attempt.number}")
    while until and not pathlib.Path(until).exists():
        time.sleep(0.01)
    with open(path, "a") as file:
        file.write(f"{attempt.id}\\n")
'''
both = WorkQueue("upgraded", retry_delays=(0.3, 0.6))
ALWAYS = 99
HANDED_BACK = 3
"""The exit status of a worker that has not finished what it held."""


@pytest.fixture(scope="session")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the former version."""
    folder = tmp_path_factory.mktemp("former")
    for name in FORMER:
        packed = subprocess.run(
            ["git", "-C", str(CHECKOUT), "archive", "--format=tar", name], capture_output=True, check=False
        )
        if packed.returncode == 0:
            subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
            return folder
    pytest.skip(f"no history here: git archive {FORMER[0]} says {packed.stderr.decode().strip()!r}")


class Former(Started):
    """Runs commands of the former version on the virtual host of a test."""

    def __init__(self, vhost: Vhost, folder: Path, version: Path) -> None:
        super().__init__(vhost, folder)
        self._version = version
        self.environment["PYTHONPATH"] = f"{version}:{folder}"

    def run(self, *words: str) -> str:
        """Run a module of it to its end; returns what it prints."""
        ended = subprocess.run(
            [sys.executable, "-m", *words],
            env=self.environment,
            cwd=self._version,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def work(self, **environment: str) -> Worker:
        """Start a worker of it, and wait until it consumes or has ended."""
        words = ["-m", "consumers.run", "--queue", both.name, "--tasks", "both_tasks", "--log-format", "json"]
        process = subprocess.Popen(
            [sys.executable, *words, "--processes", "1"],
            env={**self.environment, **environment},
            cwd=self._version,
            stderr=subprocess.PIPE,
            text=True,
        )
        worker = self._keep(process)
        await_value(lambda: worker.find("consuming") or worker.process.poll() is not None, "the former worker")
        return worker


class Versions:
    """Both versions, with a file in which their tasks write their ids."""

    def __init__(self, vhost: Vhost, folder: Path, former: Former, workers: Workers) -> None:
        self.vhost, self.former, self._workers = vhost, former, workers
        self.path = folder / "written"
        (folder / "both_tasks.py").write_text(MODULE)
        self._folder = folder

    def work(self) -> Worker:
        """Start a worker of this version."""
        path = f"{self._folder}:{CHECKOUT}"
        return self._workers.start("--processes", "1", queue=both.name, tasks=["both_tasks"], PYTHONPATH=path)

    def kwargs(self, **more: object) -> dict[str, object]:
        return {"path": str(self.path), **more}

    def submit_by_former(self, count: int = 1, **more: object) -> list[str]:
        """Submit tasks by the former version; returns the ids."""
        file = self._folder / "calls.jsonl"
        file.write_text(f"{json.dumps(self.kwargs(**more))}\n" * count)
        return self.former.run(
            "producers.submit", "upgraded.write", "--tasks", "both_tasks", "--file", str(file)
        ).split()

    @property
    def written(self) -> Counter[str]:
        """How often each id was written."""
        return Counter(self.path.read_text().split() if self.path.exists() else ())

    def await_written(self, *ids: str) -> None:
        await_value(lambda: set(ids) <= self.written.keys(), f"{ids} to be written")

    def await_dead(self, count: int) -> None:
        await_value(lambda: self.vhost.count(dlq_name(both.name)) == count, f"{count} dead messages")


@pytest.fixture
def versions(vhost: Vhost, workers: Workers, tmp_path: Path, former: Path) -> Iterator[Versions]:
    made = Former(vhost, tmp_path, former)
    yield Versions(vhost, tmp_path, made, workers)
    made.kill_all()


@pytest.fixture
def submit(versions: Versions) -> Iterator[Publisher]:
    with Publisher(versions.vhost.settings) as made:
        yield made


def declare_former(versions: Versions) -> None:
    versions.former.run("topology.declare", "--tasks", "both_tasks")


def test_each_declares_over_the_other(versions: Versions) -> None:
    """Neither is refused, whichever came before, and both ways work afterwards."""
    for _ in range(2):
        declare_former(versions)
        versions.vhost.declare(both)
    (task_id,) = versions.submit_by_former()
    worker = versions.work()
    versions.await_written(task_id)

    assert worker.stop() == 0


def test_this_worker_runs_what_the_former_submitted_and_buried(versions: Versions) -> None:
    """Messages that wait, are in its retry tiers or in its DLQ, which this version redrives."""
    old = versions.former.work()
    (dead,) = versions.submit_by_former(fails=ALWAYS)
    versions.await_dead(1)

    assert old.stop() == 0
    waiting = versions.submit_by_former(2)
    (retried,) = versions.submit_by_former(fails=1)
    versions.vhost.fail(both.name, waiting[0])
    worker = versions.work()
    versions.await_written(*waiting, retried)
    run("producers.redrive", both.name, AMQP_URL=versions.vhost.amqp_url)
    buried = await_value(lambda: worker.find("bury", id=dead), "it to die again")

    assert buried[0]["attempt"] == 3
    assert worker.stop() == 0
    assert versions.vhost.ids_in(dlq_name(both.name)) == [dead]
    assert versions.written == dict.fromkeys([*waiting, retried], 1)


def message(versions: Versions, **more: object) -> TaskMessage:
    return TaskMessage.create("upgraded.write", kwargs=versions.kwargs(**more))


def test_the_former_worker_runs_what_this_version_submits(versions: Versions, submit: Publisher) -> None:
    """What only this version knows, as who follows a task, goes for nothing, and no message with it."""
    versions.vhost.declare(both)
    old = versions.former.work()
    carried = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    messages = [
        message(versions),
        message(versions, fails=1),
        replace(message(versions), follow=True),
        replace(message(versions), headers=carried),
        replace(message(versions, fails=1), due=time.time() + 1),
        replace(message(versions), route=Route.direct(both.name), headers={PRIORITY_HEADER: "high"}),
    ]
    ids = submit.submit_many(messages)
    dead = submit.publish(message(versions, fails=ALWAYS))
    versions.await_written(*ids)
    versions.await_dead(1)

    assert versions.written == dict.fromkeys(ids, 1)
    assert old.stop() == 0
    assert versions.vhost.ids_in(dlq_name(both.name)) == [dead]
    assert versions.vhost.counts(both) == {}


def test_there_and_back_with_tasks_in_flight(versions: Versions, submit: Publisher, tmp_path: Path) -> None:
    """A rolling upgrade, and the way back: what runs is finished, what waits or fails is taken by the other."""
    there, back = tmp_path / "there", tmp_path / "back"
    old = versions.former.work()
    ids = versions.submit_by_former(until=str(there))
    old.await_event("consuming")
    ids += versions.submit_by_former(20) + versions.submit_by_former(5, fails=2)
    new = versions.work()
    old.signal(signal.SIGTERM)
    versions.await_written(*ids[1:])
    there.touch()

    assert old.wait() == 0
    dead = submit.publish(message(versions, fails=ALWAYS))
    versions.await_dead(1)
    held = submit.publish(message(versions, until=str(back)))
    ids += submit.submit_many([message(versions, fails=number % 3) for number in range(20)])
    former = versions.former.work()
    new.signal(signal.SIGTERM)
    versions.await_written(*ids)
    back.touch()

    assert new.wait() == 0
    versions.await_written(held)
    assert former.stop() == 0
    assert versions.written == dict.fromkeys([*ids, held], 1)
    assert versions.vhost.ids_in(dlq_name(both.name)) == [dead]
    assert versions.vhost.counts(both) == {}


def test_what_a_former_worker_cannot_bury_any_more_is_buried_by_this_version(
    versions: Versions, submit: Publisher
) -> None:
    """The way to the DLQ is another, so it keeps what is dead, and hands it back when it is stopped."""
    old = versions.former.work(SHUTDOWN_TIMEOUT_SECONDS="1")
    versions.vhost.declare(both)
    dead = submit.publish(message(versions, fails=ALWAYS))
    old.await_event(f"keeping {dead}")

    assert old.stop() == HANDED_BACK
    new = versions.work()
    versions.await_dead(1)

    assert new.stop() == 0
    assert versions.vhost.ids_in(dlq_name(both.name)) == [dead]


def test_retries_that_a_former_worker_has_led_astray_end_when_this_version_declares(
    versions: Versions, submit: Publisher
) -> None:
    """One that starts late leads them through its own tiers, by a way that this version believes no attempt of."""
    new = versions.work()
    declare_former(versions)
    dead = submit.publish(message(versions, fails=ALWAYS))
    await_value(lambda: len(new.find("retry", id=dead, attempt=1)) > both.attempts, "it to begin again and again")
    versions.vhost.declare(both)
    versions.await_dead(1)

    assert new.stop() == 0
    assert versions.vhost.ids_in(dlq_name(both.name)) == [dead]
