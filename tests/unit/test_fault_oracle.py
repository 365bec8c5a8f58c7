"""The judge of the fault matrix, fed with made-up logs: it must see what is lost, run twice or parked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import records
from tests.faults.__main__ import main
from tests.faults.oracle import MOST_STARTS, Account, Blow
from tests.faults.records import CONFIRMED, FINISHED, RAISED, STARTED, UNKNOWN, Execution, Submission
from tests.faults.results import document, line, merge
from tests.faults.row import Result
from tests.faults.rows import ROWS, find


def confirmed(*ids: str, seconds: float = 0.0) -> list[Submission]:
    return [Submission(task_id, CONFIRMED, seconds, "") for task_id in ids]


def ran(task_id: str, began: float, ended: float | None, attempt: int = 1, pid: int = 1) -> list[Execution]:
    """An attempt in the log; without an end when its process was killed."""
    start = [Execution(task_id, attempt, pid, STARTED, began)]
    return start if ended is None else [*start, Execution(task_id, attempt, pid, FINISHED, ended)]


def raised(task_id: str, began: float, ended: float, pid: int = 1) -> list[Execution]:
    """An attempt in the log that ended with an exception."""
    return [Execution(task_id, 1, pid, STARTED, began), Execution(task_id, 1, pid, RAISED, ended)]


def test_sees_a_lost_task() -> None:
    """Confirmed, never finished, not parked: lost, even if an attempt began."""
    account = Account(confirmed("a", "b", "c"), ran("a", 1, 2) + ran("b", 3, None), {})

    assert account.missing == {"b", "c"}


def test_what_is_unknown_cannot_be_lost() -> None:
    """A submit that raised promised nothing; one that returned later for the same id did."""
    submissions = [Submission("a", UNKNOWN, 0, "ConfirmTimeout"), Submission("b", UNKNOWN, 0, ""), *confirmed("b")]
    account = Account(submissions, [], {})

    assert account.missing == {"b"}
    assert account.unknown == {"a"}


def test_parked_and_excused_are_not_lost() -> None:
    """What lies in the dead-letter queue is safe; what the fault itself removes is not counted."""
    account = Account(confirmed("a", "b"), [], {"a": 1}, {"b"})

    assert account.missing == set()


@pytest.mark.parametrize(
    ("executions", "parked", "duplicates"),
    [
        (ran("a", 1, 2), {}, 0),
        (ran("a", 1, None) + ran("a", 3, 4, attempt=2), {}, 0),
        (ran("a", 1, 2) + ran("a", 3, 4), {}, 1),
        (ran("a", 1, 2) + ran("a", 3, 4) + ran("a", 5, 6), {}, 2),
        (ran("a", 1, 2), {"a": 1}, 1),
        ([], {"a": 2}, 1),
    ],
)
def test_counts_ends_beyond_the_first(executions: list[Execution], parked: dict[str, int], duplicates: int) -> None:
    """A killed attempt is no end; finishing twice is, and so is finishing and being parked."""

    assert Account(confirmed("a"), executions, parked).duplicates == duplicates


def test_sees_a_hot_loop() -> None:
    """A task that begins over and over is one."""
    account = Account(confirmed("a"), [e for n in range(MOST_STARTS + 1) for e in ran("a", n, None)], {})

    assert account.hot == ["a"]


def test_in_flight_is_what_was_begun_or_hardly_settled() -> None:
    """What was done long before the blow, or began after it, cannot have been hit."""
    log = ran("long ago", 1, 2) + ran("just now", 3, 9.9) + ran("running", 9.95, 12) + ran("later", 13, 14)
    killed = ran("killed", 9.5, None, pid=2) + raised("before it", 8, 9, pid=3) + ran("next", 9, 9.1, pid=3)
    account = Account([], log + killed, {})

    assert account.in_flight(10) == {"just now", "running", "killed"}


def test_what_raised_or_finished_runs_no_more() -> None:
    """Of tasks side by side in one process each has an end of its own, and so has a second run of the same one."""
    log = (
        raised("raised", 1, 2) + ran("beside", 1, None) + ran("done", 1, 3) + ran("again", 1, None) + ran("again", 2, 4)
    )
    account = Account([], log, {})

    assert [(one.id, one.seconds) for one in account.running()] == [("beside", 1), ("again", 2)]


def test_extra_runs_are_those_beyond_the_attempts() -> None:
    """Another attempt is none; the same attempt begun again is."""
    log = ran("tried again", 1, None) + ran("tried again", 2, 3, attempt=2) + ran("once", 1, 2)
    log += ran("beside", 1, None) + ran("beside", 2, None) + ran("beside", 3, 4)
    account = Account([], log, {})

    assert account.extra_runs == {"beside": 2}
    assert account.attempts == {"tried again": 2, "once": 1, "beside": 1}


def test_a_blow_explains_one_more_run_of_what_it_hit() -> None:
    """That is what had begun in those processes, or ended just before; for each blow once."""
    log = ran("long ago", 1, 2) + ran("just now", 1, 9.95) + ran("hit", 1, None) + ran("hit", 11, None, pid=2)
    log += ran("elsewhere", 1, None, pid=3) + raised("cleaned up", 1, 10.5)
    account = Account([], log, {})

    assert account.cut_off([Blow(10, {1})]) == {"just now": 1, "hit": 1, "cleaned up": 1}
    assert account.cut_off([Blow(10, {1}, until=10.5)])["hit"] == 1
    assert account.cut_off([Blow(10, {1}, until=0.5)]) == {}
    assert account.cut_off([Blow(10, {1}), Blow(12, {2})])["hit"] == 2
    assert account.extra_runs - account.cut_off([Blow(12, {2})]) == {}
    assert account.extra_runs - account.cut_off([Blow(12, {3})]) == {"hit": 1}


def test_recovery_is_proven_by_what_was_hit_or_came_later() -> None:
    """What was submitted before and untouched proves nothing, and neither does what only ran on."""
    log = [
        *ran("ran on", 9, 11, pid=4),
        *ran("untouched", 11.1, 11.2, pid=3),
        *ran("new", 12, 12.5, pid=3),
        *ran("hit", 9, None),
        *ran("hit", 13, 14, pid=2),
    ]
    account = Account(confirmed("untouched") + confirmed("new", seconds=11), log, {})

    assert account.recovery_seconds(9.5, 10.5) == 2.0
    assert account.recovery_seconds(9.5, 10.5, hit=["hit"]) == 3.5
    assert account.recovery_seconds(9.5, 15) is None


def test_logs_survive_a_round_trip(tmp_path: Path) -> None:
    """What is appended is read again, errors with spaces and line ends included."""
    records.append(tmp_path / "executions", "a", 2, 77, STARTED)
    records.append(tmp_path / "submissions", "a", UNKNOWN, "Nacked: a full\nqueue")

    (execution,) = records.executions(tmp_path / "executions")
    (submission,) = records.submissions(tmp_path / "submissions")
    assert execution[:4] == ("a", 2, 77, STARTED)
    assert (submission.id, submission.what, submission.error) == ("a", UNKNOWN, "Nacked: a full queue")
    assert records.executions(tmp_path / "nothing") == []


def test_a_loss_shows_everywhere(tmp_path: Path) -> None:
    """In the line of the run, in the results and in the document."""
    name = ROWS[0].name
    good = Result(name, "3.10.8", 1, tmp_path, confirmed=5, recovery_seconds=0.5)
    bad = Result(name, "3.10.8", 2, tmp_path, confirmed=5, lost=["m1"])

    assert line(good).startswith("ok")
    assert line(bad).startswith("FAIL")
    assert str(tmp_path) in line(bad)
    known = merge(tmp_path / "results.json", [good, bad])
    assert (known[name]["3.10.8"]["runs"], known[name]["3.10.8"]["lost"]) == (2, 1)
    assert "1 of 2 runs" in document(known)


def test_results_of_other_rows_and_versions_stay(tmp_path: Path) -> None:
    """A run replaces what was known of its row and version, and nothing else."""
    first, second = ROWS[0].name, ROWS[1].name
    path = tmp_path / "results.json"
    merge(path, [Result(first, "3.10.8", 1, tmp_path, lost=["m1"]), Result(second, "4.3.6", 1, tmp_path)])

    known = merge(path, [Result(first, "3.10.8", 2, tmp_path), Result(first, "4.3.6", 2, tmp_path)])

    assert known[first]["3.10.8"]["lost"] == 0
    assert set(known[first]) == {"3.10.8", "4.3.6"}
    assert set(known[second]) == {"4.3.6"}


def test_the_command_lists_rows_and_refuses_wrong_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """--list names every row; a row that is not there is wrong usage."""
    assert main(["--list"]) == 0
    assert {row.name for row in ROWS} <= set(capsys.readouterr().out.split())

    assert main(["--row", "nonsense"]) == 2


def test_rows_are_found_by_number_and_name() -> None:
    """A number may stand for several rows; a wrong one is said."""

    assert {row.number for row in find(["1"])} == {1}
    assert find([ROWS[0].name])[0] is ROWS[0]
    assert len({row.name for row in ROWS}) == len(ROWS)
    with pytest.raises(ValueError, match="'nonsense'"):
        find(["nonsense"])
