"""A worker that starts anew when its code changes: nothing is lost, and broken code waits to be mended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret import Route
from leveret.topology.settings import CHECKOUT
from tests.broker.support import Vhost, Worker, await_value, children_of, is_alive

CODE = """
import os, time
from leveret import WorkQueue, current_attempt, task
edited = WorkQueue("edited")
VERSION = "1"
@task("edited.note", queue=edited)
def note(path: str, until: str = "") -> None:
    while until and not os.path.exists(until):
        time.sleep(0.01)
    time.sleep(0.02)
    with open(path, "a") as file:
        file.write(f"{current_attempt().id} {current_attempt().number} {VERSION}\\n")
"""
TASKS_EACH = 30
_SAVED_AT = 1_000_000_000


class Project:
    """A folder in which somebody works, and a worker that runs what is there."""

    def __init__(self, vhost: Vhost, folder: Path) -> None:
        self._vhost, self._folder = vhost, folder
        self._notes = folder / "notes"
        self.submitted: list[str] = []
        self.save("1")
        compiles = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {**compiles, "AMQP_URL": vhost.amqp_url, "PYTHONPATH": str(CHECKOUT)}
        command = [sys.executable, "-m", "leveret", "run", "--reload", "-a", "edited_tasks", "--processes", "2"]
        self.worker = Worker(
            subprocess.Popen(
                [*command, "--log-format", "json", "--log-level", "debug"],
                cwd=folder,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self.worker.await_event("consuming")

    def save(self, version: str, old: str = '"1"', new: str = "") -> None:
        """Save the code with this version, or with something else in place of it.

        It is always of the same second and the same size, as what is saved twice at once is; by these Python knows what
        it has compiled.
        """
        saved = self._folder / "saved"
        saved.write_text(CODE.replace(old, new or f'"{version}"'), encoding="utf-8")
        os.utime(saved, (_SAVED_AT, _SAVED_AT))
        saved.rename(self._folder / "edited_tasks.py")

    def submit(self, count: int, **kwargs: str) -> None:
        for _ in range(count):
            self.submitted.append(f"task-{len(self.submitted)}")
            arguments = {"path": str(self._notes), **kwargs}
            self._vhost.publish_task(Route.direct("edited"), "edited.note", self.submitted[-1], **arguments)

    def notes(self) -> list[list[str]]:
        return (
            [line.split() for line in self._notes.read_text(encoding="utf-8").splitlines()]
            if self._notes.exists()
            else []
        )

    def await_version(self, version: str) -> None:
        """Wait until code of this version has run."""
        await_value(lambda: [one for one in self.notes() if one[2] == version], f"a task of version {version}")


@pytest.fixture
def project(vhost: Vhost, tmp_path: Path) -> Iterator[Project]:
    made = Project(vhost, tmp_path)
    yield made
    made.worker.process.kill()
    made.worker.wait()


def test_no_delivery_is_lost(project: Project) -> None:
    """Tasks come while the code is saved again and again: each runs once, at its first attempt."""
    for version in "23":
        project.submit(TASKS_EACH)
        project.save(version)
        project.submit(TASKS_EACH)
        project.await_version(version)
    await_value(lambda: len(project.notes()) >= len(project.submitted), "all tasks")
    status = project.worker.stop()

    assert sorted(one[0] for one in project.notes()) == sorted(project.submitted)
    assert {one[1] for one in project.notes()} == {"1"}
    assert status == 0


def test_what_runs_is_finished(project: Project, tmp_path: Path) -> None:
    """A task that runs while the code is saved ends in the former code; what waits behind it is for the new one."""
    go = tmp_path / "go"
    project.submit(2, until=str(go))
    await_value(lambda: len(project.worker.find("started")) == 2, "two tasks that run")
    project.save("2")
    project.worker.await_event("SIGTERM: finishing 2 running task(s)")
    project.submit(1)
    go.touch()
    project.await_version("2")

    assert sorted(project.notes()) == [["task-0", "1", "1"], ["task-1", "1", "1"], ["task-2", "1", "2"]]


@pytest.mark.once
def test_broken_code_waits_to_be_mended(project: Project) -> None:
    """What cannot be compiled leaves the worker as it was; what cannot be imported is shown; both can be mended."""
    project.save("2", new="= 3")
    project.worker.await_event("edited_tasks.py:5: SyntaxError: invalid syntax; the worker goes on")
    project.submit(1)
    project.await_version("1")
    project.save("2", new="1 / 0")
    project.worker.await_event("the worker ended with status 1; the next change starts another")
    project.submit(1)
    project.save("2")
    project.await_version("2")

    assert "ZeroDivisionError: division by zero" in project.worker.text
    assert [(one[0], one[2]) for one in project.notes()] == [("task-0", "1"), ("task-1", "2")]


@pytest.mark.once
def test_settings_are_read_anew(project: Project, tmp_path: Path) -> None:
    """Another worker starts when leveret.toml changes, and not for other files."""
    (tmp_path / "readme.txt").write_text("no code", encoding="utf-8")
    (tmp_path / "leveret.toml").write_text("heartbeat_seconds =", encoding="utf-8")
    project.worker.await_event("leveret.toml: ")
    (tmp_path / "leveret.toml").write_text("heartbeat_seconds = 20", encoding="utf-8")
    project.worker.await_event("changed: leveret.toml; starting anew")
    await_value(lambda: len(project.worker.find("consuming")) == 2, "another worker")

    assert len(project.worker.find("changed")) == 1


@pytest.mark.once
def test_no_worker_outlives_it(project: Project) -> None:
    """Where what watches is killed, the worker dies with it, and the broker gives back what it held."""
    (worker,) = children_of(project.worker.process.pid)
    project.worker.signal(signal.SIGKILL)
    try:
        await_value(lambda: not is_alive(worker), "the end of the worker")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
