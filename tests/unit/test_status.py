"""States: they only move forward, whatever order events come in, and forged ones change nothing."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology.events import CLOSING, Kind
from leveret.topology.status import State, Status, advance

TOLD: list[tuple[Kind, dict[str, Any]]] = [
    (Kind.SUBMITTED, {"at": 1.0, "routing_key": "mail.send"}),
    (Kind.STARTED, {"at": 2.0, "attempt": 1, "of": 2}),
    (Kind.RETRYING, {"at": 3.0, "attempt": 1, "of": 2, "failure": {"type": "E"}, "next_at": 8.0}),
    (Kind.SUCCEEDED, {"at": 9.0, "attempt": 2, "of": 2, "result": "5", "seconds": 0.5}),
]


def after(*told: tuple[Kind, dict[str, Any]], status: Status | None = None) -> Status:
    """The status after these events, those left out that are not believed."""
    now = status or Status("id")
    for kind, event in told:
        now = advance(now, kind, "mail.send", "w:1", {"id": "id", **event}) or now
    return now


def test_a_life() -> None:
    """Each step with what it brings; the reason of a failure is over when it succeeds."""
    assert after().state is State.UNKNOWN
    assert after(*TOLD[:1]).state is State.SUBMITTED
    assert after(*TOLD[:2]).state is State.STARTED
    retrying = after(*TOLD[:3])
    assert (retrying.state, retrying.failure, retrying.next_at) == (State.RETRYING, {"type": "E"}, 8.0)
    done = after(*TOLD)
    assert (done.state, done.attempt, done.result, done.failure, done.next_at) == (State.SUCCEEDED, 2, "5", None, None)
    assert done.times == {State.SUBMITTED: 1.0, State.STARTED: 2.0, State.RETRYING: 3.0, State.SUCCEEDED: 9.0}


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_any_order_ends_the_same(order: tuple[int, ...]) -> None:
    """Events come by several channels; the end is what counts, whenever it comes."""
    done = after(*(TOLD[number] for number in order))

    assert (done.state, done.result, done.attempt) == (State.SUCCEEDED, "5", 2)
    assert done.times[State.SUBMITTED] == 1.0


@given(st.lists(st.sampled_from(TOLD), max_size=12))
def test_twice_changes_nothing(told: list[tuple[Kind, dict[str, Any]]]) -> None:
    """Every event may come again."""
    once = after(*told)

    assert after(*told, status=once).state is once.state


def test_what_is_over_is_not_opened_again() -> None:
    """A second end is not believed, nor another task's name; late news of it change nothing."""
    done = after(*TOLD)

    assert advance(done, Kind.FAILED, "mail.send", "w", {"id": "id", "at": 99.0}) is None
    assert advance(done, Kind.CANCELLED, "mail.send", "w", {"id": "id", "at": 99.0}) is None
    assert advance(done, Kind.PROGRESS, "mail.other", "w", {"id": "id", "at": 99.0}) is None
    for kind in Kind:
        if kind not in CLOSING:
            assert after((kind, {"at": 99.0, "attempt": 7}), status=done) == done


def test_what_has_failed_may_be_sent_round_again() -> None:
    """It begins anew at its first attempt; what was told before it failed comes too late."""
    failed = after((Kind.FAILED, {"at": 10.0, "attempt": 2, "of": 2, "lies_in": "mail.dlq"}))
    assert (failed.state, failed.lies_in) == (State.FAILED, "mail.dlq")
    assert after((Kind.RETRYING, {"at": 9.0, "attempt": 1}), status=failed) == failed
    assert after((Kind.SUBMITTED, {"at": 10.5}), status=failed).state is State.FAILED  # its own, by another clock
    assert after((Kind.SUBMITTED, {"at": 15.0}), status=failed).state is State.SUBMITTED  # by its id once more
    again = after((Kind.STARTED, {"at": 20.0, "attempt": 1, "of": 2}), status=failed)
    assert (again.state, again.attempt, again.lies_in) == (State.STARTED, 1, "")
    assert after((Kind.SUCCEEDED, {"at": 30.0, "attempt": 1, "result": "1"}), status=again).state is State.SUCCEEDED


@pytest.mark.parametrize("kind", [kind for kind, _ in TOLD])
def test_an_event_may_come_before_the_confirm(kind: Kind) -> None:
    """Who submits knows the name of the task, and nothing else yet."""
    told = dict(TOLD)[kind]
    assert after((kind, told), status=Status("id", task="mail.send")) == after((kind, told))


def test_progress() -> None:
    """It belongs to the attempt that runs, and says that it has begun."""
    halfway = after((Kind.PROGRESS, {"at": 2.0, "attempt": 2, "done": 5, "total": 10, "note": "x"}))
    assert (halfway.state, halfway.done, halfway.total, halfway.note) == (State.STARTED, 5, 10, "x")
    assert after((Kind.PROGRESS, {"at": 3.0, "attempt": 1, "done": 9}), status=halfway) == halfway
