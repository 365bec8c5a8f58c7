"""The fixture of a virtual host for a test of a user's: what it makes, runs, says and leaves behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leveret import Publisher, TaskModuleError, submit, task
from leveret.producers import default
from leveret.testing import OwnBroker
from leveret.testing.broker import WorkerEnded, own_broker
from leveret.topology import queues, registry
from leveret.topology.access.management import Management
from leveret.topology.local.finding import Broker
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from tests.broker import followed_jobs
from tests.broker.followed_jobs import followed

JOBS = "tests.broker.followed_jobs"


@pytest.fixture
def where(used_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """The broker that is found, and no queues but those of the jobs."""
    monkeypatch.setenv("AMQP_URL", used_broker.amqp_url)
    monkeypatch.setenv("MANAGEMENT_URL", used_broker.management_url)
    monkeypatch.setattr(queues, "_known", {"followed": followed})
    return used_broker


@pytest.fixture
def own(where: Broker, request: pytest.FixtureRequest) -> OwnBroker:
    made: OwnBroker = request.getfixturevalue("leveret_broker")
    return made


def test_a_worker_runs_what_the_test_submits(own: OwnBroker) -> None:
    """By the process's own publisher; its results come, and its log tells."""
    worker = own.start_worker("--processes", "1", tasks=[JOBS])
    added = followed_jobs.add.options(follow=True).submit(2, b=3)

    assert added.result(timeout=60) == 5
    assert f"id={added}" in worker.log
    assert worker.stop() == 0


def test_a_worker_works_until_nothing_is_left(own: OwnBroker) -> None:
    """Retries included; a publisher of the test's own leads there, too."""
    with Publisher() as publisher:
        publisher.submit("followed.fail_once")
    log = own.work("--processes", "1", tasks=[JOBS]).log

    assert "retry" in log
    assert "attempt=2 of=2" in log


def test_what_a_worker_has_not_finished_it_says(own: OwnBroker, tmp_path: Path) -> None:
    """A test that waits in vain ends, with the worker's own words; the time counts from when it consumes."""
    followed_jobs.wait_for.submit(str(tmp_path / "never"))
    with pytest.raises(WorkerEnded, match=r"(?s)did not end within 0\.1 s and was killed; it wrote:\n.*consuming"):
        own.work("--processes", "1", tasks=[JOBS], timeout=0.1)


@pytest.mark.parametrize(
    ("options", "tasks", "said"),
    [
        (["--processes", "many"], [JOBS], "status 2; it wrote:\nleveret run: .*--processes"),
        ([], ["no_such_module"], "status 1; it wrote:\n.*no module 'no_such_module'"),
    ],
)
def test_a_worker_that_does_not_start_says_why(own: OwnBroker, options: list[str], tasks: list[str], said: str) -> None:
    """At once, and not after a timeout."""
    with pytest.raises(WorkerEnded, match=said):
        own.start_worker(*options, tasks=tasks)


def test_tasks_of_a_function_cannot_be_run_by_a_worker(own: OwnBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module has them; and without any task there is nothing to load."""
    monkeypatch.setattr(registry, "_tasks", {})
    with pytest.raises(TaskModuleError, match="no task is loaded here"):
        own.start_worker()

    @task("followed.here", queue=followed)
    def here() -> None: ...

    with pytest.raises(TaskModuleError, match=r"here of .*test_own_broker is a task that is defined in a function"):
        own.start_worker()


def test_nothing_is_left_behind(where: Broker, tmp_path: Path) -> None:
    """No virtual host, no worker, no publisher, and the variables are as before, though the test fails."""
    url, former = os.environ["AMQP_URL"], default._default
    with contextlib.suppress(ZeroDivisionError), own_broker(tmp_path) as own:
        worker = own.start_worker("--processes", "1", tasks=[JOBS])
        submit("followed.add", 1, 2)
        publisher = default._default
        name = own.url.rpartition("/")[2]
        hosts = {host["name"] for host in Management(own.settings).call("GET", "vhosts")}
        raise ZeroDivisionError

    assert name in hosts
    assert name not in {host["name"] for host in Management(own.settings).call("GET", "vhosts")}
    assert worker.process.returncode == 0
    assert os.environ["AMQP_URL"] == url
    assert default._default is former is not publisher


def test_a_publisher_is_of_the_virtual_host(own: OwnBroker) -> None:
    """What is not declared there is not routed."""
    with pytest.raises(Exception, match="no queue bound"):
        default.publish(TaskMessage.create("followed.add"), Route.direct("another"))


def _pytest(folder: Path, *, is_ci: bool, url: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_one.py").write_text("def test_one(leveret_broker): leveret_broker.start_worker()\n")
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_one.py"],
        cwd=folder,
        env={**kept, "AMQP_URL": url, "MANAGEMENT_URL": "http://127.0.0.1:1/"} | ({"CI": "1"} if is_ci else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("is_ci", "status", "word"), [(False, 0, "1 skipped"), (True, 1, "1 error")])
def test_without_a_broker_a_test_is_skipped_or_fails(tmp_path: Path, is_ci: bool, status: int, word: str) -> None:
    """Where a CI counts on it, it must not be left out unnoticed."""
    ended = _pytest(tmp_path, is_ci=is_ci, url="amqp://127.0.0.1:1/")

    assert ended.returncode == status, ended.stdout
    assert word in ended.stdout
    assert "leveret_broker: no RabbitMQ lets a test have a virtual host of its own: " in ended.stdout
