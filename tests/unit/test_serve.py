"""A child process: what tasks do to it, and the end of its parent."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from leveret.consumers.child import reporting
from leveret.consumers.child.board import Board
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import pack_orders
from leveret.consumers.tasks.defining import task
from leveret.topology import queues, registry
from leveret.topology.queues import WorkQueue
from tests.unit.children import fork_child, reports_of_child, run_in_child


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue to define tasks on; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, tasks are short and nobody waits for long."""
    for name in ("_LONGEST_SILENCE_SECONDS", "_SHORT_SECONDS"):
        monkeypatch.setattr(reporting, name, 60.0)


@pytest.mark.usefixtures("patient")
def test_results_of_short_tasks_are_reported_together(mail: WorkQueue) -> None:
    """But for the first of a kind, before which the others are told: nobody knows yet how long it takes."""

    @task("mail.add", queue=mail)
    def add() -> int:
        return 5

    @task("mail.send", queue=mail)
    def send() -> str:
        return "sent"

    reports = reports_of_child("mail.add", "mail.add", "mail.send", "mail.add", is_followed=True)

    results = [[outcome.result for outcome in report.outcomes] for report in reports]
    assert results == [["5", "5"], ['"sent"', "5"]]
    assert [report.first for report in reports] == [1, 3]
    assert [report.is_last for report in reports] == [False, True]


@pytest.mark.usefixtures("patient")
def test_no_result_is_lost_with_a_child(mail: WorkQueue) -> None:
    """What it had not reported yet when the next task killed it stands on the board."""
    board, runs = Board(1), itertools.count(1)

    @task("mail.add", queue=mail)
    def add() -> str | None:
        number = next(runs)
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return None if number == 3 else f"ä{number}"

    reports = reports_of_child(*["mail.add"] * 6, is_followed=True, board=board, exit_status=-signal.SIGKILL)

    told = [outcome.result for report in reports for outcome in report.outcomes]
    kept = board.kept(0)
    assert (told, kept) == ([], {1: '"ä1"', 2: '"ä2"', 4: '"ä4"'})
    assert board.read(0).number == 5


@pytest.mark.usefixtures("patient")
def test_a_result_for_which_the_board_has_no_room_is_reported_before_the_next_task_begins(mail: WorkQueue) -> None:
    """With all that is to be told before it."""
    board, runs = Board(1), itertools.count(1)

    @task("mail.add", queue=mail)
    def add() -> str:
        number = next(runs)
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return "x" * (40_000 if number == 2 else 1)

    reports = reports_of_child(*["mail.add"] * 4, is_followed=True, board=board, exit_status=-signal.SIGKILL)

    assert [[len(outcome.result or "") for outcome in report.outcomes] for report in reports] == [[3, 40_002]]
    assert board.kept(0) == {3: '"x"'}


def test_a_parent_that_left_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """A child whose last report nobody reads any more ends quietly, whether it is writing or reading then."""
    pid, ours, tokens = fork_child()
    os.write(tokens, b".")
    ours.sendall(pack_orders([(1, "mail", 1, "id", None, None, b"{}", False, None)]))
    assert select.select([ours], [], [], 30)[0]
    ours.close()  # with its report unread, which makes it a reset connection for the child
    os.close(tokens)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_end_a_service_end_what_tasks_start_but_not_the_task(
    number: signal.Signals, mail: WorkQueue
) -> None:
    """A task outlives what the worker is told; a program or a process that it started is ended by it as anywhere."""

    @task("mail.stay", queue=mail)
    def stay() -> None:
        signal.raise_signal(number)

    @task("mail.program", queue=mail)
    def program() -> None:
        started = subprocess.Popen(["sleep", "5"])
        started.send_signal(number)
        assert started.wait() == -number

    @task("mail.fork", queue=mail)
    def fork() -> None:
        copy = os.fork()
        if copy == 0:
            time.sleep(5)
        os.kill(copy, number)  # at once, as `terminate` after `start` in multiprocessing
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == -number

    outcomes = run_in_child("mail.stay", "mail.program", "mail.fork", "mail.stay")

    assert [outcome.failure for outcome in outcomes] == [None] * 4


def test_a_soft_time_limit_holds_though_a_task_has_blocked_its_signal(mail: WorkQueue) -> None:
    """As with another handler: one task takes no other's limit away."""

    @task("mail.block", queue=mail)
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])

    @task("mail.loop", queue=mail, time_limit=10, soft_time_limit=0.001)
    def loop() -> None:
        signal.sigtimedwait([], 5)

    outcomes = run_in_child("mail.block", "mail.loop")

    assert [outcome.failure.type for outcome in outcomes if outcome.failure] == ["SoftTimeLimitExceeded"]


@pytest.mark.parametrize("stdout", [None, io.StringIO(), codecs.getwriter("utf-8")(io.BytesIO())])
def test_a_replaced_standard_output_is_left_alone(
    stdout: Any, mail: WorkQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a task module put in its place, even nothing, tasks run and print to it."""

    @task("mail.print", queue=mail)
    def show() -> None:
        print("hello")

    detached = io.TextIOWrapper(io.BytesIO())
    detached.detach()
    monkeypatch.setattr(sys, "__stdout__", detached)
    monkeypatch.setattr(sys, "stdout", stdout)

    assert [outcome.failure for outcome in run_in_child("mail.print")] == [None]


ODD, ODD_SHOWN = "\x1b[2J\x9b\r\nleveret: forged", "\\x1b[2J\\x9b\\r\n  leveret: forged"


def fail() -> None:
    raise ValueError("the copy's")


def fail_oddly() -> None:
    raise ValueError(f"the copy's{ODD}")


@pytest.mark.parametrize(
    ("leave", "status", "said"),
    [
        (lambda: None, 0, ""),
        (sys.exit, 0, ""),
        (lambda: sys.exit(3), 3, ""),
        (lambda: sys.exit("no use"), 1, "no use\n"),
        (lambda: sys.exit(f"no use{ODD}"), 1, f"no use{ODD_SHOWN}\n"),
        (fail, 1, "ValueError: the copy's\n"),
        (fail_oddly, 1, f"ValueError: the copy's{ODD_SHOWN}\n"),
    ],
    ids=["return", "exit", "exit 3", "exit text", "exit odd text", "raise", "raise odd text"],
)
def test_a_process_that_a_task_forked_reports_nothing(
    leave: Callable[[], None], status: int, said: str, mail: WorkQueue, capfd: pytest.CaptureFixture[str]
) -> None:
    """However the copy leaves the task, it ends like a script, takes no orders, and repeats no output."""

    @task("mail.fork", queue=mail)
    def fork() -> None:
        print("begun, ", end="")
        copy = os.fork()
        if copy == 0:
            return leave()
        assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == status
        print("ended")
        return None

    @task("mail.fail", queue=mail)
    def fail_next() -> None:
        raise ValueError

    outcomes = run_in_child("mail.fork", "mail.fail")
    out, err = capfd.readouterr()

    assert [outcome.ending for outcome in outcomes] == [Ending.RETURNED, Ending.RAISED]
    assert out == "begun, ended\n"
    assert err.endswith(said) if said else err == ""
    assert all(line.isprintable() for line in err.split("\n"))


def test_names_that_no_task_has_are_not_remembered() -> None:
    """Who submits them could fill the memory of a child with them."""
    reporter = reporting.Reporter(lambda _report: None, Board(1), 0)
    reporter.start(1)
    for number in range(1, 100):
        reporter.note(number, Outcome(Ending.UNKNOWN_TASK, f"no.such{number}", 0.0), is_last=False)
    reporter.note(100, Outcome(Ending.RETURNED, "mail.send", 0.0), is_last=False)
    assert reporter._short == {"mail.send"}
    reporter.note(101, Outcome(Ending.RETURNED, "mail.send", 0.5), is_last=True)
    assert reporter._short == set()
