"""The layers: imports flow one way, and few files know the client libraries."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from topology.settings import CHECKOUT

PACKAGES = ("topology", "producers", "consumers", "data")

FORBIDDEN = {
    "topology": {"producers", "consumers", "data"},
    "producers": {"consumers", "data"},
    "consumers": {"producers", "data"},
    "data": {"topology", "producers", "consumers"},
}

CLIENT_LIBRARIES = {
    "pika": {
        "topology/connection.py",
        "topology/fast_connection.py",
        "topology/frames.py",
        "topology/headers.py",
        "topology/outbox.py",
        "producers/handover.py",
        "producers/redrive.py",
        "consumers/consumer.py",
        "consumers/resend.py",
    },
    "kombu": {"topology/connection.py", "topology/objects.py"},
    "amqp": {"topology/declare.py", "topology/objects.py"},
    "nltk": {"consumers/samples/words.py"},
}


def sources(package: str) -> list[str]:
    """The files of a package, as paths in the checkout."""
    return sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / package).rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """The top-level packages a file imports, wherever in the file."""
    for node in ast.walk(ast.parse((CHECKOUT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if not node.level else source.partition("/")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_flow_one_way(package: str) -> None:
    """Producers and consumers stand on the topology and never meet; the data stands alone."""
    trespassers = [(source, name) for source in sources(package) for name in imported(source)]

    assert [(source, name) for source, name in trespassers if name in FORBIDDEN[package]] == []


@pytest.mark.parametrize("library", CLIENT_LIBRARIES)
def test_few_files_know_a_client_library(library: str) -> None:
    """A client library is imported by exactly the files that are listed here."""
    files = {source for package in PACKAGES for source in sources(package) if library in imported(source)}

    assert files == CLIENT_LIBRARIES[library]


def test_only_the_declared_libraries_are_imported() -> None:
    """Whatever else is imported belongs to Python itself, so that installing brings all."""
    allowed = {*sys.stdlib_module_names, *PACKAGES, *CLIENT_LIBRARIES, "tqdm"}
    names = {name for package in PACKAGES for source in sources(package) for name in imported(source)}

    assert names - allowed == set()


def test_a_walk_finds_the_sources() -> None:
    """The other tests look at something."""

    assert {"topology/message.py", "producers/submit.py", "consumers/samples/words.py", "data/fetch.py"} <= {
        source for package in PACKAGES for source in sources(package)
    }
