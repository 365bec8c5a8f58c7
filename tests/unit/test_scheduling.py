"""Tests that share a slow fixture run in one process: else each process makes it once more."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from tests.broker import test_installed, test_node, test_nodes
from tests.side_by_side import scope_of


@pytest.mark.parametrize(
    ("module", "fixture"), [(test_installed, "environment"), (test_node, "shared"), (test_nodes, "nodes")]
)
def test_who_shares_a_slow_fixture_runs_in_one_process(module: ModuleType, fixture: str) -> None:
    """A new test is easily forgotten there."""
    tests = [name for name, one in vars(module).items() if name.startswith("test_") and _takes(one, fixture)]
    scopes = {scope_of(f"tests/broker/{module.__name__.rpartition('.')[2]}.py::{name}") for name in tests}

    assert len(tests) > 1
    assert len(scopes) == 1


def test_who_has_the_broker_alone_runs_in_one_process() -> None:
    """Else several processes start a node for that."""
    folder = Path(test_node.__file__).parent
    modules = [importlib.import_module(f"tests.broker.{path.stem}") for path in folder.glob("test_*.py")]
    alone = {
        scope_of(f"tests/broker/{module.__name__.rpartition('.')[2]}.py::{name}")
        for module in modules
        for name, one in vars(module).items()
        if any(mark.name == "alone" for mark in getattr(one, "pytestmark", ()))
    }

    assert len(alone) == 1


def _takes(test: object, fixture: str) -> bool:
    return inspect.isfunction(test) and fixture in inspect.signature(test).parameters
