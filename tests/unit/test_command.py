"""The command `leveret`: its tree of verbs, what they have in common, and how it answers what it cannot do."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from importlib import metadata
from typing import Any, NoReturn

import click
import pytest

from leveret.command import MODULES, VERBS, ending, verb
from leveret.topology.errors import BrokerUnreachable, LeveretError
from leveret.topology.settings import CHECKOUT
from tests.unit.commands import leveret


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its help says how it is called, ends in examples of itself and its exit statuses, and fits into 80 columns."""
    assert leveret(name, "--help") == leveret(name, "-h") == 0
    shown, said = capsys.readouterr()
    *_, examples, statuses = shown.rstrip().split("\n\n")

    assert said == ""
    assert shown.startswith(f"Usage: leveret {name}")
    assert examples.startswith("Examples:\n")
    assert all("leveret " in line for line in examples.splitlines()[1:])
    assert f"leveret {name}" in examples
    assert statuses.startswith("Exit status: 0 ")
    assert all(len(line) <= 80 for line in shown.partition("Examples:")[0].splitlines())


@pytest.mark.parametrize("name", VERBS)
def test_every_option_that_is_shown_is_explained(name: str) -> None:
    """A verb is named as its module is, and no option is without help."""
    made = importlib.import_module(f"leveret.command.{MODULES.get(name, name)}").verb
    options = [one for one in made.params if isinstance(one, click.Option) and not one.hidden]

    assert made.name == name
    assert [one.name for one in options if not one.help and not isinstance(one.type, click.Choice)] == []


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_verb_all_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands with its line, in the order in which they are told; nothing is wrong about it."""
    assert leveret(*arguments) == 0
    shown, said = capsys.readouterr()
    _, _, listed = shown.partition("Commands:\n")

    assert said == ""
    assert [tuple(re.split(r"  +", line.strip(), maxsplit=1)) for line in listed.splitlines()] == list(VERBS.items())


def test_listing_the_verbs_loads_none() -> None:
    """So that `leveret --help` and completion are quick; a verb loads itself alone."""
    code = """
import sys
from leveret.command import main
main([])
print(sorted(name for name in sys.modules if name.startswith("leveret.command.")), file=sys.stderr)
main(["completion", "bash"])
print({"pika", "kombu", "nltk", "asyncio"} & set(sys.modules), file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True).stderr

    assert said.splitlines() == ["['leveret.command.ending']", "set()"]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of the package, on stdout."""
    assert leveret("--version") == 0
    assert capsys.readouterr() == (f"leveret {metadata.version('leveret')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["smubit"], "leveret: there is no command 'smubit'; did you mean 'submit'?; see leveret --help"),
        (["Run"], "leveret: there is no command 'Run'; did you mean 'run'?; see leveret --help"),
        (["xyz"], f"leveret: there is no command 'xyz'; there are: {', '.join(VERBS)}; see leveret --help"),
        ([""], f"leveret: there is no command ''; there are: {', '.join(VERBS)}; see leveret --help"),
        (["--verison"], "leveret: there is no option --verison; did you mean --version?; see leveret --help"),
        (["-x"], "leveret: there is no option -x; see leveret --help"),
        (
            ["submit", "--qeue", "mail"],
            "leveret submit: there is no option --qeue; did you mean --queue?; see leveret submit --help",
        ),
        (["run", "words", "--zzz"], "leveret run: there is no option --zzz; see leveret run --help"),
        (
            ["node", "strat"],
            "leveret node: invalid value for '{start|stop|status|find}': 'strat' is not one of 'start', 'stop', "
            "'status', 'find'; see leveret node --help",
        ),
        (["redrive"], "leveret redrive: missing argument 'QUEUE'; see leveret redrive --help"),
        (["redrive", "a", "b"], "leveret redrive: got unexpected extra argument (b); see leveret redrive --help"),
        (
            ["submit", "a.b", "--queue"],
            "leveret submit: option '--queue' requires an argument; see leveret submit --help",
        ),
        (
            ["run", "--until-empty=yes"],
            "leveret run: option '--until-empty' does not take a value; see leveret run --help",
        ),
    ],
)
def test_wrong_usage_is_one_line_with_what_was_meant(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown verb or option is told with the nearest there is, and where to read on; the status is 2."""
    assert leveret(*arguments) == ending.EXIT_USAGE == 2
    assert capsys.readouterr() == ("", f"{said}\n")


def test_a_missing_choice_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever the words come from, an error is a line."""
    assert leveret("node") == 2
    said = capsys.readouterr().err

    assert said.startswith("leveret node: missing argument")
    assert len(said.splitlines()) == 1


def make(error: BaseException | None, status: int = 0) -> verb.Verb:
    """A verb that ends like this."""

    @click.command("stub", cls=verb.Verb, help="Do nothing.", examples="leveret stub\n")
    def stub() -> int:
        if error:
            raise error
        return status

    made: verb.Verb = stub
    return made


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a verb into the tree, as `leveret stub`."""

    def put(error: BaseException | None = None, status: int = 0) -> None:
        monkeypatch.setitem(VERBS, "stub", "Do nothing.")
        monkeypatch.setitem(sys.modules, "leveret.command.stub", type(sys)("leveret.command.stub"))
        monkeypatch.setattr(sys.modules["leveret.command.stub"], "verb", make(error, status), raising=False)

    return put


@pytest.mark.parametrize("status", [0, 1, 3, 4])
def test_a_verb_decides_its_status(status: int, stub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What its function returns is how the command ends, and nothing is added to what it says."""
    stub(status=status)

    assert leveret("stub") == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (BrokerUnreachable("no broker answers"), 1, "leveret stub: no broker answers\n"),
        (LeveretError("two\nlines"), 1, "leveret stub: two\n  lines\n"),
        (KeyboardInterrupt(), 130, "leveret stub: interrupted\n"),
        (click.UsageError("No such thing."), 2, "leveret stub: no such thing; see leveret stub --help\n"),
    ],
)
def test_an_error_of_a_verb_begins_with_its_name(
    error: BaseException, status: int, said: str, stub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told once, on stderr."""
    stub(error)

    assert leveret("stub") == status
    assert capsys.readouterr() == ("", said)


def test_a_defect_of_a_verb_keeps_its_traceback(stub: Any) -> None:
    """What is not one of our errors is not hidden."""
    stub(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        leveret("stub")


def test_ctrl_c_while_a_verb_is_loaded_is_told_as_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading its libraries takes a while, in which it may come."""

    def interrupted(_name: str) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)

    assert leveret("submit", "a.b") == ending.EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err.strip() == "leveret: interrupted"


@pytest.mark.parametrize(
    ("given", "expected"),
    [((), ()), (("a",), ("a",)), (("a,b", "c"), ("a", "b", "c")), (("b", "a,b", "a"), ("b", "a")), ((",a,,",), ("a",))],
)
def test_a_list_is_written_with_commas_or_by_repeating(given: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Both are the same; each counts once, where it stood first."""
    context, option = click.Context(make(None)), click.Option(["--one"])

    assert verb.split_commas(context, option, given) == expected


@pytest.mark.parametrize("given", [("",), (",",), ("a", "")])
def test_an_empty_value_is_not_taken_for_none(given: tuple[str, ...]) -> None:
    """A script whose variable is empty did not ask for all queues, all roles or all dead messages."""
    context, option = click.Context(make(None)), click.Option(["--one"])

    with pytest.raises(click.BadParameter):
        verb.split_commas(context, option, given)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to stdout, names the command, and asks it."""
    assert leveret("completion", shell) == 0
    shown, said = capsys.readouterr()

    assert said == ""
    assert "_LEVERET_COMPLETE" in shown
    assert "leveret" in shown


def test_completion_knows_verbs_and_options() -> None:
    """What the script asks is answered from the tree."""

    def completed(words: str, at: int) -> list[str]:
        asked = {"_LEVERET_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        said = subprocess.run(
            [sys.executable, "-m", "leveret"],
            cwd=CHECKOUT,
            env={**os.environ, **asked},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [line.partition(",")[2] for line in said.splitlines()]

    assert completed("leveret ", 1) == list(VERBS)
    assert completed("leveret red", 1) == ["redrive"]
    assert "--until-empty" in completed("leveret run --", 2)
    assert completed("leveret submit --exchange ", 3) == ["direct", "topic", "fanout"]
