"""What tasks and task modules print, and to where: it fails no task, and breaks no line of the log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leveret import Route
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value

pytestmark = pytest.mark.once  # it is between a worker and what it prints to

SHOW = "@task('jobs.show', queue=jobs)\ndef show(text: str = 'hello', end: str = '\\n'):\n    print(text, end=end)\n"
AGAIN = "sys.stdout = open(1, 'w', closefd=False)"
TO_STDERR = f"import os; os.dup2(2, 1); {AGAIN}"


def run_shows(vhost: Vhost, workers: Workers, text: str = SHOW, before: str = "", **more: str) -> Worker:
    """Have two messages shown by one worker, and end it."""
    vhost.declare(jobs)
    for number in range(2):
        vhost.publish_task(Route.direct(jobs.name), "jobs.show", f"id-{number}", text="é", end="")
    worker = workers.start_with(text, "--processes", "1", before=before, **more)
    await_value(
        lambda: len(worker.find("done", attempt=1)) == 2 or worker.find("retry") or worker.process.poll() is not None,
        "two tasks to end",
    )

    assert worker.find("retry") == []
    assert worker.stop() == 0
    return worker


@pytest.mark.parametrize("flush", ["", "sys.stdout.flush()", "sys.stdout.buffer.write(b'+')"])
def test_an_open_line_does_not_run_into_the_log(flush: str, vhost: Vhost, workers: Workers) -> None:
    """Where both go to one place; the worker ends the line when the task has ended."""
    worker = run_shows(vhost, workers, f"{SHOW}    {flush}\nprint('importing', end='')", before=TO_STDERR)

    assert [line[:9] for line in worker.other_lines if line.strip("+\n") != "é"] == ["importing"]
    assert worker.text.count("é") == 2


def test_an_encoding_without_the_character_fails_no_task(vhost: Vhost, workers: Workers) -> None:
    """It is escaped, as in the log."""
    worker = run_shows(
        vhost, workers, before=TO_STDERR, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING=""
    )

    assert worker.other_lines == ["\\xe9\n"] * 2


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", "No space left on device"),
        (f"import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w); {AGAIN}", "Broken pipe"),
    ],
)
def test_output_that_cannot_be_written_fails_no_task(before: str, reason: str, vhost: Vhost, workers: Workers) -> None:
    """It is told once."""
    worker = run_shows(vhost, workers, before=before)

    (said,) = worker.find("<stdout> cannot be written")
    assert reason in said["message"]


def test_what_a_module_prints_to_a_full_disk_is_told_too(vhost: Vhost, workers: Workers) -> None:
    """And is no reason not to start."""
    worker = run_shows(
        vhost,
        workers,
        f"{SHOW}\nprint('importing')",
        before="import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
    )

    assert [event["pid"] for event in worker.find("<stdout> cannot be written")] == [worker.process.pid]


def test_a_log_that_cannot_be_written_stops_no_work(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Neither the parent's nor what children log."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.write", "the-id", path=str(tmp_path / "ran"))
    command = f"{sys.executable} -m consumers.run --queue jobs --tasks tests.broker.jobs --until-empty 2>/dev/full >&2"

    assert subprocess.call(command, shell=True, env=workers.environment, cwd=CHECKOUT) == 0
    assert (tmp_path / "ran").read_text().startswith("the-id 1 ")


@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stderr = None",
        "sys.stderr.close()",
        "sys.__stderr__.close()",
        "sys.stderr = sys.stdout = object()",
        "sys.stderr = open(os.devnull)",
        "sys.stderr.detach()",
        "os.close(2)",
        "os.close(1); os.close(0)",
        "sys.stdout.close()",
        "sys.stdout = None",
    ],
)
def test_a_worker_keeps_its_streams_whatever_a_module_does_to_them(spoil: str, vhost: Vhost, workers: Workers) -> None:
    """It logs, and its tasks print."""
    worker = run_shows(vhost, workers, f"{SHOW}\n{spoil}", before=TO_STDERR)

    assert worker.find("stopped")
    assert worker.other_lines == ["é\n"] * 2


def test_what_a_spoiling_module_is_refused_for_is_said(workers: Workers) -> None:
    """On a stderr of the command's own, by every command."""
    worker = workers.start_with("sys.stderr = None\n1 / 0")

    assert worker.wait() == 1
    assert "--tasks own_tasks cannot be imported: ZeroDivisionError" in worker.text


@pytest.mark.parametrize(
    "spoil", ["sys.stdout.close()", "sys.stdout.detach()", "sys.stdout = None", "sys.stderr.close()"]
)
def test_a_stream_that_a_task_closes_is_opened_for_the_next(spoil: str, vhost: Vhost, workers: Workers) -> None:
    """And the log says who did it."""
    worker = run_shows(vhost, workers, f"{SHOW}    {spoil}", before=TO_STDERR)

    assert worker.other_lines == ["é\n"] * 2
    (said,) = worker.find("a task has changed sys.std")
    assert said["task"] == "jobs.show"


def test_every_line_of_the_log_is_json(vhost: Vhost, workers: Workers) -> None:
    """Also what a child logs, through `logging` or by itself."""
    worker = run_shows(
        vhost,
        workers,
        f"{SHOW}    import logging\n    logging.error('from %s', 'within')\n    os.chdir('/')",
        before=TO_STDERR,
    )

    assert len(worker.find("from within", logger="root")) == 2
    assert len(worker.find("a task has changed the working directory", task="jobs.show")) == 1
    assert json.dumps(worker.other_lines, ensure_ascii=False) == '["é\\n", "é\\n"]'
