"""How commands end: a status, and one line for each error."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import NoReturn

import pytest

from leveret.command.ending import run
from leveret.topology.errors import BrokerUnreachable, NotRouted
from leveret.topology.settings import CHECKOUT


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_commands_status_is_passed_on(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that ends by itself decides its status, and nothing is added to what it says."""

    assert run("name", lambda: status) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokerUnreachable("no broker answers"), 1, "name: no broker answers\n"),
        (NotRouted("no queue is bound", "id-1"), 1, "name: no queue is bound\n"),
        (KeyboardInterrupt(), 130, "name: interrupted\n"),
    ],
)
def test_an_error_is_one_line(error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error on purpose is told in a line that begins with the command's name, on stderr."""

    def command() -> NoReturn:
        raise error

    assert run("name", command) == status
    assert capsys.readouterr() == ("", said)


def test_a_command_may_put_another_stdout_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task module that does so, to color or to encode what is printed, is no failure."""

    def command() -> int:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        return 0

    assert run("name", command) == 0


def test_a_defect_keeps_its_traceback() -> None:
    """What is not one of our errors is not hidden."""
    with pytest.raises(ZeroDivisionError):
        run("name", lambda: 1 // 0)


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    """With a pipe as in `… | head -1` there is status 1, and neither a traceback nor the interpreter's complaint."""
    code = (
        "import sys; from leveret.command.ending import run; sys.exit(run('name', lambda: print('x' * 1_000_000) or 0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()

    assert (process.returncode, said) == (1, "")


TELLING = """
import sys
from leveret.command.ending import run, tell

def command():
    for line in ("id-1", "id-2", "words \u2190 tasks.direct"):
        tell(line)
    return 0

sys.exit(run("name", command))
"""
TOLD = ["id-1", "id-2", r"words \u2190 tasks.direct"]


def end(code: str, redirection: str = "", buffering: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python code on Latin-1 streams, with a redirection as the shell spells it."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, code],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUNBUFFERED": buffering},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_character_that_stdout_cannot_encode_is_escaped() -> None:
    """A Latin-1 terminal costs an arrow, not the command."""
    ended = end(TELLING)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == TOLD


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "it is closed"), ("> /dev/full", "No space left on device")]
)
def test_a_result_that_stdout_does_not_take_is_told_on_stderr(redirection: str, reason: str, buffering: str) -> None:
    """With stdout closed or on a full disk no line is lost, the reason is told once, and the status is 1."""
    ended = end(TELLING, redirection, buffering)

    assert (ended.returncode, ended.stdout) == (1, "")
    first, *told = ended.stderr.splitlines()
    assert first == f"standard output cannot be written: {reason}; what was meant for it follows here"
    assert told == TOLD


def test_a_closed_stdout_is_no_matter_to_who_tells_nothing() -> None:
    """A worker may be started without one."""
    ended = end("import sys; from leveret.command.ending import run; sys.exit(run('name', lambda: 0))", ">&-")

    assert (ended.returncode, ended.stderr) == (0, "")
