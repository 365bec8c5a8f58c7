"""The declare command without a broker: it shows on one screen what it would declare."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from leveret.command import declare
from leveret.producers.examples import samples
from leveret.topology import queues
from leveret.topology.apply.table import rows, show
from leveret.topology.link import default_broker
from leveret.topology.objects import control_streams, objects_of, shared_exchanges
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings
from tests.unit.commands import leveret

SAMPLES_ALONE = "no task module is named, so these are the sample queues; name yours: leveret declare -a my_app\n"


@pytest.fixture(autouse=True)
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for a broker fails the test; the sample queues are known, and no others."""

    def asked(_configured: Settings) -> NoReturn:
        raise AssertionError("a broker was asked for")

    monkeypatch.setattr(default_broker, "resolve", asked)
    monkeypatch.setattr(queues, "_known", {queue.name: queue for queue in (samples.treasure, samples.words)})
    monkeypatch.delenv("LEVERET_TASKS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("options", "expected"), [([], SAMPLES_ALONE), (["--quiet"], "")])
def test_a_dry_run_shows_and_asks_no_broker(
    options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sample queues are shown on one screen, and that is all; beside it stands that they are the samples."""
    status = leveret("declare", "--dry-run", *options)
    shown, said = capsys.readouterr()

    assert (status, said) == (0, expected)
    assert re.findall(r"^(\w+): at most 4 attempts$", shown, re.MULTILINE) == ["treasure", "words"]
    assert max(map(len, shown.splitlines())) <= 105
    assert len(shown.splitlines()) <= 24


def test_the_whole_life_of_a_failure_is_shown() -> None:
    """Each queue stands with where its messages come from, and where they go when."""
    shown = show([WorkQueue("mail", retry_delays=(30,))])

    assert shown.splitlines() == [
        "exchanges  tasks.direct (direct), tasks.topic (topic), tasks.fanout (fanout)",
        "           tasks.again (direct), tasks.dead (direct): not for producers",
        "           tasks.events (topic), tasks.control (topic): what is told and asked",
        "           tasks.later.direct, tasks.later.topic, tasks.later.fanout, tasks.later.again: what was delayed",
        "streams    tasks.cancelled, tasks.paused",
        "mail: at most 2 attempts",
        "  mail.failed (direct), for any other key mail.failed.first.after.30s (fanout)",
        "  mail                   ← tasks.direct mail, tasks.again mail@2, tasks.topic mail.#",
        "  mail.retry.1.after.30s ← mail.failed.first.after.30s; after 30s → mail@2",
        "  mail.dlq               ← mail.failed mail@2, tasks.dead mail",
    ]


def test_a_module_that_cannot_be_loaded_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown module is one line that begins with the command's name."""
    status = leveret("declare", "--dry-run", "--tasks", "not_there")
    shown, said = capsys.readouterr()

    assert (status, shown) == (1, "")
    assert said.startswith("leveret declare: --tasks not_there cannot be imported: there is no module 'not_there'")
    assert len(said.splitlines()) == 1


def test_rows_are_everything_that_is_declared() -> None:
    """Each exchange, queue and binding of the table is a row of its own, with the arguments it is declared with."""
    mail = WorkQueue("mail", retry_delays=(30,), fanout=True)
    tables = [shared_exchanges(), control_streams(), objects_of(mail)]
    made = list(rows([mail]))

    assert [row for row in made if "exchange" in row] == [
        {"exchange": one.name, "type": one.type, "internal": one.internal, "arguments": one.arguments}
        for table in tables
        for one in table.exchanges
    ]
    assert [row for row in made if "queue" in row] == [
        {"queue": one.name, "arguments": one.arguments} for table in tables for one in table.queues
    ]
    assert [tuple(row.values()) for row in made if "bound" in row] == [
        tuple(one)[:3] for table in tables for one in table.bindings
    ]


def test_rows_and_the_screen_show_the_entrance_of_a_queue_with_priorities() -> None:
    """By which exchange a message comes into its level, and what it has to say for that."""
    mail = WorkQueue("mail", retry_delays=(), priorities=True)

    assert {"bound": "mail.in", "to": "tasks.direct", "key": "mail"} in list(rows([mail]))
    high = {"x-match": "all", "priority": "high"}
    assert {"bound": "mail.high", "to": "mail.in", "key": "", "arguments": high} in list(rows([mail]))
    assert show([mail]).splitlines()[5:] == [
        "mail: at most 1 attempts",
        "  mail.failed (direct), for any other key mail.failed.first.levels.never (fanout)",
        "  mail.in (headers) ← tasks.direct mail, tasks.topic mail.#, for any other priority mail.in.normal (fanout)",
        "  mail.high ← mail.in priority=high",
        "  mail      ← mail.in.normal",
        "  mail.low  ← mail.in priority=low",
        "  mail.dlq  ← mail.failed.first.levels.never, tasks.dead mail",
    ]


def test_the_ladder_of_delays_is_shown_with_what_it_is_bound_by(capsys: pytest.CaptureFixture[str]) -> None:
    """Only where it is asked for, for few queues need it."""
    assert leveret("declare", "--dry-run", "--delays", "--json") == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert leveret("declare", "--dry-run", "--delays") == 0
    shown = capsys.readouterr().out

    bound = {
        "bound": "tasks.delay.30s",
        "to": "tasks.delay.1",
        "key": "",
        "arguments": {"x-match": "all", "later-1": "3"},
    }
    assert bound in read
    assert {"x-match": "all", "later-to": "tasks.topic"} in [
        row["arguments"] for row in read if row.get("bound") == "tasks.later.topic"
    ]
    assert (
        "delays     tasks.delay.1s to tasks.delay.400d, 58 queues; what no queue takes lies in tasks.later.lost"
        in shown
    )


def test_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads the same rows, arguments as objects, and nothing else on stdout."""
    assert leveret("declare", "--dry-run", "--json") == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert {"exchange": "tasks.direct", "type": "direct", "internal": False, "arguments": {}} in read
    assert read == [
        {name: dict(value) if name == "arguments" else value for name, value in row.items()}  # type: ignore[call-overload]
        for row in rows([samples.treasure, samples.words])
    ]


def test_it_declares_what_is_known_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --dry-run the broker gets the queues that are shown, and its password is not told."""
    declared: list[tuple[str, list[str]]] = []

    def note(configured: Settings, made: Iterable[WorkQueue]) -> list[str]:
        declared.append((configured.amqp_url, [queue.name for queue in made]))
        return []

    monkeypatch.setenv("AMQP_URL", "amqp://user:s3cret@host/team")
    monkeypatch.setattr(default_broker, "resolve", lambda configured: configured)
    monkeypatch.setattr(declare, "declare", note)
    monkeypatch.setattr(declare, "declare_streams", lambda configured: note(configured, ()))
    status = leveret("declare")
    shown, said = capsys.readouterr()

    assert (status, declared) == (
        0,
        [("amqp://user:s3cret@host/team", ["treasure", "words"]), ("amqp://user:s3cret@host/team", [])],
    )
    assert shown == f"{show(queues.known())}\n"
    assert said == f"{SAMPLES_ALONE}declared on amqp://user:***@host/team\n"
