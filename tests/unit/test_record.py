"""How statuses travel in the answers of a recorder, and what is no status."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret import State, Status
from leveret.command.shown_status import status_lines, status_object, table_lines
from leveret.topology.errors import UnreadableMessage
from leveret.topology.record import read_status, write_status

WHOLE = Status(
    "a", State.RETRYING, "mail.send", "mail", "web-3:812", 2, 4, {"started": 1.0, "retrying": 2}, 0.5,
    {"type": "OSError", "message": "away"}, 3.0, "mail.dlq", "ops", 1, 3.5, "half",
)  # fmt: skip


@pytest.mark.parametrize("status", [WHOLE, Status("a"), Status("b", State.SUCCEEDED, "t")])
def test_a_status_arrives_as_it_was(status: Status) -> None:
    """All but the result, which is asked for by itself; what is not said takes no room."""
    document = json.loads(json.dumps(write_status(status)))

    assert read_status(document) == status
    assert set(write_status(Status("a"))) == {"id", "state"}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "pending"},
        {"state": None},
        {"id": None},
        {"id": 5},
        {"attempt": True},
        {"attempt": "1"},
        {"times": {"started": "now"}},
        {"times": [1]},
        {"failure": {"type": 5}},
        {"worker": {}},
    ],
)
def test_what_is_no_status_is_refused(change: dict[str, Any]) -> None:
    """Whoever has answered."""
    with pytest.raises(UnreadableMessage):
        read_status({**write_status(WHOLE), **change})


@pytest.mark.parametrize("document", [None, [], "a", 5])
def test_what_is_no_object_is_refused(document: object) -> None:
    """An answer may hold anything."""
    with pytest.raises(UnreadableMessage, match="is no"):
        read_status(document)


texts = st.text(max_size=120)
numbers = st.floats(allow_nan=False) | st.integers() | st.just(10**400)
statuses = st.builds(
    Status,
    id=texts,
    state=st.sampled_from(State),
    task=texts,
    queue=texts,
    worker=texts,
    attempt=st.integers(),
    of=st.integers(),
    times=st.dictionaries(st.sampled_from([str(state) for state in State]), numbers),
    seconds=st.none() | numbers,
    failure=st.none() | st.dictionaries(texts, texts),
    next_at=st.none() | numbers,
    lies_in=texts,
    reason=texts,
    done=st.none() | numbers,
    total=st.none() | numbers,
    note=texts,
)


@given(statuses, st.lists(st.dictionaries(texts, texts | st.dictionaries(texts, texts))))
def test_nothing_raw_reaches_a_terminal(status: Status, attempts: list[dict[str, Any]]) -> None:
    """Whatever was told: each line is printable, and of 80 columns but for the id of a list."""
    lines = list(status_lines(status, attempts))

    assert [line for line in lines if not line.isprintable() or len(line) > 80] == []
    assert [line for line in table_lines([status]) if not line.isprintable()] == []
    assert status_object(status, attempts)["state"] == status.state
