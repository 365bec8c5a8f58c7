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

from leveret.command import submit, task_modules
from leveret.consumers.samples import words  # noqa: F401 - before tests know no tasks but their own
from leveret.consumers.tasks.defining import task
from leveret.producers.following.handle import Submitted
from leveret.topology import queues, registry
from leveret.topology.errors import BrokerUnreachable, LeveretError, NotRouted
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings
from tests.unit.commands import leveret

SENT: list[tuple[TaskMessage, Route]] = []
REFUSED: set[str] = set()
ASKED: list[str] = []
TIMEOUTS: list[float | None] = []


class FakePublisher:
    """Takes every message, except of tasks and with arguments that are refused."""

    def __init__(self, configured: Settings, *, timeout: float | None = None) -> None:
        self.settings = configured
        TIMEOUTS.append(timeout)

    def __enter__(self) -> FakePublisher:
        return self

    def __exit__(self, *_: object) -> None: ...

    def handle_of(self, message: TaskMessage) -> Submitted[object]:
        """Return what stands for a message."""
        return Submitted(message.id, message.task)

    def publish(self, message: TaskMessage, route: Route | None = None) -> Submitted[object]:
        """Take a message, or raise what a broker without a queue for it leads to."""
        if any(word in message.body.decode() for word in REFUSED):
            raise NotRouted("no queue is bound", message.id)
        SENT.append((message, route or message.route or Route.topic(message.task)))
        return self.handle_of(message)

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
    """The command finds a broker and publishes without one, in a folder of its own; it knows no queues and tasks."""
    monkeypatch.setattr(submit, "resolve", lambda configured: configured)
    monkeypatch.setattr(submit, "check_any", lambda configured: ASKED.append(configured.amqp_url))
    monkeypatch.setattr(submit, "Publisher", FakePublisher)
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(os, "environ", {"DATA_DIR": str(tmp_path), "AMQP_URL": "amqp://host/"})
    monkeypatch.chdir(tmp_path)
    yield
    for kept in (SENT, REFUSED, ASKED, TIMEOUTS):
        kept.clear()


def sent() -> list[tuple[Any, Any, Any]]:
    """Task, args and kwargs of every message that was published."""
    return [tuple(json.loads(message.body)[key] for key in ("task", "args", "kwargs")) for message, _ in SENT]


def routes() -> list[tuple[str, str]]:
    """Exchange and key of every message that was published."""
    return [(route.exchange, route.routing_key) for _, route in SENT]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--args", "[1]"], "name the task that the arguments, --file or --id are for"),
        (["--kwargs", "{}"], "name the task"),
        (["--file", "jobs.jsonl"], "name the task"),
        (["--id", "order-17"], "name the task"),
        (["a.b", "--file", "-", "--args", "[1]"], "--file brings the arguments, and each line its own id; leave out"),
        (["a.b", "--file", "-", "--kwargs", "{}"], "--file brings the arguments"),
        (["a.b", "c=1", "--file", "-"], "--file brings the arguments"),
        (["a.b", "--file", "-", "--id", "order-17"], "--file brings the arguments"),
        (["a.b", "--queue", "q", "--exchange", "topic"], "--queue is a way of the direct exchange"),
        (["a.b", "--queue", "q", "--exchange", "fanout"], "--queue is a way of the direct exchange"),
        (["a.b", "--queue", "q", "--routing-key", "c.d"], "and its routing key"),
        (["a.b", "--queue", "q", "--routing-key", ""], "and its routing key"),
        (["a.b", "--file", "-", "--args", ""], "--file brings the arguments"),
        (["--kwargs", ""], "name the task"),
        ([""], "'[TASK]': it is empty"),
        (["a.b", "--file", ""], "'--file': it is empty"),
        (["a.b", "--queue", ""], "'--queue': it is empty"),
        (["a.b", "--id", ""], "'--id': it is empty"),
        (["a.b", "--exchange", "headers"], "'--exchange': 'headers' is not one of 'direct', 'topic', 'fanout'"),
        (["a.b", "--timeout", "soon"], "'--timeout': 'soon' is not a valid float"),
        (
            ["a.b", "c.d"],
            "'c.d' is no KEY=VALUE; write to=a@example.org, or give --kwargs an object, or --args an array",
        ),
        (["a.b", "=1"], "'=1' is no KEY=VALUE"),
        (["a.b", "c=1", "c=2"], "argument 'c' is given twice; leave one out"),
        (["a.b", "c=1", "--kwargs", '{"c": 1}'], "argument 'c' is given twice"),
        ([], "name a task; the sample job is leveret submit --samples"),
        (["--samples", "a.b"], "--samples brings its task and its arguments"),
        (["a.b", "--timeout", "0"], "'--timeout': a timeout of 0.0 is not possible; give seconds"),
        (["a.b", "--timeout", "nan"], "'--timeout'"),
        (["a.b", "--exchange", "direct"], "the direct exchange needs a queue: give --queue, or --routing-key"),
        (["--no-such"], "there is no option --no-such"),
        (["a.b", "--no-declare"], "there is no option --no-declare"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that contradict each other are refused before anything is connected."""
    status = leveret("submit", *arguments)
    said = capsys.readouterr()

    assert (status, said.out) == (2, "")
    assert said.err.startswith("leveret submit: ")
    assert reason in said.err
    assert said.err.endswith("; see leveret submit --help\n")
    assert len(said.err.splitlines()) == 1
    assert (SENT, ASKED) == ([], [])


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
        (["a.b", "c=caf\udce9"], "argument 'c' of task 'a.b' cannot be written as JSON"),
        (["x" * 256], "cannot name a task"),
        (["a.b", "--id", "two\nlines"], "'two\\\\nlines' cannot be a task id"),
        (["a.b", "--file", "not-there.jsonl"], "--file not-there.jsonl cannot be read: No such file or directory"),
        (["a.b", "--file", "."], "--file . cannot be read: Is a directory"),
        (["a.b", "--file", "x" * 300], "--file x+ cannot be read: File name too long"),
        (["a.b", "--file", "-"], "--file - cannot be read: standard input is closed"),
        (["a.b", "--queue", "x" * 256], "queue 'x{60}'… is longer than the 255 bytes of AMQP"),
        (["a.b", "--routing-key", "é" * 128], "routing key 'é{60}'… is longer than the 255 bytes of AMQP"),
        (["a.b", "--exchange", "direct", "--routing-key", "caf\udce9"], r"routing key 'caf\\udce9' is no text"),
        (["a.b", "--tasks", "not_there"], "--tasks not_there cannot be imported: there is no module"),
        (["--samples"], r"there are no texts \(\*.txt\) in /.*; put some there"),
    ],
)
def test_an_unusable_value_ends_with_status_1(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be submitted is one line that begins with the command's name."""
    monkeypatch.setattr(sys, "stdin", None)
    status = leveret("submit", *arguments)
    said = capsys.readouterr()

    assert (status, said.out, SENT) == (1, "", [])
    assert re.fullmatch(f"leveret submit: .*{reason}.*\n", said.err)


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "said"),
    [
        ("AMQP_URL", "localhost", ["a.b"], "AMQP_URL 'localhost' is no AMQP URL; write it as"),
        (
            "DATA_DIR",
            "x" * 300,
            ["--samples"],
            f"DATA_DIR {'x' * 300} cannot be read: File name too long; name another folder",
        ),
        ("LEVERET_TASKS", "not_there", ["a.b"], "--tasks not_there cannot be imported: there is no module"),
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

    assert leveret("submit", *arguments) == 1
    assert capsys.readouterr().err.startswith(f"leveret submit: {said}")


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

    assert leveret("submit", "a.b", *options) == 0
    assert routes() == [route]


def test_the_sample_job_goes_the_same_ways(tmp_path: Path) -> None:
    """Options choose its route, too."""
    (tmp_path / "a.txt").touch()

    assert leveret("submit", "--samples", "--queue", "q") == 0
    assert routes() == [("tasks.direct", "q")]


def test_one_task_is_submitted_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """The arguments are JSON, and the id is all that stdout gets."""
    status = leveret("submit", "a.b", "--args", '[1, "é"]', "--kwargs", '{"c": null}')

    assert (status, sent()) == (0, [("a.b", [1, "é"], {"c": None})])
    assert capsys.readouterr() == (f"{SENT[0][0].id}\n", "")


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("c=5", 5),
        ("c=-0.5", -0.5),
        ("c=true", True),
        ("c=null", None),
        ("c=[1, 2]", [1, 2]),
        ('c={"d": 1}', {"d": 1}),
        ('c="5"', "5"),
        ("c=a@example.org", "a@example.org"),
        ("c=two words", "two words"),
        ("c=a=b", "a=b"),
        ("c=", ""),
        ("c=True", "True"),
        ("c=05", "05"),
        ("c=NaN", "NaN"),
        ("c=1e999", "1e999"),
        ("c=2026-11-28", "2026-11-28"),
        ('c={"d": 1, "d": 2}', '{"d": 1, "d": 2}'),
        ("c=" + "[" * 100_000, "[" * 100_000),
        ("c=é", "é"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_pair_is_json_or_text(pair: str, expected: object) -> None:
    """What a worker could read as JSON is that; everything else is the text that it is."""

    assert leveret("submit", "a.b", pair) == 0
    assert sent() == [("a.b", [], {"c": expected})]


def test_pairs_and_kwargs_go_together() -> None:
    """Each brings its own arguments, and --args the positional ones."""

    assert leveret("submit", "a.b", "c=1", "--kwargs", '{"d": 2}', "e=f", "--args", "[0]") == 0
    assert sent() == [("a.b", [0], {"c": 1, "d": 2, "e": "f"})]


def test_an_id_of_ones_own_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the message's, and printed like any other."""

    assert leveret("submit", "a.b", "--id", "order-17") == 0
    assert [message.id for message, _ in SENT] == ["order-17"]
    assert capsys.readouterr() == ("order-17\n", "")


def test_a_timeout_is_the_publishers() -> None:
    """Without the option the setting holds."""

    assert leveret("submit", "a.b", "--timeout", "2.5") == leveret("submit", "a.b") == 0
    assert TIMEOUTS == [2.5, None]


def test_json_is_an_object_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Id and task stand in each, of one task as of many."""
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).touch()

    assert leveret("submit", "a.é", "--json") == leveret("submit", "--samples", "--json", "-q") == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert read == [{"id": message.id, "task": message.task} for message, _ in SENT]
    assert [one["task"] for one in read] == ["a.é", "words.count", "words.count"]


def test_the_samples_are_every_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample job counts each text in DATA_DIR once, in order."""
    for name in ("b.txt", "a.txt", "notes.md"):
        (tmp_path / name).touch()

    assert leveret("submit", "--samples") == 0
    assert sent() == [("words.count", [], {"book": "a.txt"}), ("words.count", [], {"book": "b.txt"})]
    assert capsys.readouterr() == (
        "".join(f"{message.id}\n" for message, _ in SENT),
        f"submitting words.count for 2 texts in {tmp_path}\n",
    )


def test_quiet_is_ids_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no error is left out of stderr."""
    (tmp_path / "a.txt").touch()

    assert leveret("submit", "--samples", "--quiet") == 0
    assert capsys.readouterr() == (f"{SENT[0][0].id}\n", "")


def test_a_refused_message_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """What the broker did not take is told, and no id is printed."""
    REFUSED.add("a.b")

    assert leveret("submit", "a.b") == 1
    assert capsys.readouterr() == ("", "leveret submit: no queue is bound\n")


def test_a_broker_that_does_not_answer_is_told_before_anything_is_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is asked once, and a publisher, which would wait for it, is not even made."""

    def refuse(_configured: Settings) -> None:
        raise BrokerUnreachable("nobody answers")

    assert leveret("submit", "a.b") == 0
    assert ASKED == ["amqp://host/"]
    monkeypatch.setattr(submit, "check_any", refuse)

    assert leveret("submit", "a.b") == 1
    assert capsys.readouterr().err == "leveret submit: nobody answers\n"
    assert (len(SENT), len(TIMEOUTS)) == (1, 1)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a task module, as -a takes it, with mail.send(to) and mail.stop()."""

    def load(_names: object) -> None:
        mail = WorkQueue("mail")
        task("mail.stop", queue=mail)(_stop)
        task("mail.send", queue=mail)(_send)

    monkeypatch.setattr(task_modules, "load", load)
    return "my_jobs"


def _send(to: str) -> None: ...


def _stop() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mail.send"], "task 'mail.send' cannot be called like this: missing a required argument: 'to'"),
        (["mail.send", "cc=a"], "task 'mail.send' cannot be called like this: "),
        (["mail.sned", "to=a"], "no task 'mail.sned' for queue 'mail' in .*; did you mean 'mail.send'\\?"),
        (["other", "--queue", "mail"], "no task 'other' for queue 'mail' in .*; there are: mail.send, mail.stop"),
    ],
)
def test_a_call_is_checked_against_its_module(
    arguments: list[str], reason: str, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What no worker could run is refused before a broker is asked."""

    assert leveret("submit", *arguments, "-a", jobs) == 1
    assert re.fullmatch(f"leveret submit: {reason}.*\n", capsys.readouterr().err)
    assert (SENT, ASKED) == ([], [])


def test_a_module_without_a_task_names_its_tasks(jobs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample job is for who has named no module."""

    assert leveret("submit", "-a", jobs) == 2
    assert "leveret submit: name a task; my_jobs has: mail.send, mail.stop; see" in capsys.readouterr().err
    assert (SENT, ASKED) == ([], [])


def test_a_task_that_nobody_here_knows_is_submitted() -> None:
    """Without its module nothing is known about it."""

    assert leveret("submit", "mail.sned") == 0
    assert sent() == [("mail.sned", [], {})]
