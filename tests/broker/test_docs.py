"""The documentation: every example runs, every link leads somewhere, and what is listed is what there is."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from click.testing import CliRunner

import leveret
from leveret.command import VERBS
from leveret.command import leveret as tree
from leveret.topology.errors import LeveretError
from leveret.topology.local.finding import Broker
from leveret.topology.message import decode
from leveret.topology.names import Route
from leveret.topology.settings import CHECKOUT, Settings, load
from tests.broker import doc_pages
from tests.broker.doc_pages import Block, blocks, links, pages, prose_of, section, text_of
from tests.broker.doc_shell import DOORS, Shell, check_options, command_of, run_line
from tests.broker.support import Vhost

LANGUAGES = {"python", "sh", "text", "toml", "json", "ini"}
OTHERS = r"(?<![\w.])/work\b|pypi|pythonhosted|conda\.|docker\.io|npmjs"
"""What no page says: places on the machine it was written on, and hosts of package registries."""
SCHEMA = json.loads((CHECKOUT / "topology/message/task-message.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def shell(vhost: Vhost, tmp_path: Path) -> Iterator[Shell]:
    made = Shell(vhost, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_vhost(found_broker: Broker) -> Iterator[Vhost]:
    """For examples that only submit, which nobody takes: they do not see each other."""
    made = Vhost.create(found_broker)
    yield made
    made.delete()


def python_blocks() -> list[Block]:
    return [one for one in blocks("python") if not one.says("run twice")]


@pytest.mark.parametrize("example", python_blocks(), ids=str)
def test_python(example: Block, shared_vhost: Vhost, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """An example is a program, or a module, that runs beside `my_app.py`."""
    shell = Shell(shared_vhost, tmp_path)
    request.addfinalizer(shell.close)
    shell.give(example.says("given"))
    name = example.file or "example.py"
    shell.write(name, example.text)

    shell.run(f"python {name}")


@pytest.mark.parametrize("example", blocks("sh", ""), ids=str)
def test_shell(example: Block, shell: Shell) -> None:
    """Every line of a block is done in its order; where a block is no shell's, every line that is a command."""
    shell.give(example.says("given"))
    for line in example.text.splitlines():
        if line.strip() and (example.language == "sh" or command_of(line)[0]):
            run_line(shell, line)


@pytest.mark.parametrize("example", [one for one in blocks("text") if one.says("output of")], ids=str)
def test_output(example: Block, shell: Shell) -> None:
    """What is shown as the output of a command is that."""

    assert shell.run(example.says("output of")).stdout == example.text


@pytest.mark.parametrize("example", blocks("toml"), ids=str)
def test_settings_file(example: Block, tmp_path: Path) -> None:
    """A settings file is one that is read."""
    file = tmp_path / "leveret.toml"
    file.write_text(example.text, encoding="utf-8")

    assert load({"LEVERET_CONFIG": str(file)}).tasks == tuple(tomllib.loads(example.text)["tasks"])


@pytest.mark.parametrize("example", blocks("json"), ids=str)
def test_message(example: Block) -> None:
    """A message is one by the schema, and for a worker."""
    document = json.loads(example.text)
    body = document.get("payload", example.text)
    jsonschema.validate(json.loads(body), SCHEMA)

    assert decode(body.encode(), None, None, Settings().message_limit_bytes).task == "mail.send"


@pytest.mark.parametrize("example", blocks("ini"), ids=str)
def test_unit(example: Block) -> None:
    """A unit starts a worker that there is, and waits for it longer than it takes."""
    unit = configparser.ConfigParser(comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(example.text)
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    check_options(arguments[0], arguments[1:])

    assert program.endswith("/leveret")
    assert int(unit["Service"]["TimeoutStopSec"]) > Settings().shutdown_timeout_seconds


def test_first_example(shell: Shell) -> None:
    """The example of the README from beginning to end; a second terminal is not needed until it prints."""
    submitted = shell.run("leveret submit mail.send to=a@example.org -a my_app").stdout
    by_itself = shell.run("python my_app.py").stdout
    ran = shell.run("leveret run -a my_app --until-empty --processes 1")

    assert ran.stdout == "sending hello to a@example.org\nsending hi to a@example.org\n"
    assert re.findall(r"done .*id=(\S+)", ran.stderr) == [submitted.strip(), by_itself.strip()]


def test_running_twice(shell: Shell) -> None:
    """A task that is made harmless by its id books once, though it runs twice."""
    (example,) = (one for one in blocks("python") if one.says("run twice"))
    shell.write(example.file, example.text)
    for _ in range(2):
        shell.run("leveret submit payments.book --id one account=hare cents=5 -a bank")
    log = shell.run("leveret run -a bank --until-empty").stderr

    assert len(re.findall("done .*id=one ", log)) == 2
    with sqlite3.connect(shell.folder / "bank.db") as bank:
        assert bank.execute("select * from bookings").fetchall() == [("one", "hare", 5)]


def test_typed_arguments(shell: Shell) -> None:
    """What is submitted by annotations reaches the function as that; a misfit of another client is buried."""
    (example,) = (one for one in blocks("python") if one.says("runs"))
    shell.write(example.file, example.text)
    refused = shell.run(f"python {example.file}").stdout
    items = [{"name": "hare", "price": "cheap"}]
    shell.vhost.publish_task(Route.topic("orders.place"), "orders.place", when="2026-01-02T00:00:00Z", items=items)
    ran = shell.run("leveret run -a orders --until-empty")

    assert "items[0].price" in refused
    assert ran.stdout == "2026 9.90\n"
    assert shell.vhost.take_one("orders.dlq").headers["failure-type"] == "WrongArguments"


def test_log_lines(shell: Shell) -> None:
    """The lines of the log that are shown have the fields of real ones, in their order."""
    shell.run("leveret declare -a my_app")
    for task, to in (("mail.send", "a@example.org"), ("mail.send", "nobody"), ("mail.unknown", "nobody")):
        shell.vhost.publish_task(Route.direct("mail"), task, to=to)
    real: dict[str, list[str]] = {}
    with shell.working("leveret run mail -a my_app") as log:
        while real.keys() < {"done", "retry", "bury"}:
            word, fields = event_of(next(log))
            real[word] = fields
    shown = [event_of(line) for one in blocks("text") for line in one.text.splitlines() if " task=" in line]

    assert [word for word, fields in shown if word in ("done", "retry", "bury")] == ["retry", "done", "retry", "bury"]
    assert [fields == real[word] for word, fields in shown if word in real] == [True] * 4


def event_of(line: str) -> tuple[str, list[str]]:
    """What a line of the log tells of, and the names of its fields."""
    match = re.search(r"(?:info|warning|error) +(?:\[\d+\] )?(\w+)", line)
    return (match[1] if match else ""), re.findall(r" (\w+)=", line)


@pytest.mark.parametrize("page", pages())
def test_links(page: str) -> None:
    """Every link leads to a file of the checkout, and to a heading in it."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (CHECKOUT / page).parent / path if path else CHECKOUT / page
        if not target.exists() or (anchor and anchor not in doc_pages.anchors(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", pages())
def test_what_no_page_says(page: str) -> None:
    """No page names a place on somebody's machine, or a package registry."""

    assert [line for line in text_of(page).splitlines() if re.search(OTHERS, line)] == []


def test_every_block_says_its_language() -> None:
    """So that no example is left out."""
    marks = {page: re.findall(r"^```(\w*)$", text_of(page), re.MULTILINE)[::2] for page in pages()}
    bare = {"SECURITY.md", "benchmarks/README.md"}

    assert {page for page, named in marks.items() if not {*named} <= LANGUAGES and page not in bare} == set()


@pytest.mark.parametrize("page", pages())
def test_commands_in_lines(page: str) -> None:
    """A command that is named within a line has such a verb and such options."""
    for code in doc_pages.code_in_lines(page):
        verb, arguments = command_of(code)
        if verb != "VERB" and arguments and "…" not in code:
            check_options(verb, arguments)


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_the_screen(verb: str) -> None:
    """No line of any help is wider than 80 columns."""
    said = CliRunner().invoke(tree, [verb, "--help"] if verb else ["--help"], standalone_mode=False).output

    assert "Usage:" in said
    assert [line for line in said.splitlines() if len(line) > 80] == []


def test_verbs_are_listed() -> None:
    """The page of the command has each verb, and each module that leads to one."""
    page = text_of("docs/commands.md")
    (verbs,) = (one.text for one in blocks("text") if one.page == "docs/commands.md")
    listed = re.findall(r"^  ([\w-]+) ", verbs, re.MULTILINE)
    doors = dict(re.findall(r"\| `python -m ([\w.]+)` \| `(\w+)` \|", page))

    assert listed == list(VERBS)
    assert doors == DOORS
    assert [module for module in doors if not (CHECKOUT / f"{module.replace('.', '/')}.py").exists()] == []


def test_settings_are_listed() -> None:
    """The table has each setting, with its default where that is a number."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", section("docs/running.md", "Settings"), re.MULTILINE))
    ours = {"tasks", "metrics", "health"}
    known = {f"{'LEVERET_' * (name in ours)}{name.upper()}": value for name, value in vars(Settings()).items()}
    numbers = {name: value for name, value in known.items() if isinstance(value, (int, float))}

    assert rows.keys() == known.keys()
    assert {name: float(rows[name]) for name in numbers} == numbers


def test_errors_are_listed() -> None:
    """The pages on submitting and following explain every error that they raise."""
    exported = {name: getattr(leveret, name) for name in leveret.__all__}
    errors = {name for name, value in exported.items() if isinstance(value, type) and issubclass(value, LeveretError)}
    elsewhere = {"LeveretError", "PublishError", "BrokerError", "TaskModuleError", "OutsideTask", "ResultError"}
    elsewhere |= {"QuestionError"}
    listed = re.findall(r"^\| `(\w+)` \|", section("docs/submitting.md", "When it fails"), re.MULTILINE)
    listed += re.findall(r"^\| `(\w+)` \|", section("docs/following.md", "Wait for a result"), re.MULTILINE)

    assert {*listed} == errors - elsewhere - {"TopologyError", "TopologyMismatch"}


def test_error_tree() -> None:
    """The tree of errors is that of the classes, with all that a program can import."""
    (tree_shown,) = (one.text for one in blocks("text") if one.text.startswith("LeveretError"))
    path: list[str] = []
    bases = {}
    for depth, name in re.findall(r"^(\W*)(\w+)", tree_shown, re.MULTILINE):
        path[len(depth) // 4 :] = [name]
        bases[name] = path[-2] if path[1:] else "Exception"
    exported = {name: value for name in leveret.__all__ if isinstance(value := getattr(leveret, name), type)}

    assert bases == {
        name: value.__mro__[1].__name__ for name, value in exported.items() if issubclass(value, LeveretError)
    }


def test_every_name_is_explained() -> None:
    """What a program can import stands on a page for who writes or runs tasks."""
    pages_for_users = (
        *("tasks", "submitting", "following", "recorder", "cancelling", "operating", "logs", "testing", "schedules"),
        *("batches", "limits", "later", "unique", "deploying", "export", "dead-letters", "doctor", "changing-queues"),
    )
    named = " ".join(text_of(f"docs/{page}.md") for page in pages_for_users)

    assert [name for name in leveret.__all__ if not re.search(rf"\b{name}\b", named)] == []


def test_new_imports() -> None:
    """What the list of changes says to import is there."""
    named = re.findall(r"\| `from leveret import ([\w, ]+)` \|", text_of("CHANGELOG.md"))

    assert {name for names in named for name in names.split(", ")} <= {*leveret.__all__}
    assert len(named) == 5


def test_rooms_are_listed() -> None:
    """The architecture has a line for every folder with code."""
    folders = ("leveret/command", "leveret/testing", "topology", "producers", "consumers", "data")
    rooms = {path.parent for folder in folders for path in (CHECKOUT / folder).rglob("__init__.py")}
    expected = {"leveret/", *(f"{room.relative_to(CHECKOUT).as_posix()}/" for room in rooms)}
    listed = re.findall(r"^\| \[([\w/]+)\]", section("docs/architecture.md", "Rooms"), re.MULTILINE)

    assert {*listed} == {room for room in expected if "nltk_data" not in room}


@pytest.mark.parametrize(("heading", "most"), [("A message's way out", 8), ("A message's way through a worker", 14)])
def test_a_message_passes_few_files(heading: str, most: int) -> None:
    """The files on the way are listed in order, and are there."""
    files = re.findall(r"^\d+\. \[(.+?)\]\(\.\./(.+?)\)", section("docs/architecture.md", heading), re.MULTILINE)

    assert 0 < len(files) <= most
    assert len({*files}) == len(files)
    assert [path for name, path in files if not (CHECKOUT / path).is_file() or Path(path).name != name] == []


def test_picture_is_drawn(tmp_path: Path) -> None:
    """The picture of the architecture is what its source says."""
    picture = tmp_path / "picture.svg"
    subprocess.run([sys.executable, CHECKOUT / "docs/draw.py", CHECKOUT / "docs/architecture.txt", picture], check=True)

    assert picture.read_text(encoding="utf-8") == text_of("docs/architecture.svg")


def test_exported_files_are_of_the_readme(tmp_path: Path) -> None:
    """What is shown as exported is what the command makes of the README's module."""
    subprocess.run([sys.executable, CHECKOUT / "docs/export_examples.py", tmp_path], check=True)
    made = {one.name: one.read_text(encoding="utf-8") for one in tmp_path.iterdir()}

    assert made == {name: text_of(f"docs/exported/{name}") for name in made}
    assert len(made) == 4


def test_pictures_of_terminals_are_of_what_is_there() -> None:
    """Each is shown on a page, well-formed, no wider than 80 columns, and tells nothing of the machine."""
    pictures = sorted((CHECKOUT / "docs/pictures").iterdir())
    shown = {name for page in pages() for name in re.findall(r"\]\((?:docs/)?pictures/(.+?)\)", text_of(page))}

    assert {one.name for one in pictures} == shown
    for picture in pictures:
        text = picture.read_text(encoding="utf-8")
        lines = [
            "".join(line.itertext()) for line in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
        ]
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith("$ leveret ")
        assert "/tmp" not in text
        assert "Traceback (most recent call last)" not in text or "dead show" in lines[0]


def test_glossary_names_the_code() -> None:
    """Each name that a word has in the code stands in the file it leads to."""
    rows = re.findall(r"\| \[(.+?)\]\(\.\./(.+?)\) \|", text_of("docs/glossary.md"))
    names = [(name.strip("`@"), path) for shown, path in rows for name in shown.split(", ")]
    missing = [
        (name, path) for name, path in names if name.rpartition(".")[2] not in text_of(path) and name != Path(path).name
    ]

    assert len(rows) >= 10
    assert missing == []


def test_index_leads_everybody() -> None:
    """Four readers have three pages each, and every page is led to."""
    page = prose_of("docs/index.md")
    rows = [line for line in page.splitlines() if line.startswith("| **")]

    assert [len(re.findall(r"\]\(", row)) for row in rows] == [3, 3, 3, 3]
    assert {one.removeprefix("docs/") for one in pages() if one.startswith("docs/")} - {"index.md"} <= {
        *links("docs/index.md")
    }
