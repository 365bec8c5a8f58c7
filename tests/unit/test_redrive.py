"""The redrive command: what it asks for and tells, with a DLQ that is played here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pika
import pytest

from leveret.command import redrive as command
from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.redrive import Redriven
from leveret.topology.errors import LeveretError, TopologyError, Unwritable
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings
from tests.unit.commands import leveret

Tell = Callable[[DeadMessage], None]

REASON = "  mail.send, 5 attempts: ValueError: no such tariff"


def dead(task_id: str, reason: str = "ValueError: no such tariff") -> DeadMessage:
    """A message as it lies in a DLQ."""
    return DeadMessage(task_id, "mail.send", "5", reason, 1, pika.BasicProperties(message_id=task_id), b"{}")


class Play:
    """A DLQ with these messages, and what was asked of it."""

    def __init__(self) -> None:
        self.lying = [dead("one"), dead("two")]
        self.held_by_others = 0
        self.set_aside: list[tuple[DeadMessage, Unwritable]] = []
        self.failure: LeveretError | None = None
        self.asked: list[tuple[str, tuple[str, ...], bool]] = []

    async def redrive(
        self, _configured: Settings, queue: str, ids: Sequence[str], dry_run: bool, tell_of: Tell
    ) -> Redriven:
        self.asked.append((queue, tuple(ids), dry_run))
        chosen = [one for one in self.lying if not ids or one.id in ids]
        for one in chosen:
            tell_of(one)
        if self.failure:
            raise self.failure
        return Redriven(chosen, self.held_by_others, self.set_aside)


@pytest.fixture(autouse=True)
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """The command without a broker."""
    made = Play()
    monkeypatch.setattr(default_broker, "resolve", lambda configured: configured)
    monkeypatch.setattr(command, "redrive", made.redrive)
    monkeypatch.chdir(tmp_path)
    return made


def test_id_and_reason_stand_on_one_line(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """Each message is told once it went, and how many did in the end."""
    assert leveret("redrive", "mail") == 0
    assert play.asked == [("mail", (), False)]
    assert capsys.readouterr() == (
        f"one{REASON}\ntwo{REASON}\n",
        "2 message(s) went from mail.dlq to mail\n",
    )


def test_a_dry_run_says_what_would_go(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else differs."""
    assert leveret("redrive", "mail", "--dry-run") == 0
    assert play.asked == [("mail", (), True)]
    assert capsys.readouterr().err.endswith("2 message(s) would go from mail.dlq to mail\n")


def test_the_dlqs_name_means_its_queue(play: Play) -> None:
    """As it stands in the management UI."""
    assert leveret("redrive", "mail.dlq") == 0
    assert play.asked == [("mail", (), False)]


@pytest.mark.parametrize("options", [["--id", "one", "--id", "three"], ["--id", "one,three"]])
def test_an_id_that_is_not_there_ends_with_status_1(
    options: list[str], play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are there went all the same; ids are repeated or written with commas."""
    assert leveret("redrive", "mail", *options) == 1
    assert play.asked == [("mail", ("one", "three"), False)]
    shown, said = capsys.readouterr()

    assert shown == f"one{REASON}\n"
    assert said.splitlines() == [
        "leveret redrive: no message three lies in mail.dlq",
        "1 message(s) went from mail.dlq to mail",
    ]


@pytest.mark.parametrize("given", ["", ","])
def test_an_id_that_is_empty_does_not_mean_all_messages(given: str, play: Play) -> None:
    """A script whose variable is empty asked for one message, or for none; never for the whole DLQ."""
    status = leveret("redrive", "mail", "--id", given)

    assert status != 0
    assert [ids for _, ids, _ in play.asked if not ids] == []


def test_what_others_hold_is_told(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be why there is less than the management UI counts."""
    play.held_by_others = 3

    assert leveret("redrive", "mail") == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("leveret redrive: 3 more were held by others")


def test_quiet_is_ids_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What is an error is told all the same."""
    assert leveret("redrive", "mail", "--quiet") == 0
    assert capsys.readouterr() == ("one\ntwo\n", "")
    assert leveret("redrive", "mail", "--quiet", "--id", "three") == 1
    assert capsys.readouterr() == ("", "leveret redrive: no message three lies in mail.dlq\n")


def test_json_is_an_object_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """All that is known of it, in stable names."""
    assert leveret("redrive", "mail", "--json", "-q") == 0
    shown, said = capsys.readouterr()

    assert said == ""
    assert [json.loads(line) for line in shown.splitlines()] == [
        {
            "id": task_id,
            "task": "mail.send",
            "attempts": 5,
            "reason": "ValueError: no such tariff",
            "queue": "mail",
        }
        for task_id in ("one", "two")
    ]


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2J", "a\rb"])
def test_what_others_wrote_does_not_reach_the_terminal(
    text: str, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids and reasons are a client's; a message without an id is told, too."""
    play.lying = [dead(text, text), dead("")]

    assert leveret("redrive", "mail") == 0
    shown, said = capsys.readouterr()
    assert (len(shown.splitlines()), len(said.splitlines())) == (2, 1)
    assert all(line.isprintable() for line in (*shown.splitlines(), *said.splitlines()))
    assert shown.splitlines()[1] == f"(no id){REASON}"


def test_what_went_before_a_failure_was_told(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is still in the DLQ, and the error says why."""
    play.failure = TopologyError("the link was lost")

    assert leveret("redrive", "mail") == 1
    shown, said = capsys.readouterr()
    assert shown == f"one{REASON}\ntwo{REASON}\n"
    assert said.splitlines()[-1] == "leveret redrive: the link was lost"


def test_what_was_set_aside_is_named(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there, so nobody misses it; and the status says that not all went."""
    play.set_aside = [(dead("odd\n"), Unwritable("message odd\n cannot be written: \x1b[2J too large"))]
    status = leveret("redrive", "mail", "--id", "one", "--id", "odd\n", "-q")
    shown, said = capsys.readouterr()

    assert (status, shown) == (3, "one\n")
    assert said == (
        r"leveret redrive: left in mail.dlq, for it cannot be sent again: message odd\n cannot be written: "
        r"\x1b[2J too large" + "\n"
    )


@pytest.mark.parametrize("options", [["--id", "one"], ["--dry-run"]])
def test_what_is_stranded_has_no_choice(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is wrong usage, and said before any broker is looked for."""
    monkeypatch.setattr(default_broker, "resolve", lambda _configured: pytest.fail("a broker was looked for"))

    assert leveret("redrive", "mail", "--stranded", *options) == 2
    assert "--stranded goes with neither --id nor --dry-run" in capsys.readouterr().err
