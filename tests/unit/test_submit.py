"""The submit command: its arguments, what it publishes, and what it reports, with a publisher that has no broker."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.submit import main
from topology import broker
from topology.errors import LeveretError, NotRouted
from topology.message import TaskMessage
from topology.names import Route
from topology.settings import Settings

SENT: list[tuple[TaskMessage, Route | None]] = []
REFUSED: set[str] = set()


class FakePublisher:
    """Takes every message, except of tasks and with arguments that are refused."""

    def __init__(self, configured: Settings) -> None:
        self.settings = configured

    def __enter__(self) -> FakePublisher:
        return self

    def __exit__(self, *_: object) -> None: ...

    def publish(self, message: TaskMessage, route: Route | None = None) -> str:
        """Take a message, or raise what a broker without a queue for it leads to."""
        if any(word in message.body.decode() for word in REFUSED):
            raise NotRouted("no queue is bound", message.id)
        SENT.append((message, route))
        return message.id

    def publish_many(
        self, messages: Iterable[TaskMessage], route: Route | None = None
    ) -> Iterator[tuple[TaskMessage, LeveretError | None]]:
        """Take each message, or say why not."""
        for message in messages:
            try:
                self.publish(message, route)
            except NotRouted as error:
                yield message, error
            else:
                yield message, None


@pytest.fixture(autouse=True)
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command finds a broker, declares and publishes without one, in a folder of its own."""
    command = sys.modules["producers.submit"]
    monkeypatch.setattr(broker, "resolve", lambda configured: configured)
    monkeypatch.setattr(command, "declare", lambda *_: None)
    monkeypatch.setattr(command, "Publisher", FakePublisher)
    monkeypatch.setattr(os, "environ", {"DATA_DIR": str(tmp_path)})
    monkeypatch.chdir(tmp_path)
    yield
    SENT.clear()
    REFUSED.clear()


def sent() -> list[tuple[Any, Any, Any]]:
    """Task, args and kwargs of every message that was published."""
    return [tuple(json.loads(message.body)[key] for key in ("task", "args", "kwargs")) for message, _ in SENT]


def routes() -> list[tuple[str, str]]:
    """Exchange and key of every message that was published."""
    return [(route.exchange, route.routing_key) for _, route in SENT if route]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--args", "[1]"], "name the task that --args, --kwargs or --file are for"),
        (["--kwargs", "{}"], "name the task"),
        (["--file", "jobs.jsonl"], "name the task"),
        (["a.b", "--file", "-", "--args", "[1]"], "--file brings the arguments; leave out --args and --kwargs"),
        (["a.b", "--file", "-", "--kwargs", "{}"], "--file brings the arguments"),
        (["a.b", "--queue", "q", "--exchange", "topic"], "--queue is a way of the direct exchange"),
        (["a.b", "--queue", "q", "--exchange", "fanout"], "--queue is a way of the direct exchange"),
        (["a.b", "--queue", "q", "--routing-key", "c.d"], "--queue is the routing key, too"),
        (["a.b", "--queue", "q", "--routing-key", ""], "--queue is the routing key, too"),
        (["a.b", "--file", "-", "--args", ""], "--file brings the arguments"),
        (["--kwargs", ""], "name the task"),
        ([""], "argument TASK: it is empty"),
        (["a.b", "--file", ""], "argument --file: it is empty"),
        (["a.b", "--queue", ""], "argument --queue: it is empty"),
        (["a.b", "--exchange", "headers"], "invalid choice: 'headers'"),
        (["a.b", "c.d"], "unrecognized arguments: c.d"),
        (["--no-such"], "unrecognized arguments: --no-such"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that contradict each other are refused before anything is connected."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert reason in capsys.readouterr().err
    assert SENT == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.b", "--args", "[1"], "--args is not JSON: .*; it reads '\\[1'"),
        (["a.b", "--args", "{}"], r"--args must be an array like '\[1, 2\]'; it reads '\{\}'"),
        (["a.b", "--args", ""], "--args is not JSON"),
        (["a.b", "--kwargs", "[]"], "--kwargs must be an object like"),
        (["a.b", "--kwargs", "book=dracula.txt"], "--kwargs is not JSON: .*; it reads 'book=dracula.txt'"),
        (["a.b", "--kwargs", "[" * 100_000], "--kwargs is not JSON: .*recursion"),
        (["a.b", "--kwargs", '{"a": NaN}'], "NaN is not a JSON number"),
        (["x" * 256], "cannot name a task"),
        (["a.b", "--exchange", "direct"], r"--exchange direct needs a queue: --queue NAME \(or --routing-key\)"),
        (["a.b", "--file", "not-there.jsonl"], "--file not-there.jsonl cannot be read: No such file or directory"),
        (["a.b", "--file", "."], "--file . cannot be read: Is a directory"),
        (["a.b", "--file", "x" * 300], "--file x+ cannot be read: File name too long"),
        (["a.b", "--file", "-"], "--file - cannot be read: standard input is closed"),
        (["a.b", "--queue", "x" * 256], "--queue 'x{60}'… is longer than the 255 bytes of AMQP"),
        (["a.b", "--routing-key", "é" * 128], "--routing-key 'é{60}'… is longer than the 255 bytes of AMQP"),
        (["a.b", "--exchange", "direct", "--routing-key", "caf\udce9"], r"--routing-key 'caf\\udce9' is no text"),
        (["a.b", "--tasks", "not_there"], "--tasks not_there cannot be imported: there is no module"),
        ([], r"there are no texts \(\*.txt\) in /.*; put some there"),
    ],
)
def test_an_unusable_value_ends_with_status_1(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be submitted is one line that begins with the command's name."""
    monkeypatch.setattr(sys, "stdin", None)
    status = main(arguments)
    said = capsys.readouterr()

    assert (status, said.out, SENT) == (1, "", [])
    assert re.fullmatch(f"producers.submit: .*{reason}.*\n", said.err)


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "said"),
    [
        ("AMQP_URL", "localhost", ["a.b"], "AMQP_URL 'localhost' is no AMQP URL; write it as"),
        ("DATA_DIR", "x" * 300, [], f"DATA_DIR {'x' * 300} cannot be read: File name too long; name another folder"),
    ],
)
def test_an_unusable_setting_ends_with_status_1(
    variable: str,
    value: str,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A mistyped setting is told by its name."""
    monkeypatch.setattr(os, "environ", {variable: value})

    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"producers.submit: {said}")


@pytest.mark.parametrize(
    ("options", "route"),
    [
        ([], ("tasks.topic", "a.b")),
        (["--exchange", "topic"], ("tasks.topic", "a.b")),
        (["--routing-key", "c.d"], ("tasks.topic", "c.d")),
        (["--routing-key", ""], ("tasks.topic", "")),
        (["--queue", "q"], ("tasks.direct", "q")),
        (["--queue", "q", "--exchange", "direct"], ("tasks.direct", "q")),
        (["--exchange", "direct", "--routing-key", "q@2"], ("tasks.direct", "q@2")),
        (["--exchange", "fanout"], ("tasks.fanout", "a.b")),
        (["--exchange", "fanout", "--routing-key", "k"], ("tasks.fanout", "k")),
    ],
)
def test_options_choose_the_route(options: list[str], route: tuple[str, str]) -> None:
    """The topic exchange with the task's name is the default; a queue goes by the direct exchange."""

    assert main(["a.b", *options]) == 0
    assert routes() == [route]


def test_one_task_is_submitted_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """The arguments are JSON, and the id is all that stdout gets."""
    status = main(["a.b", "--args", '[1, "é"]', "--kwargs", '{"c": null}'])

    assert (status, sent()) == (0, [("a.b", [1, "é"], {"c": None})])
    assert capsys.readouterr() == (f"{SENT[0][0].id}\n", "")


def test_without_a_task_every_text_is_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample job counts each text in DATA_DIR once, in order."""
    for name in ("b.txt", "a.txt", "notes.md"):
        (tmp_path / name).touch()

    assert main([]) == 0
    assert sent() == [("words.count", [], {"book": "a.txt"}), ("words.count", [], {"book": "b.txt"})]
    assert capsys.readouterr() == (
        "".join(f"{message.id}\n" for message, _ in SENT),
        f"submitting words.count for 2 texts in {tmp_path}\n",
    )


def test_a_refused_message_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """What the broker did not take is told, and no id is printed."""
    REFUSED.add("a.b")

    assert main(["a.b"]) == 1
    assert capsys.readouterr() == ("", "producers.submit: no queue is bound\n")
