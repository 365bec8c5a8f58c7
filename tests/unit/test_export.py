"""The export command without a broker: what it writes and where, its picture, and what it says of bad input."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from leveret import definitions_of, svg_of, task
from leveret.topology import queues, registry
from leveret.topology.export.drawing import width_of
from leveret.topology.queues import WorkQueue
from tests.unit.commands import leveret

MODULE = """
from collections.abc import Callable

from leveret import WorkQueue, task

mail = WorkQueue("mail")
idle = WorkQueue("idle")

@task("mail.send", queue=mail)
def send(to: str, subject: str = "hello") -> None: ...

@task("mail.a/b", queue=mail)
def odd() -> None: ...
"""
UNDESCRIBED = """
import typing

@typing.runtime_checkable
class Reads(typing.Protocol):
    name: str

@task("mail.read", queue=mail)
def read(first: int, file: Reads) -> None: ...
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of tasks in the current folder, with a name of its own; a password in the URL."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.delenv("LEVERET_TASKS", raising=False)
    monkeypatch.setenv("AMQP_URL", "amqp://hare:secret@rabbit.example/shop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return write_app(tmp_path)


def write_app(folder: Path, more: str = "") -> str:
    name = f"app_{abs(hash((str(folder), more)))}"
    (folder / f"{name}.py").write_text(MODULE + more, encoding="utf-8")
    return name


def test_definitions_go_to_stdout(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For the virtual host of AMQP_URL, without anybody's name or password."""
    assert leveret("export", "definitions", "-a", app) == 0
    shown, said = capsys.readouterr()

    assert json.loads(shown) == definitions_of(vhost="shop")
    assert {one["vhost"] for kind in json.loads(shown).values() for one in kind} == {"shop"}
    assert "hare" not in shown
    assert said == ""


def test_a_queue_and_a_virtual_host_can_be_chosen(app: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what delayed tasks go through, if asked for."""
    assert leveret("export", "definitions", "-a", app, "--queue", "idle", "--vhost", "other", "--delays") == 0

    assert json.loads(capsys.readouterr().out) == definitions_of([queues.find("idle")], "other", with_delays=True)


def test_definitions_name_nothing_twice() -> None:
    """What the ladder shares with the rest is there once."""
    made = definitions_of([WorkQueue("one"), WorkQueue("two", priorities=True)], with_delays=True)
    named = [(kind, json.dumps(one)) for kind, found in made.items() for one in found]

    assert len({*named}) == len(named)
    assert len({one["name"] for one in made["exchanges"]}) == len(made["exchanges"])


def test_a_file_is_replaced_as_a_whole(app: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left beside it."""
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "asyncapi.json"
    target.write_text("old", encoding="utf-8")

    assert leveret("export", "asyncapi", str(target), "-a", app) == 0
    shown, said = capsys.readouterr()

    assert json.loads(target.read_text(encoding="utf-8"))["asyncapi"] == "3.0.0"
    assert [one.name for one in target.parent.iterdir()] == ["asyncapi.json"]
    assert (shown, said) == ("", f"{target} is written\n")


def test_schemas_go_into_a_folder_that_is_there(app: str, tmp_path: Path) -> None:
    """One file each, under names that any file system has."""
    (tmp_path / "out").mkdir()

    assert leveret("export", "schemas", "out", "-a", app, "-q") == 0

    written = {one.name: json.loads(one.read_text(encoding="utf-8")) for one in (tmp_path / "out").iterdir()}
    assert {name: schema["title"] for name, schema in written.items()} == {
        "mail.send.schema.json": "mail.send",
        "mail.a%2Fb.schema.json": "mail.a/b",
    }


@pytest.mark.parametrize("kind", ["schemas", "asyncapi"])
def test_a_type_without_a_schema_is_named_and_the_rest_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the task and the argument; the status says that it is not all."""
    assert leveret("export", kind, "-a", write_app(tmp_path, UNDESCRIBED)) == 3
    shown, said = capsys.readouterr()

    assert said.startswith("leveret export: task 'mail.read', argument 'file': no schema describes its type")
    assert len(said.splitlines()) == 1
    assert "mail.send" in shown
    assert "mail.read" in shown


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["schemas", "-q"], 2, "no task module is named; name yours: -a my_app"),
        (
            ["schemas", "-a", "APP", "--queue", "mial"],
            1,
            "no loaded module defines a queue 'mial'; did you mean 'mail'?",
        ),
        (["asyncapi", "-a", "APP", "--queue", "idle"], 1, "no loaded module defines a task of idle"),
        (["svg", ".", "-a", "APP"], 1, ". is a folder; name a file in it, as queues.svg"),
        (["svg", "none/x.svg", "-a", "APP"], 1, "none/x.svg cannot be written: No such file or directory"),
        (["svg", "--delays", "-a", "APP"], 2, "--delays goes with definitions, and not with svg"),
        (["schemas", "--vhost", "a", "-a", "APP"], 2, "--vhost goes with definitions and asyncapi"),
        (["definitions", "--vhost", "", "-a", "APP"], 2, "it is empty"),
        (["pictures", "-a", "APP"], 2, "'pictures' is not one of"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], status: int, expected: str, app: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes to stdout."""
    assert leveret("export", *(app if one == "APP" else one for one in arguments)) == status
    shown, said = capsys.readouterr()

    assert expected in said
    assert len(said.splitlines()) == 1
    assert shown == ""


def many_queues(count: int) -> None:
    """Queues of each kind, with names that a picture may stumble over."""
    for number in range(count):
        queue = WorkQueue(
            f"queue-{number}{'-long' * (number % 7)}",
            retry_delays=(1, 60)[: number % 3],
            fanout=number % 2 == 0,
            priorities=number % 4 == 0,
        )
        for ending in ("<&>", "名前", "x" * 150, "\x1b[31m")[: number % 5]:

            @task(f"{queue.name}.{ending}", queue=queue)
            def work() -> None: ...

            work.function.__qualname__ = ending


@pytest.mark.parametrize("count", [0, 1, 20])
def test_no_text_of_the_picture_overlaps_another(count: int) -> None:
    """It is well-formed, and each text lies within the picture; of each queue stands all that it consists of."""
    many_queues(count)
    root = ET.fromstring(svg_of())
    texts = [
        (float(one.attrib["x"]), float(one.attrib["y"]), one.text or "")
        for one in root.iter("{http://www.w3.org/2000/svg}text")
    ]
    boxes = [(x, y - 12, x + width_of(said), y + 4) for x, y, said in texts]
    overlapping = [
        (one, other)
        for one, other in itertools.combinations(boxes, 2)
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]

    assert overlapping == []
    assert all(right < float(root.attrib["width"]) and low < float(root.attrib["height"]) for _, _, right, low in boxes)
    assert {f"{queue.name}.dlq" for queue in queues.known()} <= {said for _, _, said in texts}
    assert all(said.isprintable() for _, _, said in texts)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", svg_of())
