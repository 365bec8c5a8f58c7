"""The layers: imports go down the lists that stand here, and few files know the client libraries."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib

import pytest

from leveret.topology.settings import CHECKOUT

LAYERS = {
    "leveret": ["data", "topology", "producers", "consumers", "testing", "command"],
    "leveret.topology": [
        "errors",
        "names",
        "printable",
        "encoding",
        "whole_file",
        "limits",
        "queues",
        "registry",
        "objects",
        "ladder",
        "settings",
        "message",
        "events",
        "status",
        "workers",
        "sizing",
        "control",
        "traces",
        "schedules",
        "record",
        "link",
        "tokens",
        "access",
        "apply",
        "deploy",
        "plan",
        "export",
        "local",
    ],
    "leveret.producers": [
        "later",
        "reading",
        "run_now",
        "calls",
        "following",
        "submissions",
        "traced",
        "batch",
        "sender",
        "not_routed",
        "publisher",
        "default",
        "options",
        "dead",
        "watching",
        "scheduling",
        "doctor",
        "examples",
    ],
    "leveret.consumers": [
        "tasks",
        "describing",
        "output",
        "log_file",
        "log",
        "child",
        "settling",
        "running",
        "observing",
        "taking",
        "limiting",
        "answering",
        "control",
        "measuring",
        "worker",
        "recorder",
        "samples",
    ],
}
"""What each package consists of. A part imports from itself and from those that stand before it."""

DOORS = {
    "consumers/run.py",
    "producers/redrive.py",
    "producers/submit.py",
    "topology/declare.py",
    "topology/node.py",
    "topology/users.py",
}
"""What `python -m` runs in a checkout: nothing but the way to the command."""

CLIENT_LIBRARIES = {
    "pika": {
        "consumers/answering/answering.py",
        "consumers/control/stream.py",
        "consumers/recorder/intake.py",
        "consumers/settling/products.py",
        "producers/batch.py",
        "producers/dead/letters.py",
        "producers/dead/stranded.py",
        "producers/dead/written.py",
        "producers/watching/watch.py",
        "producers/following/commanding.py",
        "producers/scheduling/lease.py",
        "topology/link/asking.py",
        "topology/link/bodies.py",
        "topology/link/confirming.py",
        "topology/link/confirm_link.py",
        "topology/link/connection.py",
        "topology/link/explaining.py",
        "topology/link/fast_connection.py",
        "topology/link/frames.py",
        "topology/link/header_values.py",
        "topology/link/name_lookup.py",
        "topology/link/outbox.py",
        "topology/link/parameters.py",
        "topology/link/question.py",
        "topology/link/telling.py",
        "topology/plan/moving.py",
        "topology/tokens.py",
    },
    "kombu": {"topology/apply/connecting.py", "topology/apply/declare.py"},
    "amqp": {"topology/apply/declare.py", "topology/apply/later.py"},
    "msgspec": {
        "consumers/describing/types.py",
        "consumers/recorder/rows.py",
        "consumers/tasks/arguments.py",
        "consumers/tasks/reading.py",
        "consumers/tasks/result.py",
        "topology/events.py",
        "topology/workers.py",
    },
    "sqlalchemy": {
        "consumers/recorder/address.py",
        "consumers/recorder/keys.py",
        "consumers/recorder/logged.py",
        "consumers/recorder/looking.py",
        "consumers/recorder/rows.py",
        "consumers/recorder/schema.py",
        "consumers/recorder/store.py",
    },
    "opentelemetry": {
        "consumers/child/running.py",
        "consumers/child/traced.py",
        "producers/traced.py",
        "topology/traces.py",
    },
    "cronsim": {"producers/scheduling/explaining.py", "producers/scheduling/times.py"},
    "uvloop": {"consumers/worker/start.py"},
    "watchfiles": {"leveret/command/reloading.py"},
    "prometheus_client": {
        "consumers/measuring/exposition.py",
        "consumers/measuring/numbers.py",
        "consumers/recorder/numbers.py",
    },
    "nltk": {"consumers/samples/counting.py"},
    "pytest": {"leveret/testing/plugin.py"},
}


def sources() -> list[str]:
    """The files of the project, as paths in the checkout."""
    folders = ("topology", "producers", "consumers", "data", "leveret/command", "leveret/testing")
    found = [path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")]
    return sorted(path.relative_to(CHECKOUT).as_posix() for path in (*found, *(CHECKOUT / "leveret").glob("*.py")))


def module_of(source: str) -> str:
    """The name by which a file is imported."""
    name = source.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name if name.startswith("leveret") else f"leveret.{name}"


@functools.cache
def imported(source: str) -> tuple[str, ...]:
    """What a file imports, wherever in the file, as full names."""
    found: list[str] = []
    for node in ast.walk(ast.parse((CHECKOUT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def part(name: str, package: str) -> str:
    """The part of a package that a module belongs to; empty for the package itself and for anything else."""
    return name.removeprefix(f"{package}.").partition(".")[0] if name.startswith(f"{package}.") else ""


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down_the_list(package: str) -> None:
    """Nothing imports what stands behind it, and no part is missing from its list."""
    order = LAYERS[package]
    trespasses = []
    for source in sources():
        importer = part(module_of(source), package)
        if source in DOORS or source == "data/fetch.py" or not importer or importer.startswith("__"):
            continue
        assert importer in order, f"{source} belongs to no layer of {package}"
        for name in imported(source):
            target = part(name, package)
            if target in order and order.index(target) > order.index(importer):
                trespasses.append((source, name))

    assert trespasses == []


def test_nothing_but_the_package_is_imported_by_its_folder_s_name() -> None:
    """`topology` and its like are names of folders in a checkout; installed, there is only `leveret`."""
    folders = {"topology", "producers", "consumers", "data"}

    assert [(source, name) for source in sources() for name in imported(source) if name.split(".")[0] in folders] == []


@pytest.mark.parametrize("source", sorted(DOORS))
def test_a_door_only_leads_to_the_command(source: str) -> None:
    """What is imported by its old name defines nothing, so that there is one of everything."""
    docstring, door = ast.parse((CHECKOUT / source).read_text(encoding="utf-8")).body

    assert isinstance(docstring, ast.Expr)
    assert isinstance(door, ast.If)
    assert ast.unparse(door.test) == "__name__ == '__main__'"


def test_only_two_commands_know_the_local_node() -> None:
    """The room that can install and start a broker is loaded by who asks for one, and can be left out elsewhere."""
    room = "leveret.topology.local"
    importers = {source for source in sources() if any(name.startswith(room) for name in imported(source))}

    assert {source for source in importers if not source.startswith("topology/local/")} == {
        "leveret/command/demo.py",
        "leveret/command/node.py",
    }


@pytest.mark.parametrize("library", CLIENT_LIBRARIES)
def test_few_files_know_a_client_library(library: str) -> None:
    """A client library is imported by exactly the files that are listed here."""
    files = {source for source in sources() if any(name.split(".")[0] == library for name in imported(source))}

    assert files == CLIENT_LIBRARIES[library]


def test_only_the_declared_libraries_are_imported() -> None:
    """Whatever else is imported belongs to Python itself, so that installing brings all."""
    allowed = {*sys.stdlib_module_names, *CLIENT_LIBRARIES, "leveret", "click", "tqdm"}

    assert {name.split(".")[0] for source in sources() for name in imported(source)} - allowed == set()


@pytest.mark.parametrize(("way", "most"), [("A message's way out", 8), ("A message's way through a worker", 14)])
def test_a_message_s_way_is_short(way: str, most: int) -> None:
    """The list of the files that a message goes through names files there are, and few of them."""
    page = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8")
    steps = re.search(rf"## {way}\n.*?\n(1\. .*?)\n\n", page, re.DOTALL)
    assert steps
    files = re.findall(r"\]\(\.\./(.+?)\)", steps[1])

    assert set(files) <= set(sources())
    assert 0 < len(files) <= most


def test_a_walk_finds_the_sources() -> None:
    """The other tests look at something."""

    assert {"topology/message/envelope.py", "producers/calls.py", "data/fetch.py", "leveret/command/run.py"} <= {
        *sources()
    }


def test_every_room_is_installed() -> None:
    """A folder with code that the list of packages leaves out would be missing in a wheel."""
    packages = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]

    assert {module_of(one) for one in sources() if one.endswith("__init__.py")} | {"leveret"} == {*packages}
