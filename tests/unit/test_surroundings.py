"""What a task changes of its process: the next task finds all as it was, and the log says once who did it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import pytest

from leveret.consumers import log
from leveret.consumers.tasks.defining import task
from leveret.topology import queues, registry
from leveret.topology.queues import WorkQueue
from tests.unit.children import run_in_child

VARIABLE: ContextVar[str] = ContextVar("variable", default="as it was")


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue to define tasks on; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setenv("LEVERET_TEST", "as it was")
    monkeypatch.setattr(log._journal, "as_json", False)
    return WorkQueue("mail")


def go_nowhere() -> None:
    """Change to a folder that is removed."""
    Path("nowhere").mkdir()
    os.chdir("nowhere")
    Path("../nowhere").rmdir()


def change_variables() -> None:
    """Add, change and remove."""
    os.environ["LEVERET_TEST"] = "changed"
    os.environ["LEVERET_NEW"] = "new"
    del os.environ["PATH"]


def set_environ(kind: type) -> None:
    os.environ = kind(os.environ)  # noqa: B003


def environment() -> object:
    """What programs that are started would find, too."""
    return sorted(os.environ.items()), type(os.environ), os.popen("echo $LEVERET_TEST $LEVERET_NEW $PATH").read()


def handlers() -> object:
    return [str(signal.getsignal(number)).split(" at ")[0] for number in signal.valid_signals()]


@pytest.mark.parametrize(
    ("change", "look", "said"),
    [
        (lambda: os.chdir("/"), os.getcwd, "the working directory"),
        (go_nowhere, os.getcwd, "the working directory"),
        (lambda: os.umask(0), lambda: os.umask(0o022), "the umask, to 0000,"),
        (change_variables, environment, "the environment (LEVERET_NEW, LEVERET_TEST, PATH)"),
        (lambda: os.environ.clear(), environment, "the environment ("),
        (lambda: set_environ(dict), lambda: type(os.environ), "the environment (os.environ)"),
        (lambda: sys.path.clear(), lambda: list(sys.path), "sys.path"),
        (lambda: setattr(sys, "path", ["/"]), lambda: list(sys.path), "sys.path"),
        (lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL), handlers, "what signals do (SIGTERM)"),
        (lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN), handlers, "what signals do (SIGCHLD)"),
        (lambda: signal.signal(signal.SIGPIPE, print), handlers, "what signals do (SIGPIPE)"),
        (lambda: signal.signal(signal.SIGUSR1, signal.SIG_DFL), handlers, "what signals do (SIGUSR1)"),
        (lambda: setattr(sys, "stdout", None), lambda: sys.stdout is None, "sys.stdin, sys.stdout or sys.stderr"),
        (lambda: setattr(sys, "stdin", None), lambda: sys.stdin is None, "sys.stdin, sys.stdout or sys.stderr"),
        (lambda: VARIABLE.set("changed"), lambda: VARIABLE.get(), ""),
    ],
    ids=[
        *("directory", "removed directory", "umask", "variables", "no variables", "another environ", "no path"),
        *("another path", "SIGTERM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "no stdout", "no stdin", "context"),
    ],
)
def test_what_a_task_changes_is_put_back(
    change: Callable[[], object],
    look: Callable[[], object],
    said: str,
    mail: WorkQueue,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """However often it does so, the next one finds what the first one found, and it is told once."""
    monkeypatch.chdir(tmp_path)
    seen = tmp_path / "seen"

    @task("mail.look", queue=mail)
    def see() -> None:
        with seen.open("a") as file:
            print(look(), file=file)

    @task("mail.change", queue=mail)
    def change_it() -> None:
        with contextlib.suppress(OSError):
            change()

    outcomes = run_in_child("mail.look", "mail.change", "mail.look", "mail.change", "mail.look")
    first, *later = seen.read_text().splitlines()
    log = capfd.readouterr().err

    assert [outcome.failure for outcome in outcomes] == [None] * 5
    assert later == [first] * 2
    assert log.count("task=mail.change") == (1 if said else 0)
    assert said in log


def test_what_an_import_adds_stays(mail: WorkQueue, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A library that a task imports is loaded once, and counts on what it added; what it took away is put back."""
    (tmp_path / "adding.py").write_text(
        "import os, sys\nos.environ['LEVERET_NEW'] = 'new'\ndel os.environ['LEVERET_TEST']\nsys.path.append('/added')\n"
    )

    @task("mail.load", queue=mail)
    def load() -> None:
        sys.path.insert(0, str(tmp_path))
        import adding  # type: ignore[import-not-found]  # noqa: F401

    @task("mail.look", queue=mail)
    def look() -> None:
        assert (os.environ["LEVERET_NEW"], os.environ["LEVERET_TEST"]) == ("new", "as it was")
        assert sys.path[-1] == "/added"

    assert [outcome.failure for outcome in run_in_child("mail.load", "mail.look")] == [None] * 2
    assert "the environment (LEVERET_TEST)" in capfd.readouterr().err
