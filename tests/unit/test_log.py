"""The log: one line an event, for people or as JSON."""

from __future__ import annotations

import json
import logging
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from leveret.consumers import log


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The logging of the test run is as before afterwards."""
    root, pika = logging.getLogger(), logging.getLogger("pika")
    before = (root.handlers[:], root.level, pika.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    pika.setLevel(before[2])


def logged(capsys: pytest.CaptureFixture[str], as_json: bool = False, **fields: object) -> str:
    """What an event with these fields writes to stderr."""
    log.configure(as_json)
    log.event(logging.INFO, "done", **fields)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_text_has_time_level_process_message_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A line reads from left to right: when, how bad, who, what, and the rest."""
    line = logged(capsys, task="words.count", attempt="1/4")

    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d\.\d{{3}} info    \[{os.getpid()}\] done  task=words\.count attempt=1/4\n", line
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "x=plain"),
        (5, "x=5"),
        (0, "x=0"),
        (False, "x=False"),
        (0.12345, "x=0.123"),
        ("two words", 'x="two words"'),
        ("a=b", 'x="a=b"'),
        ('say "hi"', r'x="say \"hi\""'),
        ("é", "x=é"),
        ("", ""),
        (None, ""),
    ],
)
def test_text_fields_are_short_and_unambiguous(
    value: object, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Values are quoted where they would run into the next, and empty ones are left out."""

    assert logged(capsys, x=value).partition("done")[2].strip() == expected


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nb", "a\x0bb", "a\x1b[2Jb", "a\x85b", "a\N{LINE SEPARATOR}b"])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_event_is_one_line_whatever_its_fields_hold(
    value: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """What comes from a message neither breaks the line nor reaches the terminal as a command."""
    line = logged(capsys, as_json, id=value)

    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()


@pytest.mark.parametrize("value", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\N{LINE SEPARATOR}b"])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_event_is_one_line_whatever_its_message_holds(
    value: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may name an id or a key that a client has chosen, or quote the broker."""
    log.configure(as_json)
    log.event(logging.INFO, value)
    line = capsys.readouterr().err

    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The same event as JSON has the fields beside time, level, process, logger and message."""
    event = json.loads(logged(capsys, as_json=True, task="words.count", seconds=0.12345, error=None))
    moment = datetime.fromisoformat(event.pop("time"))

    assert moment.utcoffset() == timedelta(0)
    assert event == {
        "level": "info",
        "pid": os.getpid(),
        "message": "done",
        "task": "words.count",
        "seconds": 0.12345,
        "error": None,
    }


def test_json_takes_any_value(capsys: pytest.CaptureFixture[str]) -> None:
    """A value that JSON does not know is written as text."""
    weird = {1}

    assert json.loads(logged(capsys, as_json=True, a=weird, b="\ud800"))["a"] == "{1}"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_exception_is_logged_with_its_traceback(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """What other libraries log with an exception keeps its traceback."""
    log.configure(as_json)
    try:
        raise ValueError("no such tariff")
    except ValueError:
        logging.getLogger("other").exception("failed")
    said = capsys.readouterr().err
    traceback = json.loads(said)["traceback"] if as_json else textwrap.dedent(said.partition("\n")[2])

    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.rstrip().endswith("ValueError: no such tariff")


def test_the_level_is_a_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    """Events below the level are not written, and pika's own log is not either."""
    log.configure(as_json=False, level="warning")
    log.event(logging.INFO, "quiet")
    log.event(logging.WARNING, "loud")
    logging.getLogger("pika.adapters").error("noise")
    said = capsys.readouterr().err

    assert "loud" in said
    assert "quiet" not in said
    assert "noise" not in said


ODD = "\x1b[2J\r\n12:00:00.000 info    [1] forged\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}\x9b\ud800"


def log_message() -> None:
    """The message itself is odd."""
    logging.getLogger("mail").warning(ODD)


def log_argument() -> None:
    """An argument of it is odd."""
    logging.getLogger("mail").warning("sending to %s", ODD)


def log_wrong_arguments() -> None:
    """The arguments do not fit the message, and are odd."""
    logging.getLogger("mail").warning("sending", {ODD: ODD}, Shown())


def log_broken_argument() -> None:
    """An argument cannot be shown, and says so in odd words."""
    logging.getLogger("mail").warning("sending to %s", Broken())


def log_traceback() -> None:
    """An error with an odd text is logged with its traceback."""
    try:
        raise ValueError(ODD)
    except ValueError:
        logging.getLogger("mail").exception("cannot send")


class Shown:
    """Shows itself as odd text."""

    def __repr__(self) -> str:
        """Return it."""
        return ODD


class Broken:
    """Cannot be shown."""

    def __str__(self) -> str:
        """Raise it."""
        raise ValueError(ODD)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "log_odd", [log_message, log_argument, log_wrong_arguments, log_broken_argument, log_traceback]
)
def test_what_a_task_logs_can_forge_no_line_and_reaches_no_terminal_as_a_command(
    log_odd: Callable[[], None], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own lines are indented below the one that begins with the time."""
    log.configure(as_json)

    log_odd()

    first, *rest = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert "send" in first or log_odd is log_message
    assert all(line.isprintable() for line in (first, *rest))
    assert all(line == "" or line.startswith("  ") for line in rest)
    assert not (as_json and rest)
