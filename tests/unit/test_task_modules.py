"""Loading task modules: whatever one does while it is imported, the answer is one clear line, and its own lines."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret.command import task_modules
from leveret.topology import queues, settings
from leveret.topology.errors import TaskModuleError


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
    """What loading a module that cannot be loaded says, in one line."""
    said, *own_lines = refusal_with_lines(name)
    assert own_lines == []
    return said


def refusal_with_lines(name: str) -> list[str]:
    """The same, with the lines of the module that led there; none of them is ours or of Python's importing."""
    with pytest.raises(TaskModuleError) as caught:
        task_modules.load([name])
    lines = str(caught.value).splitlines()
    assert all(line.startswith("    ") for line in lines[1:])
    assert [line for line in lines[1:] if "importlib" in line or str(settings.CHECKOUT) in line] == []
    return lines


def test_modules_are_found_in_the_current_folder() -> None:
    """A module beside the user is found, and each name is loaded."""
    write("my_mail", "from leveret.topology.queues import WorkQueue\nmail = WorkQueue('mail')\n")
    write("my_fax", "from leveret.topology.queues import WorkQueue\nfax = WorkQueue('fax')\n")
    task_modules.load(["my_mail", "my_fax"])

    assert [queue.name for queue in queues.known()] == ["fax", "mail"]


def test_loading_again_changes_nothing() -> None:
    """A second load neither runs the module again nor lengthens the path."""
    write("my_once", "from leveret.topology.queues import WorkQueue\nmail = WorkQueue('mail')\n")
    task_modules.load(["my_once"])
    path = list(sys.path)
    task_modules.load(["my_once"])

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


def test_a_missing_dependency_is_not_taken_for_the_module(tmp_path: Path) -> None:
    """When the module is there but what it imports is not, the line that imports it is told."""
    write("my_needy", "\nimport my_dependency\n")
    said, *own_lines = refusal_with_lines("my_needy")

    assert "ModuleNotFoundError: No module named 'my_dependency'" in said
    assert own_lines == [f'    File "{tmp_path}/my_needy.py", line 2, in <module>', "      import my_dependency"]


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("\nraise ValueError('no such tariff')", "ValueError: no such tariff; fix the module", 2),
        ("1 / 0", "ZeroDivisionError: division by zero; fix the module", 1),
        ("import sys\nsys.exit('bye')", "SystemExit: bye; ", 2),
        ("import sys\nsys.exit()", "SystemExit: no message; ", 2),
        ("raise ValueError", "ValueError: no message; ", 1),
        ("raise ValueError('first\\nsecond')", "ValueError: first second; ", 1),
        ("class Stop(BaseException): pass\nraise Stop('no')", "Stop: no; fix the module", 2),
        (
            "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
            "Odd: (its message cannot be shown: ValueError); fix the module",
            3,
        ),
    ],
)
def test_a_module_that_raises_is_one_line_with_the_place(text: str, reason: str, line: int, tmp_path: Path) -> None:
    """What the module raised is told in a single line, and below it in which line of its own."""
    write("my_bad", text)
    said, place, code, *more = refusal_with_lines("my_bad")

    assert said.startswith("--tasks my_bad cannot be imported: ")
    assert reason in said
    assert place == f'    File "{tmp_path}/my_bad.py", line {line}, in <module>'
    assert code.strip() == text.splitlines()[line - 1]
    assert {*"".join(more).strip()} <= {"^", "~"}


def test_the_way_from_module_to_module_is_told(tmp_path: Path) -> None:
    """Of several that import each other, each line that led there, outermost first."""
    write("my_outer", "import my_inner\n")
    write("my_inner", "def fail():\n    raise ValueError('no')\n\nfail()\n")
    _, *own_lines = refusal_with_lines("my_outer")

    assert [line.strip() for line in own_lines if "File" in line] == [
        f'File "{tmp_path}/my_outer.py", line 1, in <module>',
        f'File "{tmp_path}/my_inner.py", line 4, in <module>',
        f'File "{tmp_path}/my_inner.py", line 2, in fail',
    ]


def test_a_library_that_fails_deep_inside_does_not_hide_the_modules_own_line(tmp_path: Path) -> None:
    """Whoever wrote the module looks for their line, not for those of what it called."""
    write("my_deep", "import ast\n\nast.literal_eval('[[[[[[[[[[f()]]]]]]]]]]')\n")
    said, *own_lines = refusal_with_lines("my_deep")

    assert "ValueError: malformed node or string" in said
    assert f'    File "{tmp_path}/my_deep.py", line 3, in <module>' in own_lines


def test_a_syntax_error_names_file_and_line() -> None:
    """A module that is no Python is told with its own line, not with one of Python's import system."""
    write("my_typo", "ok = 1\ndef broken(:\n")
    said = refusal("my_typo")

    assert "SyntaxError: invalid syntax (my_typo.py, line 2)" in said
    assert "importlib" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("", "write it as an import statement does"),
        (".relative", "write it as an import statement does"),
        ("my app", "write it as an import statement does"),
        ("my_app.py", "did you mean 'my_app'?"),
        ("./my_app.py", "did you mean 'my_app'?"),
        ("my_package/tasks.py", "did you mean 'my_package.tasks'?"),
        ("my_package/", "did you mean 'my_package'?"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, hint: str) -> None:
    """A path, a relative name or nothing at all is no module; of a file's name the module's is told."""

    assert refusal(name) == f"--tasks takes the name of a module, and {name!r} is none; {hint}"


def test_a_queue_defined_twice_is_one_clear_line(tmp_path: Path) -> None:
    """Contradictory definitions are told with the module and both values."""
    write(
        "my_twice",
        "from leveret.topology.queues import WorkQueue\nWorkQueue('mail')\nWorkQueue('mail', retry_delays=(1,))\n",
    )
    said, *own_lines = refusal_with_lines("my_twice")

    assert said.startswith("--tasks my_twice: queue 'mail' is defined twice, and differently: WorkQueue(name='mail'")
    assert said.endswith("; keep one and import it")
    assert own_lines[:2] == [
        f'    File "{tmp_path}/my_twice.py", line 3, in <module>',
        "      WorkQueue('mail', retry_delays=(1,))",
    ]


def test_ctrl_c_is_not_the_modules_fault() -> None:
    """An interrupted import stops the program."""
    write("my_slow", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        task_modules.load(["my_slow"])


def test_given_modules_win_over_those_that_are_set() -> None:
    """--tasks replaces the setting, and does not add to it."""
    configured = settings.Settings(tasks=("my_set", "my_other"))

    assert task_modules.named([], configured) == ("my_set", "my_other")
    assert task_modules.named(["my_given"], configured) == ("my_given",)
    assert task_modules.named((), settings.Settings()) == ()


def test_a_folder_that_is_gone_is_told() -> None:
    """A shell stays in a folder that was deleted, as by a new deployment."""
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").resolve().rmdir()

    with pytest.raises(TaskModuleError, match=r"^the current folder was deleted; cd into one that is there$"):
        task_modules.load(["json"])
