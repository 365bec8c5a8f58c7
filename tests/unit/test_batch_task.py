"""Tasks with a batch: what can be one, what a message brings, and what a batch comes to."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from leveret import (
    Batch,
    BatchFailed,
    OutsideTask,
    Reject,
    RetryLater,
    WorkQueue,
    current_attempt,
    current_attempts,
    task,
)
from leveret.consumers.child.board import Board
from leveret.consumers.child.in_batches import parts_of, serve_batches, what_is_wrong
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Report, pack_orders, unpack_reports
from leveret.consumers.running.lanes import Lane, Lanes
from leveret.consumers.taking.prefetch_levels import gathered_prefetch
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import queues, registry
from leveret.topology.errors import MessageError, TaskModuleError
from leveret.topology.message import TaskMessage

UNUSABLE = Ending.UNUSABLE_RESULT


@dataclass
class Row:
    """What a call brings."""

    number: int
    text: str = ""


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue to define tasks on; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("rows", topics=["rows.#"])


def define(rows: WorkQueue, function: Callable[..., Any], size: int = 10, **how: Any) -> AnyTask:
    made: AnyTask = task(f"rows.{function.__name__}", queue=rows, batch=Batch(size, within_seconds=1), **how)(function)
    return made


def run(*messages: TaskMessage, is_followed: bool = False) -> list[Outcome]:
    """Run these as one batch in a child process, and return how each ended."""
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            serve_batches(theirs, reading, Board(1), 0, 100_000)
        finally:
            os._exit(0)
    theirs.close()
    os.close(reading)
    os.write(writing, b"." * len(messages))
    orders = [
        (n, "rows", n, one.id, None, None, one.body, is_followed, None) for n, one in enumerate(messages, start=1)
    ]
    ours.sendall(pack_orders(orders))  # type: ignore[arg-type]
    ours.shutdown(socket.SHUT_WR)
    received = bytearray()
    while data := ours.recv(65536):
        received += data
    ours.close()
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    reports = [report for report in unpack_reports(received) if isinstance(report, Report)]
    assert [report.is_last for report in reports] == [False] * (len(reports) - 1) + [True]
    return [outcome for report in reports for outcome in report.outcomes]


@pytest.mark.parametrize("size", [0, -1, True, 2.5, "10", 10_001, None])
def test_a_size_has_to_be_possible(size: Any) -> None:
    """From 1 to 10,000."""
    with pytest.raises(TaskModuleError, match=r"a batch of .* calls is not possible; give a number from 1 to 10,000"):
        Batch(size, within_seconds=1)


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("nan"), float("inf"), None])
def test_seconds_have_to_be_possible(seconds: Any) -> None:
    """More than none, and less than for ever."""
    with pytest.raises(TaskModuleError, match="seconds is not possible; give seconds, more than 0"):
        Batch(10, within_seconds=seconds)


def test_what_is_no_batch_task_is_refused(rows: WorkQueue) -> None:
    """When it is defined, or when its annotations are looked at."""

    def two(a: list[Row], b: int) -> None: ...

    def none() -> None: ...

    def many(*calls: Row) -> None: ...

    def one(row: Row) -> None: ...

    for function in (two, none, many):
        with pytest.raises(TaskModuleError, match=r"its function is to have one parameter, which takes the list"):
            define(rows, function)
    with pytest.raises(TaskModuleError, match=r"takes a list of calls, and not .*Row; write list\[.*Row\]"):
        define(rows, one).prepare()
    with pytest.raises(TaskModuleError, match="threads=True is for tasks that run side by side"):
        define(rows, none, threads=True)
    with pytest.raises(TaskModuleError, match="batch is 10, not a Batch"):
        task("rows.x", queue=rows, batch=10)(none)  # type: ignore[call-overload]

    async def later(calls: list[Row]) -> None: ...

    with pytest.raises(TaskModuleError, match="concurrency=3 is for tasks that run side by side"):
        define(rows, later, concurrency=3)


def test_a_message_brings_one_call(rows: WorkQueue) -> None:
    """As one argument, or as named ones that make it together; anything else is refused where it is submitted."""
    seen: list[Any] = []

    def load(calls: list[Row]) -> None:
        seen.extend(calls)

    made = define(rows, load)
    made([Row(1)])

    assert seen == [Row(1)]
    for message in (
        made.message(Row(1, "a")),
        made.message({"number": 1, "text": "a"}),
        made.message(number=1, text="a"),
    ):
        assert message.task == "rows.load"
    for wrong, why in (
        (((), {}), "brings one call"),
        (((Row(1), Row(2)), {}), "brings 2 arguments"),
        (((Row(1),), {"number": 1}), "brings 1 arguments and 1 named ones"),
        ((("x",), {}), "expected object, got str"),
        (((), {"number": "1"}), "like this: number: expected int, got str"),
    ):
        with pytest.raises(MessageError, match=why):
            made.message(*wrong[0], **wrong[1])


def test_one_without_annotations_takes_what_comes(rows: WorkQueue) -> None:
    """As JSON has it."""

    def load(calls: Any) -> Any:
        return [repr(call) for call in calls]

    load.__annotations__.clear()
    made = define(rows, load, follow=True)

    assert [outcome.result for outcome in run(made.message(3), made.message(a=[1]))] == ['"3"', "\"{'a': [1]}\""]


def test_each_call_has_its_own_attempt(rows: WorkQueue) -> None:
    """`current_attempts` has them in their order; there is no single one."""

    def load(calls: list[int]) -> list[list[Any]]:
        with pytest.raises(OutsideTask, match=r"runs 2 call\(s\) as a batch; current_attempts\(\) returns"):
            current_attempt()
        return [list(each) for each in current_attempts()]

    made = define(rows, load, follow=True)
    outcomes = run(made.options(id="a").message(1), made.options(id="b").message(2))

    assert [outcome.result for outcome in outcomes] == ['["a",1,"rows","rows.load"]', '["b",2,"rows","rows.load"]']


@pytest.mark.parametrize(
    ("returned", "results"),
    [
        ([5, 6], ["5", "6"]),
        (None, [None, None]),
        ([1], [None, None]),
        ((1, 2), [None, None]),
        ([1, object()], ["1", UNUSABLE]),
    ],
)
def test_results_are_those_of_a_list_of_as_many(
    rows: WorkQueue, returned: Any, results: list[str | Ending | None]
) -> None:
    """Of anything else nobody can say whose it is; and one that cannot be told fails alone."""

    def load(calls: list[int]) -> Any:
        return returned

    made = define(rows, load)
    outcomes = run(made.message(1), made.message(2), is_followed=True)

    assert [UNUSABLE if outcome.ending is UNUSABLE else outcome.result for outcome in outcomes] == results
    assert {outcome.ending for outcome in outcomes} <= {Ending.RETURNED, UNUSABLE}


def test_a_result_is_read_as_an_item_of_the_list(rows: WorkQueue) -> None:
    """By what the return annotation says."""

    def load(calls: list[int]) -> list[Row]:
        return [Row(call) for call in calls]

    made = define(rows, load)

    assert made.result.read(made.result.text(Row(3))) == Row(3)


def test_a_traceback_begins_in_the_task(rows: WorkQueue) -> None:
    """As that of any task; one of a call begins where its error was raised, if it was."""

    def load(calls: list[int]) -> None:
        if 0 in calls:
            raise ValueError("no")
        try:
            raise KeyError("raised")
        except KeyError as error:
            raise BatchFailed({0: error}) from None

    made = define(rows, load)
    for number in (0, 1):
        (outcome,) = run(made.message(number))
        assert outcome.failure
        assert re.findall(r", in (\w+)", outcome.failure.traceback) == ["load"]
        assert outcome.failure.fingerprint.endswith("test_batch_task.py:load")


def test_some_of_a_batch_may_fail(rows: WorkQueue) -> None:
    """Each with its own error, as if it had raised that alone."""

    def load(calls: list[int]) -> None:
        raise BatchFailed({0: ValueError("no"), 2: Reject("never"), 3: RetryLater(5, "busy")})

    made = define(rows, load)
    first, second, third, last = run(*map(made.message, range(4)))

    assert (first.ending, first.failure and first.failure.message) == (Ending.RAISED, "no")
    assert (second.ending, second.failure) == (Ending.RETURNED, None)
    assert (third.ending, third.failure and third.failure.type) == (Ending.REJECTED, "Reject")
    assert (last.ending, last.failure and last.failure.type) == (Ending.LATER, "RetryLater")


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        ({}, r"BatchFailed\({}\) does not say which calls failed"),
        (None, r"BatchFailed\(None\) does not say which calls failed"),
        ([1], r"BatchFailed\(\[1\]\) does not say which calls failed"),
        ({2: ValueError()}, "names call 2, and the batch has calls 0 to 1"),
        ({-1: ValueError()}, "names call -1, and"),
        ({True: ValueError()}, "names call True, and"),
        ({"a": ValueError()}, "names call 'a', and"),
        ({0: "text"}, "says 'text' of call 0, which is no exception"),
        ({0: ValueError}, "of call 0, which is no exception"),
    ],
)
def test_a_wrong_word_about_a_batch_fails_all_of_it(rows: WorkQueue, failures: Any, said: str) -> None:
    """With that as the reason."""

    def load(calls: list[int]) -> None:
        raise BatchFailed(failures)

    made = define(rows, load)
    outcomes = run(made.message(1), made.message(2))

    assert [outcome.ending for outcome in outcomes] == [Ending.RAISED] * 2
    for outcome in outcomes:
        assert outcome.failure
        with pytest.raises(ValueError, match=said):
            raise ValueError(outcome.failure.message)
    assert what_is_wrong(BatchFailed({0: ValueError(), 1: KeyError()}), 2) is None


def test_large_results_travel_in_parts() -> None:
    """Each report stays within its bounds, and none is left out."""
    large = Outcome(Ending.RETURNED, "t", 0.0, None, "x" * 200_000)
    failed = Outcome(Ending.RAISED, "t", 0.0, Failure("E", "m"))

    assert [len(part) for part in parts_of([large] * 3)] == [1, 1, 1]
    assert [len(part) for part in parts_of([failed] * 20)] == [16, 4]
    assert list(parts_of([])) == [[]]


def test_batches_have_children_of_their_own(rows: WorkQueue) -> None:
    """Whose messages are read, to gather those of one task; who dies alone is run in a last kind."""

    def load(calls: list[int]) -> None: ...

    define(rows, load)
    lanes = Lanes([rows], 2, 100, 1, has_spares=False)

    assert lanes.only == {}
    assert {lane: (crew.size, crew.places) for lane, crew in lanes.crews.items()} == {
        Lane.BATCH: (2, 10),
        Lane.ALONE: (16, 1),
    }
    assert lanes.most_places == 1


def test_as_many_are_held_as_fill_the_batches() -> None:
    """But no more than there is memory for."""
    assert gathered_prefetch(8, 300, 100.0, 2) == 308
    assert gathered_prefetch(0, 300, 1024 * 1024.0, 2) == 32
    assert gathered_prefetch(0, 100_000, 1.0, 2) == 65_535
