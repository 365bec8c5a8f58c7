"""Events: what is written is read back, and what is forged or broken is refused with the reason."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology import events
from leveret.topology.errors import UnreadableMessage
from leveret.topology.events import Kind

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
IDS = st.text("abc-0", min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**53) | st.floats(0, 1e15)


def written(**changes: Any) -> dict[str, Any]:
    """A message of events, with something about it changed."""
    event = {"id": "a", "at": 1.5}
    return {"version": 1, "kind": "progress", "task": "mail.send", "worker": "w:1", "events": [event], **changes}


@given(st.sampled_from(Kind), TEXTS, TEXTS, st.lists(st.tuples(IDS, NUMBERS, st.integers(1, 9)), max_size=4))
def test_what_is_written_is_read(kind: Kind, task: str, worker: str, told: list[tuple[str, float, int]]) -> None:
    """Whatever the names hold."""
    made = [{"id": one, "at": at, "queue": task, "attempt": attempt} for one, at, attempt in told]
    body = events.write(kind, task, worker, [events.write_event(event) for event in made])

    assert events.read(body) == (kind, task, worker, made)


def test_a_result_stays_the_text_it_is() -> None:
    """Nobody has to read it who does not want it."""
    event = {"id": "a", "at": 1, "result": '{"x":1}'}
    (read,) = events.read(events.write(Kind.SUCCEEDED, "t", "w", [events.write_event(event)])).events

    assert read == event


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[1]", "needs version 1"),
        (b"[" * 300 + b"]" * 300, "nested too deeply"),
        (b'{"a": NaN}', "no JSON"),
        (b"x" * (events.LARGEST_BODY_BYTES + 1), "bytes, over"),
        (written(version=2), "needs version 1"),
        (written(kind="gone"), "the kind 'gone' are unknown"),
        (written(kind=7), "needs version 1"),
        (written(task="x" * 256), "no possible length"),
        (written(events={}), "needs version 1"),
        (written(events=[7]), "no id and time"),
        (written(events=[{"id": "a"}]), "no id and time"),
        (written(events=[{"id": "", "at": 1}]), "cannot be a task id"),
        (written(events=[{"id": "a\x1b[31m", "at": 1}]), "cannot be a task id"),
        (written(events=[{"id": 7, "at": 1}]), "an id of the type int"),
        (written(events=[{"id": "a", "at": "now"}]), "an at of the type str"),
        (written(events=[{"id": "a", "at": True}]), "an at of the type bool"),
        (written(events=[{"id": "a", "at": 10**400}]), "an at of the type int"),
        (written(events=[{"id": "a", "at": 1, "done": "3"}]), "a done of the type str"),
        (written(kind="log", events=[{"id": "a", "at": 1, "lines": [7]}]), "lines that are no text"),
    ],
)
def test_what_is_refused(body: Any, why: str) -> None:
    """One clear reason, and nothing of it is believed."""
    with pytest.raises(UnreadableMessage) as refusal:
        events.read(body if isinstance(body, bytes) else json.dumps(body).encode())

    assert why.replace("an id of", "a id of").replace("an at of", "a at of") in str(refusal.value)


def test_unknown_fields_are_left_out() -> None:
    """A newer worker may tell more; of a failure only texts are kept."""
    failure = {"type": "E", "message": 7, "more": "x"}
    event = {"id": "a", "at": 1, "more": [1], "failure": failure}

    (read,) = events.read(json.dumps(written(kind="failed", events=[event])).encode()).events
    assert read == {"id": "a", "at": 1, "failure": {"type": "E"}}


VALUES = st.none() | st.booleans() | NUMBERS | TEXTS | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS)
NAMES = st.sampled_from(sorted({name for own in events._FIELDS.values() for name in own} | {*events._COMMON, "more"}))


@given(st.sampled_from(Kind), st.lists(st.dictionaries(NAMES, VALUES, max_size=6), max_size=3), st.booleans())
def test_the_quick_way_reads_what_the_careful_one_does(kind: Kind, told: list[dict[str, Any]], are_dated: bool) -> None:
    """Whatever fields an event has, of whatever types."""
    made = [event | ({"id": "a", "at": 1.5} if are_dated else {}) for event in told]
    body = json.dumps(written(kind=kind, events=made)).encode()
    try:
        careful = events._read_carefully(body)
    except UnreadableMessage as refused:
        with pytest.raises(UnreadableMessage, match=re.escape(str(refused))):
            events.read(body)
    else:
        assert events.read(body) == careful


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Nothing else is raised."""
    try:
        events.read(body)
    except UnreadableMessage:
        pass
    else:
        pytest.fail("random bytes are no events")


@pytest.mark.parametrize("task", ["mail.send", "ä" * 200, ""])
def test_keys_fit(task: str) -> None:
    """A routing key has 255 bytes."""
    key = events.key(Kind.SUCCEEDED, task)

    assert key.startswith("task.succeeded.")
    assert len(key.encode()) <= 255
