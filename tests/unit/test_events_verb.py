"""`leveret events` and `leveret logs`: what they refuse, and how an event reads."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from leveret.command import leveret as tree
from leveret.command.events import line, problem_of, what
from leveret.topology.events import Kind, Told

EVENT: dict[str, Any] = {"id": "0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1", "at": 1785585600.123, "attempt": 2, "of": 4}


@pytest.mark.parametrize(
    "pattern", ["task.#", "#", "*.failed.#", "task.#.send", "task.failed.mail.*", "task.*.mail.send", "#.send"]
)
def test_patterns_that_can_match(pattern: str) -> None:
    """As RabbitMQ compares them."""
    assert problem_of(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("mail.*", "begin with task"),
        ("", "a word is missing"),
        ("task", "before the kind"),
        ("task.failed", "before the task"),
        ("task.faild.#", "did you mean failed"),
        ("task.xyzzy.#", "there are"),
        ("task.fail*.#", "whole word"),
        ("task..#", "a word is missing"),
        ("task.\x1b.#", "printable"),
        ("task.failed." + "x" * 250, "255 bytes"),
    ],
)
def test_patterns_that_match_nothing_are_refused_with_the_reason(pattern: str, reason: str) -> None:
    """For nothing would ever be shown; the whole command says so in one line."""
    assert reason in problem_of(pattern)
    ended = CliRunner().invoke(tree, ["events", pattern], standalone_mode=False)
    assert "as in task.failed.#" in str(ended.exception)
    assert str(ended.exception).isprintable()


@pytest.mark.parametrize(
    "arguments", [["logs"], ["logs", "an-id", "--timeout", "5"], ["logs", "\x1b[2J"], ["logs", ""]], ids=str
)
def test_logs_without_an_id_or_with_a_time_for_nothing_are_wrong_usage(arguments: list[str]) -> None:
    """Only who follows waits."""
    ended = CliRunner().invoke(tree, arguments, standalone_mode=False)
    assert type(ended.exception).__name__ in ("UsageError", "BadParameter", "MissingParameter")


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (Kind.SUBMITTED, {"exchange": "tasks.direct", "routing_key": "mail"}, "tasks.direct  mail"),
        (Kind.BLOCKED, {"by": "ops"}, "by ops"),
        (Kind.STARTED, {"child": 815}, "in process 815"),
        (Kind.PROGRESS, {"done": 3, "total": 10.0, "note": "pages"}, "3 of 10  pages"),
        (Kind.LOG, {"lines": ["t info one", "t info two"], "dropped": 1}, '"one" and 2 more'),
        (Kind.LOG, {"lines": [], "dropped": 3}, "3 lines left out"),
        (Kind.RETRYING, {"failure": {"type": "E", "message": "m"}, "next_at": 1785585605.123}, "E: m  again in 5 s"),
        (Kind.SUCCEEDED, {"seconds": 0.21, "result": "5"}, "0.21 s  5"),
        (Kind.FAILED, {"seconds": 1, "failure": {"type": "E"}, "lies_in": "mail.dlq"}, "1.00 s  E  lies in mail.dlq"),
        (Kind.CANCELLED, {"by": "ada", "reason": "wrong list"}, "by ada  wrong list"),
        *((kind, {}, "") for kind in Kind if kind is not Kind.LOG),
    ],
)
def test_what_events_tell_in_words(kind: Kind, fields: dict[str, Any], said: str) -> None:
    """Every kind, with all of its fields and with none."""
    assert what(kind, {**EVENT, **fields}) == said


def test_a_wide_terminal_shows_the_whole_id() -> None:
    """A narrow one its end, for ids of one moment begin alike."""
    told = Told(Kind.SUCCEEDED, "mail.send", "web-3:812", [])
    event = {**EVENT, "seconds": 0.5, "result": '"' + "x" * 200 + '"'}

    assert EVENT["id"] in line(told, event, 150)
    assert len(line(told, event, 150)) == 150
    assert "…b7a3a0e1 2/4 web-3:812 0.50 s" in line(told, event, 80)
    assert len(line(told, event, 80)) == 80
    assert line(told, event, None).endswith('"')
