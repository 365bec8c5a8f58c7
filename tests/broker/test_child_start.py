"""What is done in each child process before its first task, and what is said of what it does not share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from leveret import Route, TaskModuleError, on_child_start
from leveret.consumers.tasks import child_start
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, children_of

pytestmark = pytest.mark.once  # it is between a worker and its children

WRITE_IN_TURN = """
@task("jobs.draw", queue=jobs)
def draw(path: str, others: int):
    with Path(path).open("a") as file:
        file.write(f"{number()}\\n")
    while len(Path(path).read_text().splitlines()) < others:
        time.sleep(0.01)
"""
"""A task that waits until others have written, too, so that each runs in another child."""


def numbers_of(vhost: Vhost, workers: Workers, folder: Path, text: str) -> list[str]:
    """What three children make of `number()`."""
    vhost.declare(jobs)
    path = folder / "numbers"
    for _ in range(3):
        vhost.publish_task(Route.direct(jobs.name), "jobs.draw", path=str(path), others=3)
    worker = workers.start_with(f"{WRITE_IN_TURN}\n{text}", "--processes", "3")
    await_value(lambda: len(worker.find("done")) == 3, "three numbers")

    assert worker.stop() == 0
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("random", "import random\nrandom.seed(5)\ndef number(): return random.random()"),
        ("numpy", "import numpy.random\nnumpy.random.seed(5)\ndef number(): return numpy.random.randint(2**31)"),
    ],
)
def test_children_draw_different_numbers(
    module: str, text: str, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """Though they are copies of one process, in which the generator was seeded."""
    pytest.importorskip(module)

    assert len(set(numbers_of(vhost, workers, tmp_path, text))) == 3


def test_what_is_to_be_done_in_each_child_is_done_once_in_each(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Before its first task, also in one that takes the place of another, and not in other processes."""
    vhost.declare(jobs)
    path = tmp_path / "called"
    text = (
        f"import leveret\n@leveret.on_child_start\ndef note():\n    with open({str(path)!r}, 'a') as file:\n"
        "        file.write(f'{os.getpid()}\\n')\n"
        "@task('jobs.check', queue=jobs)\ndef check():\n"
        f"    assert open({str(path)!r}).read().split()[-1] == str(os.getpid())"
    )
    worker = workers.start_with(text, "--processes", "1")
    for number, name in enumerate(("jobs.check", "jobs.check", "jobs.exit", "jobs.check")):
        vhost.publish_task(Route.direct(jobs.name), name, f"id-{number}")
        worker.await_event("retry" if name == "jobs.exit" else "done", id=f"id-{number}", attempt=1)
    (forkserver,) = children_of(worker.process.pid)
    (child,) = children_of(forkserver)
    called = path.read_text().split()

    assert called[-1] == str(child)
    assert len(called) == len(set(called)) >= 2
    assert not {str(worker.process.pid), str(forkserver)} & set(called)


def test_children_that_cannot_start_end_the_worker(vhost: Vhost, workers: Workers) -> None:
    """The log names what failed, where, and the message stays in its queue."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail", "the-id")
    worker = workers.start_with(
        "import leveret\n@leveret.on_child_start\ndef connect():\n    raise OSError('no database')", "--processes", "1"
    )

    assert worker.wait() == 1
    said = worker.find("on_child_start own_tasks.connect failed, so this child process ends")
    assert len(said) == 11
    assert said[0]["error"] == "OSError: no database"
    assert "in connect" in said[0]["traceback"]
    assert "child processes die as soon as they are forked, the last of 11 with exit status 1" in worker.text
    assert "Traceback" not in worker.text
    await_value(lambda: vhost.count(jobs.name), "the message back in its queue")


def test_what_cannot_be_called_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is defined, and not in the child."""
    monkeypatch.setattr(child_start, "_hooks", [])

    async def later() -> None: ...

    def wants(it: str) -> None: ...

    with pytest.raises(TaskModuleError, match=r"on_child_start .*later is async, and no loop runs then; make it a"):
        on_child_start(later)
    with pytest.raises(TaskModuleError, match=r"on_child_start .*wants cannot be called without arguments: missing"):
        on_child_start(wants)  # type: ignore[type-var]
    assert child_start.hooks() == ()


def said_of_threads(worker: Worker) -> list[str]:
    return [event["message"] for event in worker.find("threads run since task modules were imported")]


def test_threads_of_task_modules_are_told_of(workers: Workers) -> None:
    """Children lack them, and what waits for them hangs; threads that ended are none, nor are those of children."""
    worker = workers.start_with(
        "import threading, leveret\n"
        "threading.Thread(target=threading.Event().wait, name='pool-of-mine', daemon=True).start()\n"
        "ended = threading.Thread(target=int, name='ended')\nended.start()\nended.join()\n"
        "leveret.on_child_start(threading.Thread(target=threading.Event().wait, name='in-child', daemon=True).start)\n"
    )

    (said,) = said_of_threads(worker)
    assert "pool-of-mine;" in said
    assert "ended" not in said
    assert "on_child_start" in said
    assert worker.stop() == 0


def test_without_threads_nothing_is_said(workers: Workers) -> None:
    """As of most modules."""
    worker = workers.start()

    assert said_of_threads(worker) == []
    worker.signal(signal.SIGTERM)
    assert worker.wait() == os.EX_OK
