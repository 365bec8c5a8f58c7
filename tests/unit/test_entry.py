"""What a process knows of a task: whatever is told of it, and in whatever order, its status says."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.producers.following.entry import Entry
from leveret.producers.following.handle import Submitted
from leveret.topology.events import Event, Kind
from leveret.topology.status import State, Status, advance

TASK, WORKER = "mail.send", "w:1"
TOLD: dict[Kind, dict[str, Any]] = {
    Kind.STARTED: {"at": 2.0, "attempt": 1, "of": 2},
    Kind.LOG: {"at": 2.5, "attempt": 1, "lines": ["x"]},
    Kind.PROGRESS: {"at": 2.6, "attempt": 1, "done": 1},
    Kind.RETRYING: {"at": 3.0, "attempt": 1, "of": 2, "failure": {"type": "E"}},
    Kind.SUCCEEDED: {"at": 9.0, "attempt": 2, "of": 2, "result": "5", "seconds": 0.5},
    Kind.FAILED: {"at": 9.5, "attempt": 2, "of": 2, "lies_in": "mail.dlq"},
}


def event_of(kind: Kind) -> Event:
    return {"id": "a", **TOLD[kind]}


@given(st.lists(st.sampled_from([None, *TOLD]), max_size=8))
def test_a_status_is_what_the_events_make_of_it(order: list[Kind | None]) -> None:
    """None stands for the broker's confirm."""
    entry, expected = Entry("a", TASK), Status("a", task=TASK)
    for kind in order:
        if kind is None:
            entry.tell_submitted(1.0)
            if State.SUBMITTED not in expected.times:
                expected = advance(expected, Kind.SUBMITTED, TASK, "", {"id": "a", "at": 1.0}) or expected
        else:
            entry.tell(kind, TASK, WORKER, event_of(kind))
            expected = advance(expected, kind, TASK, WORKER, event_of(kind)) or expected

        assert entry.status == expected
        assert entry.is_over is expected.state.is_final


@pytest.mark.parametrize("order", list(permutations([Kind.LOG, Kind.SUCCEEDED, Kind.STARTED])))
def test_its_result_is_there_whatever_else_was_told(order: tuple[Kind, ...]) -> None:
    """Before or after its end."""
    entry = Entry("a", TASK)
    for kind in order:
        entry.tell(kind, TASK, WORKER, event_of(kind))

    assert Submitted[Any]("a", TASK, entry=entry).result(0) == 5


@pytest.mark.parametrize("first", [Kind.SUCCEEDED, Kind.FAILED])
def test_a_second_end_is_not_believed(first: Kind) -> None:
    """Nor is one of another task."""
    entry = Entry("a", TASK)
    entry.tell(Kind.SUCCEEDED, "mail.other", WORKER, event_of(Kind.SUCCEEDED))
    assert not entry.is_over
    entry.tell(first, TASK, WORKER, event_of(first))
    entry.tell(Kind.CANCELLED, TASK, WORKER, {"id": "a", "at": 1.0})

    assert entry.status.state == State(first)
    assert [kind for kind, _ in entry.history] == [first]
