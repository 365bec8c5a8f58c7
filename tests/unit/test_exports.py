"""What is imported from `leveret`: sorted, complete, not hidden by a module of the same name, and loaded when used."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys

import pytest

import leveret
from leveret.topology import errors
from leveret.topology.settings import CHECKOUT

PACKAGES = ["leveret", "leveret.topology.settings", "leveret.topology.message", "leveret.consumers.samples"]
HEAVY = {
    "DeadLetters",
    "LogLine",
    "Publisher",
    "Submitted",
    "apply",
    "as_completed",
    "asyncapi_of",
    "declare",
    "doctor",
    "doctor_async",
    "gather",
    "gather_async",
    "logs_of",
    "logs_of_async",
    "plan",
    "recorded",
    "result_of",
    "result_of_async",
    "run_now",
    "schemas_of",
    "statuses",
    "statuses_async",
}
"""What takes a client of RabbitMQ, or an event loop, to load."""
CLIENTS_AND_THE_LIKE = {"pika", "kombu", "amqp", "nltk", "msgspec", "asyncio", "click", "cronsim", "tqdm"} | {
    "sqlalchemy",
    "psycopg",
}
FOLDERS = ("topology.", "producers.", "consumers.", "data.")
NOT_EXPORTED = {"NodeError", "RecordError", "RecordUnavailable", "UnreadableMessage"}
"""Errors that no program of a user's meets: of `leveret node`, `leveret recorder`, and within a worker."""


def typed() -> dict[str, str]:
    """The names that type checkers see imported, each with the module it comes from."""
    source = (CHECKOUT / "leveret" / "__init__.py").read_text(encoding="utf-8")
    (guarded,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found: dict[str, str] = {}
    for node in guarded.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname is None
            assert alias.name not in found
            found[alias.name] = str(node.module)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_exported_names_are_sorted_and_exist(package: str) -> None:
    """Each package lists what it exports, in order (constants, classes, functions), once, and has all of it."""
    module = importlib.import_module(package)
    exported = module.__all__

    assert exported == sorted(set(exported), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert [name for name in exported if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_everything_public_is_exported(package: str) -> None:
    """What a package's own file imports for its users is listed, and nothing is forgotten."""
    module = importlib.import_module(package)
    source = ast.parse(inspect.getsource(module))
    imported = {
        alias.asname or alias.name for node in source.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    assert imported == set(module.__all__)


def test_type_checkers_see_what_is_exported() -> None:
    """Neither more nor less, and each from the module it is loaded from."""
    homes = {name: f"leveret.{home}" for home, names in leveret._HOMES.items() for name in names}

    assert sorted(typed()) == leveret.__all__
    assert {name: homes.get(name, "leveret.topology.errors") for name in leveret.__all__} == typed()
    assert set(homes) <= set(leveret.__all__)
    assert sum(map(len, leveret._HOMES.values())) == len(homes)


@pytest.mark.parametrize("name", leveret.__all__)
def test_a_name_is_the_one_of_its_home(name: str) -> None:
    """There is one of each, whichever way it is imported."""
    value = getattr(leveret, name)

    assert value is getattr(importlib.import_module(typed()[name]), name)
    assert value.__module__ == typed()[name]
    assert vars(leveret)[name] is value


def test_every_error_is_exported() -> None:
    """Whoever calls something can catch what it raises."""
    defined = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }

    assert defined - set(leveret.__all__) == NOT_EXPORTED


def test_other_names_are_errors() -> None:
    """A misspelled name is told as of any module; what is there is listed."""
    with pytest.raises(AttributeError, match="module 'leveret' has no attribute 'sbumit'"):
        leveret.sbumit  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'sbumit' from 'leveret'"):
        exec("from leveret import sbumit")

    assert set(leveret.__all__) <= set(dir(leveret))


def said(code: str) -> str:
    """What a fresh Python prints last that runs this code in the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]


def test_what_defines_tasks_needs_no_client_library() -> None:
    """A program that imports all but what connects pays for no connection, and a task module for even less."""
    light = ", ".join(sorted(set(leveret.__all__) - HEAVY))
    code = """
import sys
before = set(sys.modules)
{}
print(sorted({} & set(sys.modules) - before))
"""

    assert said(code.format("import leveret", CLIENTS_AND_THE_LIKE)) == "[]"
    assert said(code.format(f"from leveret import {light}", CLIENTS_AND_THE_LIKE)) == "[]"


def test_a_task_module_and_its_messages_need_no_client_library() -> None:
    """Defining a task, checking a call and making its message is what a web application does at import and in tests."""
    code = f"""
import sys
from leveret import WorkQueue, submit_many, task
mail = WorkQueue("mail")
@task("mail.send", queue=mail)
def send(to: str) -> None: ...
message = send.options(id="a", queue="mail").message(to="b")
print(sorted({CLIENTS_AND_THE_LIKE} & set(sys.modules)), message.id)
"""

    assert said(code) == "['msgspec'] a"  # it checks the call


def test_importing_leveret_loads_nothing_of_it() -> None:
    """Each name is loaded when it is used."""
    code = "import sys, leveret; print(sorted(name for name in sys.modules if name.startswith('leveret.')))"

    assert said(code) == "[]"


def test_submit_is_the_function() -> None:
    """A plain import gives the function that submits."""

    assert said("from leveret import submit; print(type(submit).__name__, submit.__module__)") == (
        "function leveret.producers.default"
    )


def test_submit_stays_the_function_after_the_command_ran() -> None:
    """Running the command of the same name in the process does not put its module in the function's place."""
    code = """
import contextlib, runpy, sys
sys.argv = ["submit", "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_module("producers.submit", run_name="__main__", alter_sys=True)
import leveret.command.submit, leveret.producers.submit
from leveret import submit
print(type(submit).__name__, submit.__module__)
"""

    assert said(code) == "function leveret.producers.default"


def test_declare_is_the_function_after_the_command_ran() -> None:
    """The command's module, that of the room and the function are three, and the function is what is exported."""
    code = """
import leveret.command.declare, leveret.topology.declare, leveret.topology.apply.declare
from leveret import declare
print(type(declare).__name__, declare.__module__)
"""

    assert said(code) == "function leveret.topology.apply.declare"


def test_submit_can_be_called_even_when_its_module_was_imported() -> None:
    """What its argument is refused for is told, and not that a module cannot be called."""
    said = subprocess.run(
        [sys.executable, "-c", "import leveret.command.submit; from leveret import submit; submit(5)"],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env={**os.environ, "AMQP_URL": "amqp://localhost:1/"},
    )

    assert "MessageError: 5 is no task; name one" in said.stderr


@pytest.mark.parametrize(
    "door",
    [
        "consumers.run",
        "producers.submit",
        "producers.redrive",
        "topology.declare",
        "topology.users",
        "topology.node",
        "data.fetch",
    ],
)
def test_a_module_run_in_the_checkout_runs_the_command(door: str) -> None:
    """The old names still lead there, and load the one package, so that there is one registry."""
    code = f"""
import contextlib, io, runpy, sys
sys.argv = ["{door}", "--help"]
out = io.StringIO()
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(out):
    runpy.run_module("{door}", run_name="__main__", alter_sys=True)
print(out.getvalue().split()[:3], [name for name in sys.modules if name.startswith({FOLDERS})])
"""

    assert said(code) == f"['Usage:', 'leveret', '{door.partition('.')[2]}'] []"
