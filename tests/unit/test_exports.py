"""What the packages export: sorted, complete, and not hidden by a module of the same name."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from topology.settings import CHECKOUT

PACKAGES = ["topology", "producers", "consumers", "consumers.samples"]


@pytest.mark.parametrize("package", PACKAGES)
def test_exported_names_are_sorted_and_exist(package: str) -> None:
    """Each package lists what it exports, in order, once, and has all of it."""
    module = importlib.import_module(package)
    exported = module.__all__

    assert exported == sorted(set(exported))
    assert [name for name in exported if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", ["topology", "producers", "consumers"])
def test_everything_public_is_exported(package: str) -> None:
    """What a package's own file imports for its users is listed, and nothing is forgotten."""
    module = importlib.import_module(package)
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", "").startswith(package)}

    assert {name for name in own if not name.startswith("_")} <= set(module.__all__)


def said(code: str) -> str:
    """What a fresh Python prints that runs this code in the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]


def test_submit_is_the_function() -> None:
    """A plain import gives the function that submits."""

    assert said("from producers import submit; print(submit.__module__)") == "producers.publisher"


def test_submit_stays_the_function_after_the_command_ran() -> None:
    """Running the command of the same name in the process does not put its module in the function's place."""
    code = """
import contextlib, runpy, sys
sys.argv = ["submit", "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_module("producers.submit", run_name="__main__", alter_sys=True)
from producers import submit
print(type(submit).__name__, submit.__module__)
"""

    assert said(code) == "function producers.publisher"


def test_what_defines_tasks_needs_no_client_library() -> None:
    """A module that imports the decorator to define a task pays for no connection."""

    assert said("import sys, consumers; print({'pika', 'kombu', 'nltk'} & set(sys.modules))") == "set()"


def test_submit_can_be_called_even_when_its_module_was_imported() -> None:
    """Importing the command's module replaces the function by a module that does the same."""
    said = subprocess.run(
        [sys.executable, "-c", "import producers.submit; from producers import submit; submit(5)"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "AMQP_URL": "amqp://localhost:1/"},
    )

    assert "5 cannot name a task" in said.stderr
