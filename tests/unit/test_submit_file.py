"""Submitting a file: one task a line, and exactly the lines that failed are reported."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leveret.command import submit as command
from tests.unit.commands import leveret
from tests.unit.test_submit import REFUSED, SENT, no_broker, routes, sent

__all__ = ["no_broker"]

PIECES = [b'{"n":1}', b"{", b"\n", b"\r", b"\xff", b"[]", b"NaN"]


def submit(lines: str) -> int:
    """Submit a file with these lines; returns the status."""
    Path("jobs.jsonl").write_text(lines, encoding="utf-8")
    return leveret("submit", "a.b", "--file", "jobs.jsonl")


def test_each_line_is_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line brings the keyword arguments of one task; empty lines do not count."""
    status = submit('{"n": 1}\n\n{"n": 2}\r\n  \n{}')
    said = capsys.readouterr()

    assert (status, sent()) == (0, [("a.b", [], {"n": 1}), ("a.b", [], {"n": 2}), ("a.b", [], {})])
    assert said.out.split() == [message.id for message, _ in SENT]
    assert said.err == "3 tasks submitted, 0 lines of jobs.jsonl failed\n"


def test_lines_that_fail_are_reported_by_number(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no JSON, no object or refused is told with its line; the rest is submitted."""
    REFUSED.add("refused")
    status = submit('{"n": 1}\nhello\n[1]\n{"n": "refused"}\n{"n": 2}\n')
    first, *failures = capsys.readouterr().err.splitlines()

    assert (status, [kwargs for _, _, kwargs in sent()]) == (1, [{"n": 1}, {"n": 2}])
    assert first == "2 tasks submitted, 3 lines of jobs.jsonl failed"
    assert [line.partition(":")[0] for line in failures] == ["  line 2", "  line 3", "  line 4"]
    assert failures[2] == "  line 4: no queue is bound"


def test_a_line_that_is_no_text_is_one_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are no UTF-8 fail their own line, not the file."""
    Path("jobs.jsonl").write_bytes(b'{"n": 1}\n{"n": "\xff"}\n{"n": 2}\n')

    assert leveret("submit", "a.b", "--file", "jobs.jsonl") == 1
    assert len(SENT) == 2
    assert "  line 2: " in capsys.readouterr().err


def test_many_failures_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty failures are told with their reason, of the others the lines."""
    status = submit("bad\n" * 23)
    lines = capsys.readouterr().err.splitlines()

    assert status == 1
    assert lines[0] == "0 tasks submitted, 23 lines of jobs.jsonl failed"
    assert len(lines) == 22
    assert lines[-1] == "  and for reasons like these, lines 21, 22, 23"


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines may come through a pipe, and the route holds for all of them."""
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"n": 1}\n{"n": 2}\n'))

    assert leveret("submit", "a.b", "--file", "-", "--queue", "q") == 0
    assert [json.loads(message.body)["kwargs"] for message, _ in SENT] == [{"n": 1}, {"n": 2}]
    assert routes() == [("tasks.direct", "q")] * 2
    assert capsys.readouterr().err == "2 tasks submitted, 0 lines of - failed\n"


def test_what_was_read_before_an_error_is_submitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk or pipe that fails on the way costs what it had not given yet, and the report says from which line on."""

    def fail_later() -> Iterator[str]:
        yield '{"n": 1}\n'
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(command, "_open", lambda _file: contextlib.nullcontext(fail_later()))

    assert leveret("submit", "a.b", "--file", "-") == 1
    said = capsys.readouterr()
    assert said.out.split() == [message.id for message, _ in SENT]
    assert said.err.splitlines() == [
        "1 tasks submitted, 1 lines of - failed",
        "  line 2: cannot be read, nor what follows: Input/output error",
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As some programs write it before any text."""
    Path("jobs.jsonl").write_text('{"n": 1}\n{"n": 2}\n', encoding="utf-8-sig")

    assert leveret("submit", "a.b", "--file", "jobs.jsonl") == 0
    assert [kwargs for _, _, kwargs in sent()] == [{"n": 1}, {"n": 2}]
    assert capsys.readouterr().err == "2 tasks submitted, 0 lines of jobs.jsonl failed\n"


def test_a_file_of_zeros_is_no_text_in_any_encoding(capsys: pytest.CaptureFixture[str]) -> None:
    """As a file system leaves it after the power failed: its line fails, and no encoding is guessed."""
    Path("jobs.jsonl").write_bytes(bytes(100))

    assert leveret("submit", "a.b", "--file", "jobs.jsonl") == 1
    assert "  line 1: the line is not JSON: " in capsys.readouterr().err


def test_a_stdin_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was opened only to be written, which no first look at its encoding survives."""
    descriptor = os.open("written", os.O_WRONLY | os.O_CREAT)
    with open(descriptor, encoding="utf-8") as unreadable:  # noqa: PTH123 - a path could be read
        monkeypatch.setattr(sys, "stdin", unreadable)
        status = leveret("submit", "a.b", "--file", "-")

    assert status == 1
    assert capsys.readouterr().err == "leveret submit: --file - cannot be read: Bad file descriptor\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("is_piped", [False, True])
def test_a_file_in_another_encoding_is_one_error(
    encoding: str, is_piped: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one for each of its lines."""
    Path("jobs.jsonl").write_text('{"n": 1}\n' * 50, encoding=encoding)
    with Path("jobs.jsonl").open(encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        file = "-" if is_piped else "jobs.jsonl"

        assert leveret("submit", "a.b", "--file", file) == 1
    name = encoding[:6].upper()
    assert capsys.readouterr().err == (
        f"leveret submit: --file {file} is {name}; convert it to UTF-8, for example with iconv\n"
    )
    assert sent() == []


@pytest.mark.parametrize(
    "line",
    [
        '{"n": NaN}',
        '{"n": 1e999}',
        '{"n": 1, "n": 2}',
        '{"n": "\\ud800"}',
        '{"n": ' + "[" * 100_000,
        '{"n": ' + "[" * 500 + "]" * 500 + "}",
        '{"n": ' + "9" * 5000 + "}",
        '{"n": "\0"}',
        '\ufeff{"n": 1}',
    ],
    ids=["nan", "inf", "twice", "surrogate", "unclosed", "deep", "huge", "nul", "bom"],
)
def test_a_line_that_no_worker_would_read_fails(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a worker would bury is refused in its line, and the lines around it are submitted."""

    assert submit(f'{{"n": 0}}\n{line}\n{{"n": 2}}\n') == 1
    assert [kwargs for _, _, kwargs in sent()] == [{"n": 0}, {"n": 2}]
    assert [reported.partition(":")[0] for reported in capsys.readouterr().err.splitlines()[1:]] == ["  line 2"]


@given(
    content=st.binary(max_size=200)
    | st.lists(st.sampled_from([b'{"n":1}', b"{", b"\n", b"\r", b"\xff", b"[]", b"NaN"])).map(b"".join)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_file_is_submitted_or_reported(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes of any kind end with a status and a report, and every id printed is a task sent."""
    SENT.clear()
    Path("jobs.jsonl").write_bytes(content)
    status = leveret("submit", "a.b", "--file", "jobs.jsonl")
    said = capsys.readouterr()

    assert said.out.split() == [message.id for message, _ in SENT]
    if "--file jobs.jsonl is UTF-" in said.err:
        assert (status, SENT) == (1, [])
        return
    assert f"{len(SENT)} tasks submitted, " in said.err
    assert (status == 0) == (", 0 lines of jobs.jsonl failed" in said.err)


def test_json_and_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """Each id is in an object of its own; where nothing failed the report is left out, and where something did not."""
    Path("jobs.jsonl").write_text('{"n": 1}\n{"n": 2}\n', encoding="utf-8")
    assert leveret("submit", "a.b", "--file", "jobs.jsonl", "--json", "--quiet") == 0
    said = capsys.readouterr()

    assert [json.loads(line) for line in said.out.splitlines()] == [
        {"id": message.id, "task": "a.b"} for message, _ in SENT
    ]
    assert said.err == ""

    Path("jobs.jsonl").write_text("bad\n", encoding="utf-8")
    assert leveret("submit", "a.b", "--file", "jobs.jsonl", "--quiet") == 1
    assert capsys.readouterr().err.startswith("0 tasks submitted, 1 lines of jobs.jsonl failed\n  line 1: ")
