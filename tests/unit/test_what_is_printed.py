"""The same odd text comes by every door, and is neither a line of its own nor a command to the terminal behind any.

The log's doors are in `test_log.py`.
"""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pika import exceptions as pika_errors

from leveret.command import ending, fetch, task_modules, verb
from leveret.command import main as leveret
from leveret.producers import sender
from leveret.topology.apply import declare
from leveret.topology.errors import LeveretError
from leveret.topology.link import explaining

ODD = "\x1b[2J\r\nleveret: forged\x07\N{LINE SEPARATOR}\N{RIGHT-TO-LEFT OVERRIDE}\x9b\x85\ud800"
URL = "amqp://guest:guest@localhost/"


def fail() -> int:
    raise LeveretError(ODD)


def refuse_usage() -> None:
    leveret(["submit", f"--{ODD}"])


def refuse_command() -> None:
    leveret([ODD])


DOORS: dict[str, Callable[[], object]] = {
    "an error of a command": lambda: ending.run("leveret", fail),
    "an option": refuse_usage,
    "the name of a command": refuse_command,
    "a result": lambda: ending.tell(ODD, ODD),
    "a result as JSON": lambda: ending.tell_json({"text": ODD, ODD: 1}),
    "a note": lambda: verb.note(ODD),
    "what a program that ends waits for": lambda: sender._say(ODD),
    "what a server of books answers": lambda: fetch.say(ODD),
}


class Strict(io.TextIOWrapper):
    """A terminal that takes UTF-8 and nothing else."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="surrogateescape", write_through=True, newline="")

    def lines(self) -> list[str]:
        """Return what was written."""
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode().removesuffix("\n").split("\n")


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_what_is_printed_is_printable(door: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """No further line begins as an error does, and half a surrogate ends nothing."""
    terminal = Strict()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)

    door()

    shown = terminal.lines()
    assert "forged" in shown[0] + shown[-1]
    assert all(line.isprintable() for line in shown)
    assert not any(line.startswith("leveret: forged") for line in shown)


def test_what_is_told_as_json_is_the_same_when_it_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """What is not printable is escaped as JSON does it, and nothing else is."""
    ending.tell_json({"text": ODD})
    ending.tell_json({"text": "é"})
    odd, plain = capsys.readouterr().out.splitlines()

    assert json.loads(odd) == {"text": ODD}
    assert plain == '{"text": "é"}'


BROKER_ERRORS: dict[str, Callable[[], Exception]] = {
    "no queue": lambda: explaining.explain_channel(pika_errors.ChannelClosedByBroker(404, ODD), "queue 'mail'", URL),
    "refused": lambda: explaining.explain_channel(pika_errors.ChannelClosedByBroker(403, ODD), "queue 'mail'", URL),
    "closed": lambda: explaining.explain_channel(pika_errors.ChannelClosedByBroker(541, ODD), "queue 'mail'", URL),
    "lost": lambda: explaining.explain_channel(pika_errors.ConnectionClosedByBroker(320, ODD), "queue 'mail'", URL),
    "closed connection": lambda: explaining.explain(pika_errors.ConnectionClosedByBroker(320, ODD), URL),
    "handshake": lambda: explaining.explain(pika_errors.ProbableAccessDeniedError(ODD), URL),
    "no AMQP": lambda: explaining.explain(pika_errors.IncompatibleProtocolError(ODD), URL),
    "not declared": lambda: declare._failed(OSError(ODD)),
}


@pytest.mark.parametrize("make", BROKER_ERRORS.values(), ids=BROKER_ERRORS)
def test_what_a_broker_says_is_printable_in_the_error(make: Callable[[], Exception]) -> None:
    """Programs log the errors themselves, so it is made so where it enters."""
    said = str(make())

    assert "forged" in said
    assert said.isprintable()


def test_what_a_task_module_raises_forges_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines that led there stay lines, below the error."""
    (tmp_path / "raises_odd.py").write_text(f"raise ValueError({ODD!a})\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()

    def load() -> int:
        task_modules.load(["raises_odd"])
        return 0

    assert ending.run("leveret", load) == ending.EXIT_ERROR
    first, *rest = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert "forged" in first
    assert len(rest) >= 1
    assert all(line.isprintable() for line in (first, *rest))
    assert all(line.startswith("  ") for line in rest)
