"""Schedules of the settings file, the state that schedulers share, their clock, and what `leveret schedule` refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from leveret import Schedule, SettingsError, TaskMessage, WorkQueue, task
from leveret.producers.scheduling import definition, from_file
from leveret.producers.scheduling.book import Book
from leveret.producers.scheduling.clock import LASTING_SECONDS, Clock
from leveret.producers.scheduling.from_file import read_schedules
from leveret.testing import inline
from leveret.topology import queues, registry, settings
from leveret.topology.control import Command, read_schedule_pause, write_schedule_pause
from leveret.topology.errors import UnreadableMessage
from leveret.topology.names import PRIORITY_HEADER, Route
from leveret.topology.schedules import (
    LARGEST_STATE_BYTES,
    MOST_SCHEDULES,
    Done,
    Pause,
    State,
    fire_id,
    read_state,
    write_state,
)
from tests.unit.commands import leveret

DIGEST = '[schedules.digest]\ntask = "mail.digest"\ncron = "0 7 * * *"\n'
NOW = 1_800_000_000_000


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a folder, tasks and schedules of its own."""
    monkeypatch.setattr(definition, "_known", {})
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEVERET_CONFIG", raising=False)


def write(text: str) -> None:
    Path("leveret.toml").write_text(text, encoding="utf-8")


def define_task() -> Any:
    mail = WorkQueue("mail")

    @task("mail.digest", queue=mail, follow=True)
    def digest(to: str, count: int = 1) -> str:
        return f"{count} to {to}"

    return digest


def test_a_file_has_schedules_beside_settings() -> None:
    """Settings do not mind them, and they are made like those of a module."""
    write(
        'tasks = ["my_app"]\n' + DIGEST + 'timezone = "Europe/Berlin"\nkwargs = { to = "ops" }\nqueue = "mail"\n'
        '[schedules.tick]\ntask = "a.b"\nevery = "1s"\nargs = [1]\nstart = 2027-01-01T00:00:00Z\n'
    )
    found, errors = read_schedules({})

    assert settings.load({}).tasks == ("my_app",)
    assert (errors, sorted(found)) == ([], ["digest", "tick"])
    assert found["digest"].message.route == Route.direct("mail")
    assert b'"kwargs":{"to":"ops"}' in found["digest"].message.body
    assert definition.known() == ()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ('[schedules.x]\ntask = "mail.digst"\nevery = "1h"', "no task 'mail.digst' .*; did you mean 'mail.digest'"),
        ('[schedules.x]\ntask = "mail.digest"\nevery = "1h"\nkwargs = {ot = "a"}', "cannot be called like this.*"),
        ('[schedules.x]\ntask = "mail.digest"\nevery = "1h"\nargs = ["a", "b"]', "cannot be called like this"),
        ('[schedules.x]\ntask = "mail.digest"\nevery = "1h"\nargs = "a"', "args is a list"),
        ('[schedules.x]\nevery = "1h"', "names no task"),
        ('[schedules.x]\ntask = "mail.digest"\nevery = "1h"\nargs = ["a"]\npriority = "hihg"', "priority is 'hihg'"),
        ('[schedules.x]\ntask = "mail.digest"\nevery = "1h"\nargs = ["a"]\npriority = "high"', "has no priorities"),
        ('[schedules.x]\ntask = "mail.digest"\nargs = ["a"]\ncorn = "0 7 * * *"', "there is no 'corn'; did you mean"),
        ('[schedules.x]\ntask = "mail.digest"\nargs = ["a"]\ncron = "0 7 * *"', "its five fields"),
        ('[schedules.x]\ntask = "mail.digest"\nargs = ["a"]\nevery = "1h"\nstart = 2027-01-01T00:00:00', "time zone"),
        ('[schedules.x]\ntask = "mail.digest"\nargs = ["a"]\nevery = "1h"\nexchange = "none"', "no exchange 'none'"),
        ('[schedules."a b"]\ntask = "mail.digest"\nargs = ["a"]\nevery = "1h"', "cannot name a schedule"),
        ('[schedules]\nx = 5', "it is no table"),
        ("schedules = 5", "schedules is no table"),
        ("[schedules.x]\n[schedules.x]", "cannot be read"),
    ],
)  # fmt: skip
def test_what_a_file_has_wrong_is_said(text: str, refusal: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the file, and by the name of the schedule; `check` goes on to the next one."""
    define_task()
    write(text)
    try:
        _, errors = read_schedules({})
    except SettingsError as error:
        errors = [error]
    (said,) = map(str, errors)

    assert said.startswith("settings file leveret.toml")
    with pytest.raises(SettingsError, match=refusal):
        raise errors[0]
    assert leveret("schedule", "check") == 1
    assert "leveret.toml" in "".join(capsys.readouterr())


ODD = ("5", "-1", "1e308", "nan", "true", "[]", "[[]]", "{}", '""', '"\\u0000"', '"x"', "2027-01-01", "2027-01-01T00:00:00", "07:00:00")  # fmt: skip # noqa: E501


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", [*from_file._OF_MESSAGE, *from_file._OF_TIMES])
def test_odd_values_are_refused_or_taken(key: str, value: str) -> None:
    """Nothing of a file makes a scheduler end otherwise than with an error of its own."""
    table = {"task": '"mail.digest"', "args": '["a"]', "cron": '"0 7 * * *"'} | {key: value}
    if key == "every":
        del table["cron"]
    write("[schedules.x]\n" + "".join(f"{name} = {text}\n" for name, text in table.items()))
    found, errors = read_schedules({})

    assert len(found) + len(errors) == 1
    for schedule in found.values():
        schedule.due(NOW, NOW + 10**9)
        next(schedule.upcoming(), None)


def test_a_fire_can_have_a_priority() -> None:
    """Where its queue has them."""
    mail = WorkQueue("mail", priorities=True)
    task("mail.digest", queue=mail)(lambda: None)
    write(DIGEST + 'priority = "high"\n')
    found, errors = read_schedules({})

    assert errors == []
    assert found["digest"].message.headers == {PRIORITY_HEADER: "high"}


def test_one_name_in_file_and_module_is_refused() -> None:
    """Nobody could say which of them is meant."""
    write(DIGEST)
    Schedule("digest", TaskMessage.create("mail.digest"), every="1h")
    with pytest.raises(SettingsError, match="'digest' is defined twice, in the settings file and in a module"):
        Book(print)


def test_a_file_that_changes_is_read_again() -> None:
    """A broken one is said once and changes nothing; one without schedules ends them; the same again is no change."""
    said: list[str] = []
    with pytest.raises(SettingsError, match="there are no schedules"):
        Book(lambda _level, text, **_: said.append(text))
    write(DIGEST)
    book = Book(lambda _level, text, **_: said.append(text))
    assert not book.look()
    write(DIGEST + "# the same\n")
    assert not book.look()
    write(DIGEST + "[schedules.tick")
    assert not book.look()
    assert not book.look()
    assert [one for one in said if "cannot be read" in one and "go on as they were" in one] == said
    write(DIGEST.replace("0 7", "0 8") + '[schedules.tick]\ntask = "a"\nevery = 5\n')
    assert book.look()
    assert sorted(book.schedules) == ["digest", "tick"]
    write("")
    assert book.look()
    assert book.schedules == {}


def test_a_state_is_read_as_it_was_written() -> None:
    """And its ids are the same for everybody."""
    pause = Pause(True, Command(1.5, "ops@desk", "holi\ndays"))
    state = State({"digest": Done("f", NOW, NOW - 1, NOW + 4), "new": Done("g", 5)}, {"digest": pause}, NOW, "web-3:8")

    assert read_state(write_state(state)) == state
    assert fire_id("digest", NOW) == fire_id("digest", NOW) == "9cf1a21c-a356-54ce-9476-c22f79fb79ce"
    assert len({fire_id(name, at) for name in ("a", "b") for at in (NOW, NOW + 1)}) == 4
    command = Command(1.5, "ops@desk", "x")
    assert read_schedule_pause(write_schedule_pause("digest", True, command)) == ("digest", True, command)
    assert read_schedule_pause(write_schedule_pause("digest", False, command)) == ("digest", False, command)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1, "at": 1, "by": "", "schedules": {"a": [1, 2, 3, 4]}, "pauses": {}}',
        b'{"version": 1, "at": 1, "by": "", "schedules": {"a": ["x", 2]}, "pauses": {}}',
        b'{"version": 1, "at": 1, "by": "", "schedules": {}, "pauses": {"a": [true, 1e999, "", ""]}}',
        b'{"version": 1, "at": 1, "by": "", "schedules": {}, "pauses": {"a": [1, 2, "", ""]}}',
        b"[" * 100_000,
        b" " * (LARGEST_STATE_BYTES + 1),
    ],
)
def test_a_broken_state_is_refused(body: bytes) -> None:
    """With the reason, and nothing else is raised."""
    with pytest.raises(UnreadableMessage):
        read_state(body)


def test_states_are_merged_to_what_is_further_on() -> None:
    """In whatever order they come; what was said later of a pause holds."""
    early, late = Command(1.0, "a", ""), Command(2.0, "b", "")
    one = State({"a": Done("f", 5), "b": Done("f", 9)}, {"a": Pause(True, early), "b": Pause(False, late)})
    two = State({"a": Done("f", 7), "c": Done("f", 1)}, {"a": Pause(False, late), "b": Pause(True, early)})
    merged = []
    for states in ((one, two), (two, one)):
        state = State()
        for each in states:
            state.merge(each)
        merged.append((state.done["b"].until, state.done["c"].until, state.paused("a"), state.paused("b")))

    assert merged == [(9, 1, None, None)] * 2


def test_what_was_paused_goes_on_from_when_that_was_said() -> None:
    """What came meanwhile is not made up for."""
    state = State({"a": Done("f", 5_000)})
    state.say("a", Pause(True, Command(6.0, "a", "")))
    assert state.paused("a")
    assert state.reached("a", NOW) == state.done["a"]
    state.say("a", Pause(False, Command(60.0, "a", "")))

    assert state.paused("a") is None
    assert state.reached("a", NOW) == Done("f", 60_000)
    assert state.reached("b", NOW) is None
    assert state.reached("a", 9_000) == Done("f", 9_000)  # whatever the clock of who said it


def test_a_state_stays_small() -> None:
    """What nobody has had for a month is forgotten, and never more kept than there may be schedules."""
    state = State({f"s{number}": Done("f", NOW) for number in range(2 * MOST_SCHEDULES)})
    state.done["old"] = state.done["mine"] = Done("f", NOW - 40 * 86_400_000)
    state.forget(["mine"], NOW)

    assert len(state.done) == MOST_SCHEDULES
    assert "mine" in state.done
    assert "old" not in state.done
    full = State({f"{number:0100}": Done("0123456789ab", NOW, NOW, NOW) for number in range(MOST_SCHEDULES)})
    assert len(write_state(full)) < LARGEST_STATE_BYTES


def test_a_jump_of_the_clock_counts_when_it_lasts() -> None:
    """Until then time goes on as before; a slow drift is followed at once."""
    said: list[str] = []
    now = {"wall": 1000.0, "steady": 5.0}
    clock = Clock(said.append, lambda: now["wall"], lambda: now["steady"])

    def go(seconds: float, jump: float = 0.0) -> float:
        now["steady"] += seconds
        now["wall"] += seconds + jump
        return clock.now() / 1000

    assert go(10.0) == 1010.0
    assert go(10.0, jump=0.3) == 1020.3
    assert go(10.0, jump=-3600) == 1030.3
    assert go(10.0, jump=3600) == 1040.3
    assert go(10.0, jump=3600) == 1050.3
    for _ in range(5):
        assert go(1.0, jump=500) < 1060
    assert go(1.0) < 1060
    assert go(LASTING_SECONDS) == pytest.approx(now["wall"])
    assert len([one for one in said if "has jumped" in one]) == 2
    assert len([one for one in said if "go by it now" in one]) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("pause",), 2, "takes the name of a schedule"),
        (("list", "digest"), 2, "list takes no name"),
        (("check", "--reason", "x"), 2, "--reason goes with pause and resume"),
        (("run", "--json"), 2, "--log-format json"),
        (("frie", "digest"), 2, "'frie' is not one of"),
        (("pause", "digst"), 1, "there is no schedule 'digst'"),
        (("fire", "\x1b[31m"), 1, "there is no schedule '\\x1b[31m'"),
        (("run",), 1, "a scheduler needs 10 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_done(
    arguments: tuple[str, ...],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line, without asking a broker."""
    monkeypatch.setenv("AMQP_URL", "amqp://127.0.0.1:1/?heartbeat=4")
    write(DIGEST)

    assert leveret("schedule", *arguments) == status
    assert said in capsys.readouterr().err


def test_check_says_what_each_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    """One that has ended fails, for it can be taken out."""
    write(DIGEST)
    assert leveret("schedule", "check") == 0
    assert capsys.readouterr().out.startswith("ok    digest: 2")
    write(DIGEST + "end = 2020-01-01T00:00:00Z\n")
    assert leveret("schedule", "check") == 1
    assert "FAIL  digest: it never fires again, for it has ended at 2020-01-01" in capsys.readouterr().out
    write("")
    assert leveret("schedule", "check") == 1
    assert "there are no schedules" in capsys.readouterr().out


def test_a_schedule_is_fired_by_hand_in_a_test() -> None:
    """Where tasks run inline it runs like any submit."""
    digest = define_task()
    with inline() as here:
        schedule = Schedule("digest", digest.message("ops", count=3), cron="0 7 * * *")
        sent = schedule.fire()
        here.run()

        assert sent.result() == "3 to ops"
        assert schedule.fire().id != sent.id


def test_a_module_with_schedules_loads_no_scheduler() -> None:
    """Nor does one without load what knows crontabs: a child process imports it, too."""
    code = (
        "import sys\nfrom leveret import Schedule, TaskMessage\n"
        "Schedule('a', TaskMessage.create('b'), every='1h')\n"
        "assert not {'cronsim', 'pika', 'asyncio'} & {*sys.modules}, {*sys.modules}\n"
    )

    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
