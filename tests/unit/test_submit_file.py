"""Submitting a file: one task a line, and exactly the lines that failed are reported."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from producers.submit import main
from tests.unit.test_submit import REFUSED, SENT, no_broker, routes, sent

__all__ = ["no_broker"]


def submit(lines: str) -> int:
    """Submit a file with these lines; returns the status."""
    Path("jobs.jsonl").write_text(lines, encoding="utf-8")
    return main(["a.b", "--file", "jobs.jsonl"])


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

    assert main(["a.b", "--file", "jobs.jsonl"]) == 1
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

    assert main(["a.b", "--file", "-", "--queue", "q"]) == 0
    assert [json.loads(message.body)["kwargs"] for message, _ in SENT] == [{"n": 1}, {"n": 2}]
    assert routes() == [("tasks.direct", "q")] * 2
    assert capsys.readouterr().err == "2 tasks submitted, 0 lines of - failed\n"
