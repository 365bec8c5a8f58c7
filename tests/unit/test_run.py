"""The worker command: what it refuses before it looks for a broker, and what it plans to do."""

from __future__ import annotations

import logging
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from leveret.command import run
from leveret.command.samples import QUEUE_NAMES, TASK_NAMES
from leveret.consumers.child.signals import ENDING, TELLING
from leveret.consumers.running.crew import Recycling
from leveret.consumers.samples.treasure import search
from leveret.consumers.samples.words import count
from leveret.consumers.worker.plan import Plan
from leveret.consumers.worker.start import _allow_open_files
from leveret.producers.examples import samples
from leveret.topology import queues
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings
from tests.unit.commands import leveret

NO_MODULE = "no task module is named: leveret run -a my_app, LEVERET_TASKS=my_app, or tasks = ['my_app'] in"


@pytest.fixture(autouse=True)
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Asking for a broker fails the test; the sample queues alone are known; log and signals are as before then."""

    def asked(_configured: Settings) -> NoReturn:
        raise AssertionError("a broker was asked for")

    monkeypatch.setattr(default_broker, "resolve", asked)
    monkeypatch.setattr(queues, "_known", {queue.name: queue for queue in (samples.treasure, samples.words)})
    monkeypatch.delenv("LEVERET_TASKS", raising=False)
    monkeypatch.chdir(tmp_path)
    root, pika = logging.getLogger(), logging.getLogger("pika")
    before = (root.handlers[:], root.level, pika.level)
    handlers = {number: signal.getsignal(number) for number in (*ENDING, *TELLING)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    pika.setLevel(before[2])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--queue", "words", "--processes", "0"], "'--processes': 0 is not in the range 1<=x<=1024"),
        (["--queue", "words", "--reload", "--until-empty"], "--reload goes on until it is told to stop"),
        (["--queue", "words", "--processes", "1025"], "'--processes': 1025 is not in the range 1<=x<=1024"),
        (["--queue", "words", "--processes", "two"], "'--processes': 'two' is no number of processes"),
        (["--queue", "words", "--processes", "8:1"], "'--processes': 8:1 names more as the fewest than as the most"),
        (["--queue", "words", "--processes", "0:8"], "'--processes': 0 is not in the range 1<=x<=1024"),
        (["--queue", "words", "--processes", "1:2:3"], "'--processes': '1:2:3' is no number of processes"),
        (["--queue", "words", "--processes", "1:\x1b"], "is no number of processes"),
        (["--queue", "words", "--processes", "-1"], "--processes"),
        (["--queue", "words", "--prefetch", "0"], "'--prefetch': 0 is not in the range 1<=x<=65535"),
        (["--queue", "words", "--prefetch", "65536"], "'--prefetch': 65536 is not in the range 1<=x<=65535"),
        (["words", "--concurrency", "0"], "'--concurrency': 0 is not in the range 1<=x<=10000"),
        (["words", "--threads", "0"], "'--threads': 0 is not in the range 1<=x<=10000"),
        (["words", "--tasks-per-child", "0"], "'--tasks-per-child': 0 is not in the range x>=1"),
        (["words", "--memory-per-child", "much"], "'--memory-per-child': 'much' is no size; write it as 300M or 1.5G"),
        (["words", "--memory-per-child", "-1M"], "'-1M' is no size"),
        (["words", "--memory-per-child", "300"], "300 is less than any process holds; write it as 300M"),
        (["--queue", "words", "--log-format", "xml"], "'--log-format': 'xml' is not one of 'text', 'json'"),
        (["--queue", "words", "--log-level", "loud"], "'--log-level': 'loud' is not one of 'debug', 'info', 'warning'"),
        (["words", "--until-emtpy"], "there is no option --until-emtpy; did you mean --until-empty?"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that are none, or out of range, are refused with the range."""
    assert leveret("run", *arguments) == 2
    said = capsys.readouterr().err

    assert said.startswith("leveret run: ")
    assert reason in said
    assert said.endswith("; see leveret run --help\n")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], NO_MODULE),
        (["--queue", "mail"], NO_MODULE),
        (["words", "more"], NO_MODULE),
        (["wrods"], f"there is no sample queue 'wrods', did you mean 'words'? For others {NO_MODULE}"),
        (["words", "--queue", "treasur"], "there is no sample queue 'treasur', did you mean 'treasure'? For others "),
        (
            ["--queue", "wrods", "--tasks", "leveret.consumers.samples"],
            "no loaded module defines a queue 'wrods'; did you mean 'words'?",
        ),
        (["words", "more", "-a", "leveret.consumers.samples"], "no loaded module defines a queue 'more'; there are: "),
        (["--queue", "words", "--tasks", "not_there"], "--tasks not_there cannot be imported: there is no module"),
        (["-a", "json"], "json defines no work queue; make one: mail = WorkQueue('mail')"),
    ],
)
def test_a_name_that_is_none_ends_with_status_1(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown queue or module, or none at all, is one line that begins with the command's name."""
    if "json" in arguments:
        monkeypatch.setattr(queues, "_known", {})
    status = leveret("run", *arguments)
    said = capsys.readouterr().err

    assert status == 1
    assert said.startswith(f"leveret run: {reason}")
    assert len(said.splitlines()) == 1


def test_reloading_without_its_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "leveret.command.reloading", raising=False)
    monkeypatch.setitem(sys.modules, "watchfiles", None)  # Python then says that there is none

    assert leveret("run", "words", "--reload") == 1
    assert capsys.readouterr().err == (
        "leveret run: --reload needs watchfiles, which is not installed: pip install 'leveret[reload]'\n"
    )


@pytest.mark.parametrize(("hard", "allowed"), [(500, []), (5000, [5000]), (resource.RLIM_INFINITY, [-1])])
def test_open_files_are_allowed_or_the_limit_is_named(
    hard: int, allowed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of processes need more of them than many systems allow by default."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: asked.append(limits))
    _allow_open_files(1)
    if not allowed:
        with pytest.raises(SettingsError, match=r"--processes 300 needs (9|1\d)\d\d open files.* may have 500"):
            _allow_open_files(300)
    else:
        _allow_open_files(300)

    assert [limits[1] for limits in asked] == allowed
    assert all(soft > 900 for soft, _ in asked)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What workers would be started with; none is."""
    made: list[Plan] = []

    def work(_configured: Settings, plan: Plan) -> int:
        made.append(plan)
        return 0

    monkeypatch.setattr(default_broker, "resolve", lambda configured: configured)
    monkeypatch.setattr(run, "work", work)
    return made


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["words"], ["words"]),
        (["--queue", "words"], ["words"]),
        (["treasure", "words"], ["treasure", "words"]),
        (["words,treasure"], ["words", "treasure"]),
        (["words", "--queue", "treasure,words", "--queue", "words"], ["words", "treasure"]),
        (["-a", "leveret.consumers.samples"], ["treasure", "words"]),
        (["words", "-a", "leveret.consumers.samples"], ["words"]),
    ],
)
def test_queues_are_arguments_or_options(arguments: list[str], names: list[str], plans: list[Plan]) -> None:
    """Both are the same, each queue counts once, in the order in which it came; without any it is all of them."""
    assert leveret("run", *arguments) == 0
    (plan,) = plans

    assert [queue.name for queue in plan.queues] == names


def test_task_modules_come_from_the_settings(plans: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where -a names none, those of LEVERET_TASKS are loaded; where it names some, they are not."""
    monkeypatch.setenv("LEVERET_TASKS", "leveret.consumers.samples")
    assert leveret("run") == 0
    monkeypatch.setenv("LEVERET_TASKS", "not_there")
    assert leveret("run", "-a", "leveret.consumers.samples") == 0
    assert leveret("run") == 1

    assert [[queue.name for queue in plan.queues] for plan in plans] == [["treasure", "words"]] * 2


@pytest.mark.parametrize("option", ["--until-empty", "--drain"])
def test_until_empty_has_a_former_name(option: str, plans: list[Plan]) -> None:
    """Scripts that say --drain still end; without either a worker stays."""
    assert leveret("run", "words", option) == leveret("run", "words") == 0

    assert [plan.until_empty for plan in plans] == [True, False]


def test_options_are_the_plan(plans: list[Plan]) -> None:
    """Each has its place, and a default."""
    assert leveret("run", "words", "--processes", "3", "--prefetch", "7", "--no-declare") == 0
    several = ("--concurrency", "500", "--threads", "50", "--tasks-per-child", "9", "--memory-per-child", "1.5G")
    assert leveret("run", "words", *several) == 0
    assert leveret("run", "words") == 0
    chosen, side_by_side, default = plans

    assert (side_by_side.concurrency, side_by_side.threads) == (500, 50)
    assert side_by_side.recycling == Recycling(9, 1536 * 1024 * 1024)
    assert (default.concurrency, default.threads, default.recycling) == (100, 1, Recycling())
    assert (chosen.processes, chosen.prefetch, chosen.may_declare, chosen.until_empty) == (3, 7, False, False)
    assert (default.processes, default.prefetch, default.may_declare) == (run._cores(), None, True)


def test_the_former_name_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Help names the option that is there to stay, and ends in examples."""
    assert leveret("run", "--help") == 0
    shown = capsys.readouterr().out

    assert "--until-empty" in shown
    assert "--drain" not in shown
    assert "  leveret run -a my_app\n" in shown


def test_the_samples_are_called_by_their_names() -> None:
    """The command knows the queues and tasks of the samples without loading them."""

    assert (samples.words.name, samples.treasure.name) == QUEUE_NAMES
    assert (count.name, search.name) == TASK_NAMES
