"""Loading task modules: whatever one does while it is imported, the answer is one clear line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from topology import modules, queues
from topology.errors import TaskModuleError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tests import from a folder of their own, leave no module behind, and know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


def write(name: str, text: str) -> None:
    """Make a module in the current folder."""
    Path(f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()


def refusal(name: str) -> str:
    """What loading a module that cannot be loaded says."""
    with pytest.raises(TaskModuleError) as caught:
        modules.load([name])
    return str(caught.value)


def test_modules_are_found_in_the_current_folder() -> None:
    """A module beside the user is found, and each name is loaded."""
    write("my_mail", "from topology.queues import WorkQueue\nmail = WorkQueue('mail')\n")
    write("my_fax", "from topology.queues import WorkQueue\nfax = WorkQueue('fax')\n")
    modules.load(["my_mail", "my_fax"])

    assert [queue.name for queue in queues.known()] == ["fax", "mail"]


def test_loading_again_changes_nothing() -> None:
    """A second load neither runs the module again nor lengthens the path."""
    write("my_once", "from topology.queues import WorkQueue\nmail = WorkQueue('mail')\n")
    modules.load(["my_once"])
    path = list(sys.path)
    modules.load(["my_once"])

    assert sys.path == path
    assert len(queues.known()) == 1


def test_a_missing_module_names_where_it_was_looked_for(tmp_path: Path) -> None:
    """A misspelled module is told with the folder."""

    assert refusal("my_ap") == (
        f"--tasks my_ap cannot be imported: there is no module 'my_ap' on the path or in {tmp_path}"
    )


def test_a_missing_parent_is_named() -> None:
    """Of a dotted name, the part that is missing is told."""

    assert "there is no module 'my_package' on the path" in refusal("my_package.tasks")


def test_a_missing_dependency_is_not_taken_for_the_module() -> None:
    """When the module is there but what it imports is not, the line that imports it is told."""
    write("my_needy", "\nimport my_dependency\n")

    assert "ModuleNotFoundError: No module named 'my_dependency'" in (said := refusal("my_needy"))
    assert "my_needy.py:2" in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\nraise ValueError('no such tariff')", "ValueError: no such tariff (@my_bad.py:2); fix the module"),
        ("1 / 0", "ZeroDivisionError: division by zero (@my_bad.py:1); fix the module"),
        ("import sys\nsys.exit('bye')", "SystemExit: bye (@my_bad.py:2)"),
        ("import sys\nsys.exit()", "SystemExit: no message (@my_bad.py:2)"),
        ("raise ValueError", "ValueError: no message (@my_bad.py:1)"),
        ("raise ValueError('first\\nsecond')", "ValueError: first"),
        ("class Stop(BaseException): pass\nraise Stop('no')", "Stop: no (@my_bad.py:2); fix the module"),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
            "Odd: (its message cannot be shown: ValueError) (@my_bad.py:3); fix the module",
        ),
    ],
)
def test_a_module_that_raises_is_one_line_with_the_place(text: str, reason: str, tmp_path: Path) -> None:
    """What the module raised, and in which line, is told in a single line."""
    write("my_bad", text)
    said = refusal("my_bad")

    assert said.startswith("--tasks my_bad cannot be imported: ")
    assert reason.replace("@", f"{tmp_path}/") in said
    assert len(said.splitlines()) == 1


def test_a_syntax_error_names_file_and_line() -> None:
    """A module that is no Python is told with its own line, not with one of Python's import system."""
    write("my_typo", "ok = 1\ndef broken(:\n")
    said = refusal("my_typo")

    assert "SyntaxError: invalid syntax (my_typo.py, line 2)" in said
    assert "importlib" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["", ".relative", "my app", "my_app.py"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """A path, a relative name or nothing at all is no module."""

    assert refusal(name).startswith(f"--tasks {name} cannot be imported: ")


def test_a_queue_defined_twice_is_one_clear_line() -> None:
    """Contradictory definitions are told with the module and both values."""
    write(
        "my_twice",
        "from topology.queues import WorkQueue\nWorkQueue('mail')\nWorkQueue('mail', retry_delays=(1,))\n",
    )
    said = refusal("my_twice")

    assert said.startswith("--tasks my_twice: queue 'mail' is defined twice, and differently: WorkQueue(name='mail'")
    assert said.endswith("; keep one and import it")
    assert len(said.splitlines()) == 1


def test_ctrl_c_is_not_the_modules_fault() -> None:
    """An interrupted import stops the program."""
    write("my_slow", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        modules.load(["my_slow"])
