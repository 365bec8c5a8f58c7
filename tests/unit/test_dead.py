"""Dead letters without a broker: why one is dead, which are meant, what it takes along, and its line in a file."""

from __future__ import annotations

import importlib
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pika
import pytest
from pika import compat

from leveret.command.dead import _MODULES, ACTIONS
from leveret.producers.dead import files, history, written
from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reason import UNKNOWN_TASK, reason_of
from leveret.producers.dead.wanted import Wanted
from leveret.topology.errors import MessageError, SettingsError
from tests.unit.commands import leveret

_TRACE = """Traceback (most recent call last):
  File "/app/shop.py", line 3, in charge
    pay()
  File "/app/shop.py", line 9, in pay
    json.loads("")
  File "/usr/lib/json/decoder.py", line 355, in raw_decode
ValueError: no
"""


def dead(body: bytes = b'{"task":"shop.charge"}', task_id: Any = "one", **headers: Any) -> DeadMessage:
    """A message with these headers, in which `_` stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = pika.BasicProperties(message_id=task_id, headers=named)
    return DeadMessage(task_id or "", "", "", "", 1, properties, body, "shop")


@pytest.mark.parametrize(
    ("fingerprint", "place"),
    [
        ("ValueError@shop.py:pay", "shop.py:9"),
        ("ValueError@shop.py:charge", "shop.py:3"),
        ("ValueError@cut.py:off", "cut.py:off"),
        ("TimeLimitExceeded@shop.charge", ""),
        ("", ""),
    ],
)
def test_the_place_is_the_line_of_the_frame_that_the_fingerprint_names(fingerprint: str, place: str) -> None:
    """What is below it is a library's; where the traceback has it no longer, the function is told."""
    assert reason_of(dead(failure_fingerprint=fingerprint, failure_traceback=_TRACE)).place == place


def test_equal_reasons_have_equal_fingerprints_on_every_day() -> None:
    """The name of a group is of its task, kind and place alone, and is no beginning of a UUID."""
    first = reason_of(dead(failure_type="KeyError", failure_message="a", failure_task="t"))
    second = reason_of(dead(failure_type="KeyError", failure_message="b", failure_task="t", task_id="two"))
    other = reason_of(dead(failure_type="KeyError", failure_message="a", failure_task="u"))

    assert first.fingerprint == second.fingerprint == "gdf9e6ac"
    assert other.fingerprint != first.fingerprint


@pytest.mark.parametrize(
    "headers",
    [
        {"failure_type": 5, "failure_message": {"a": 1}, "failure_attempts": True, "failure_time": "soon"},
        {"x_death": "often"},
        {"x_death": [1, 2]},
        {"failure_time": "-"},
    ],
)
def test_whatever_headers_hold_is_no_hindrance(headers: dict[str, Any]) -> None:
    """Anybody can have written them."""
    reason = reason_of(dead(b"\xff", **headers))

    assert (reason.task, reason.attempts, reason.at) == (UNKNOWN_TASK, None, None)


def test_what_the_broker_alone_has_moved_has_its_reason() -> None:
    """The task is that of the body, the time that of the last dead-lettering."""
    death = {"reason": "rejected", "time": datetime(2026, 1, 2, tzinfo=UTC), "queue": "shop", "count": 1}
    reason = reason_of(dead(x_death=[death]))

    assert (reason.task, reason.kind, reason.at) == ("shop.charge", "rejected", 1767312000.0)


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(ids=["one"]), True),
        (Wanted(ids=["two"]), False),
        (Wanted(tasks=["shop.*"], kinds=["KeyError", "Value*"]), True),
        (Wanted(kinds=["KeyError"]), False),
        (Wanted(text="CHARGE"), True),
        (Wanted(text="tariff"), False),
        (Wanted(older_seconds=50, now=160.0), True),
        (Wanted(older_seconds=70, now=160.0), False),
        (Wanted(newer_seconds=70, now=160.0), True),
        (Wanted(group="g0000000"), False),
    ],
)
def test_all_that_is_said_has_to_hold(wanted: Wanted, takes: bool) -> None:
    """A pattern fits a whole name."""
    one = dead(failure_type="ValueError", failure_task="shop.charge", failure_time="1970-01-01T00:01:40Z")
    assert wanted.takes(one) is takes


def test_what_has_no_time_is_neither_older_nor_newer() -> None:
    """Nobody discards by age what nobody knows the age of."""
    assert not Wanted(older_seconds=0).takes(dead())
    assert not Wanted(newer_seconds=1e9).takes(dead())


def test_history_is_counted_and_bounded() -> None:
    """The last ten times are told; what is no history is none."""
    headers: dict[str, Any] = {"redriven-times": "often", "redriven-by": [5, "once"]}
    for number in range(20):
        headers = history.again(headers, f"user-{number}")

    assert history.times_of(headers) == 20
    assert [line.split()[1] for line in history.lines_of(headers)] == [f"user-{number}" for number in range(10, 20)]


_ODD = {
    "none": None,
    "yes": True,
    "int": -5,
    "long": compat.long(5),
    "far": compat.long(2**40),
    "float": 1.0,
    "inf": math.inf,
    "text": "\x1b[2J\u2028ä\udcff".encode(errors="replace").decode(),
    "bytes": b"\xff\0",
    "time": datetime(2026, 1, 2, tzinfo=UTC),
    "decimal": Decimal("1.50"),
    "list": [1, [b"\xfe", {"deep": None}]],
    "table": {b"\xff": 1, "$x": {"$bytes": "no"}, "": 2},
    "empty": {},
}


@pytest.mark.parametrize("body", [b"", b"{}", "ä\x1b\u2028".encode(), b"\xff\0\n", b'{"half": "\xed\xa0\x80"}'])
def test_a_line_holds_everything(body: bytes) -> None:
    """Each value comes back as what it was, and its line is one line that a terminal can show."""
    one = dead(body, b"\xff\xfe", **_ODD)
    one.properties.timestamp, one.properties.app_id = 2**64 - 1, b"\xfe"
    line = written.write("shop", one)
    found = written.read(line)

    assert line.decode()[:-1].isprintable()
    assert line.endswith(b"\n")
    assert (found.queue, found.routing_key, found.body) == ("shop", "shop", body)
    assert repr(found.properties.headers) == repr(one.properties.headers)
    assert vars(found.properties) == vars(one.properties)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "no JSON, perhaps cut"),
        (b'{"version":1,"queue":"sh', "no JSON, perhaps cut"),
        (b"\xff", "no JSON"),
        (b"[]", "it needs version, queue"),
        (b'{"version":2}', "of version 2, and this reads 1"),
        (b'{"version":1,"queue":"","routing_key":"","properties":{},"headers":null,"body":""}', "names no queue"),
        (
            b'{"version":1,"queue":"q","routing_key":"","properties":{"x":1},"headers":null,"body":""}',
            "no property 'x'",
        ),
        (b'{"version":1,"queue":"q","routing_key":"","properties":{},"headers":[],"body":""}', "headers are no object"),
        (b'{"version":1,"queue":"q","routing_key":"","properties":{},"headers":{"a":{"$b":1}},"body":""}', "'$b'"),
        (b'{"version":1,"queue":"q","routing_key":"","properties":{},"headers":null}', "neither body nor"),
        (
            b'{"version":1,"queue":"q","routing_key":"","properties":{},"headers":null,"body_base64":"%"}',
            "cannot be read",
        ),
    ],
)
def test_a_line_that_is_none_is_named(line: bytes, says: str) -> None:
    """Nothing but a `MessageError` comes of it."""
    with pytest.raises(MessageError, match=says.replace("$", r"\$")):
        written.read(line)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """A former one stays as it was when writing fails, and nothing is left beside it."""
    path = tmp_path / "dead.jsonl"
    path.write_text("former")

    def fail() -> None:
        with files.whole(path) as out:
            out.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(SettingsError, match="No space left"):
        fail()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("dead.jsonl", "former")]


@pytest.mark.parametrize("action", ACTIONS)
def test_each_verb_explains_itself(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As those of the command do: help that fits 80 columns, with examples of itself, and no option without help."""
    assert leveret("dead", action, "--help") == 0
    shown = capsys.readouterr().out
    made = importlib.import_module(f"leveret.command.dead.{_MODULES.get(action, action)}").verb

    assert f"leveret dead {action} " in shown.partition("Examples:")[2]
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert [one.name for one in made.params if isinstance(one, click.Option) and not one.help] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tpo"], "did you mean 'top'?"),
        (["redrive", "mail", "--timeout", "5s"], "--timeout goes with --canary"),
        (["redrive", "mail", "--canary", "2", "--dry-run"], "--canary does not go with --dry-run"),
        (["show", ""], "the id is empty"),
        (["list", "--older", "soon"], "'soon' is no time"),
        (["replay", "one", "--pdb"], "--pdb needs a terminal"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one line, and the status is 2."""
    assert leveret("dead", *arguments) == 2
    out, said = capsys.readouterr()
    assert (out, said.count("\n"), says in said) == ("", 1, True)
