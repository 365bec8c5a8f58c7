"""A message can name a task, and nothing else: no name is imported, no body is anything but JSON."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from leveret.topology import registry
from leveret.topology.settings import CHECKOUT
from tests.unit.test_execute import Desk, desk, reason
from tests.unit.test_layers import sources

__all__ = ["desk"]  # a fixture

DANGEROUS = {"pickle", "cPickle", "shelve", "yaml", "dill", "cloudpickle", "joblib", "marshal"}
ALLOWED = {
    ("consumers/child/protocol.py", "marshal"),  # from the parent to its own child, over a socket nobody else has
    ("consumers/answering/told.py", "importlib"),  # the version of this package
    ("leveret/command/task_modules.py", "importlib"),  # the modules of --tasks, which an operator names
    ("leveret/__init__.py", "importlib"),  # the homes of the names it exports, which stand in it
    ("leveret/testing/__init__.py", "importlib"),  # the same
    ("leveret/command/__init__.py", "importlib"),  # the verbs, which stand in it
    ("leveret/command/reloading.py", "importlib"),  # where Python keeps what it has compiled
    ("leveret/command/run.py", "importlib"),  # what the sample tasks count with
}


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess:run",
        "antigravity",
        "tests.broker.other_jobs",
        "__import__('os')",
        "../jobs",
        "é\0",
        " ",
    ],
)
def test_a_name_is_looked_up_and_never_imported(name: str, desk: Desk) -> None:
    """A name that no task has is an unknown task, and loads no module."""
    loaded = set(sys.modules)
    outcome = desk.run(name, "echo owned")

    assert reason(outcome).type == "UnknownTask"
    assert set(sys.modules) == loaded
    assert registry.names() == []


def uses(source: str) -> Iterator[str]:
    """What a file uses that could turn data into code: modules imported and builtins called."""
    for node in ast.walk(ast.parse((CHECKOUT / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield f"{node.func.id}()"


def test_no_file_can_turn_data_into_code() -> None:
    """Nobody unpickles, evaluates or imports by name, except where it is said why."""
    forbidden = DANGEROUS | {"importlib", "eval()", "exec()", "compile()", "__import__()"}
    found = {(source, name) for source in sources() for name in uses(source)}

    assert {(source, name) for source, name in found if name in forbidden} == ALLOWED
