"""The copies a worker publishes itself: what they keep, what they add, and that they always fit."""

from __future__ import annotations

import struct
import uuid
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from pika import data as pika_data

from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.products import dead_copy, stamped_copy
from leveret.topology import queues
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue

FRAME_BYTES = 128 * 1024
FAILURE = Failure("ValueError", "no such tariff", "Traceback …", "ValueError@tariff.py:look_up")
RAISED = Outcome(Ending.RAISED, "words.count", 1.5, FAILURE)
BROKERS_HEADERS = {
    "x-death": [{"queue": "words", "count": 1, "time": datetime(2024, 5, 1, 12, 0, 7)}],
    "x-first-death-queue": "words",
    "x-last-death-reason": "rejected",
    "x-delivery-count": 2,
    "x-acquired-count": 2,
}


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue; tests know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})
    return WorkQueue("words", retry_delays=(1, 5))


def delivered(queue: WorkQueue, key: str = "words.count", **properties: Any) -> Delivery:
    """A delivery as the consumer makes it."""
    settler: Any = None
    exchange = "tasks.again" if "@" in key else "tasks.topic"
    method = pika.spec.Basic.Deliver("consumer", 7, False, exchange, key)
    return Delivery(settler, queue, method, pika.BasicProperties(**properties), b'{"task":"words.count"}')


def frame_bytes(properties: pika.BasicProperties) -> int:
    """The size of the properties on the wire, which has to fit into one frame."""
    return sum(map(len, properties.encode()))


def test_a_dead_message_goes_to_its_dlq_with_the_reason(words: WorkQueue) -> None:
    """The body is as it was, the id too, and the headers say what, why, where and when."""
    copy = dead_copy(delivered(words, "words@3", message_id="id-1"), RAISED, "host:17")
    headers = copy.properties.headers
    moment = headers.pop("failure-time")

    assert tuple(copy.route) == ("tasks.dead", "words")
    assert (copy.body, copy.id) == (b'{"task":"words.count"}', "id-1")
    assert headers == {
        "failure-type": "ValueError",
        "failure-message": "no such tariff",
        "failure-traceback": "Traceback …",
        "failure-fingerprint": "ValueError@tariff.py:look_up",
        "failure-task": "words.count",
        "failure-queue": "words",
        "failure-attempts": 3,
        "failure-worker": "host:17",
        "failure-first-time": headers["failure-first-time"],
    }
    assert datetime.fromisoformat(headers["failure-first-time"]) <= datetime.fromisoformat(moment)
    assert datetime.fromisoformat(moment).tzinfo == UTC


def test_an_ending_without_a_failure_is_its_own_reason(words: WorkQueue) -> None:
    """Where there is no exception the ending's name stands for it."""
    outcome = Outcome(Ending.DELIVERED_TOO_OFTEN, "", 0.0)

    assert dead_copy(delivered(words), outcome, "w").properties.headers["failure-type"] == "DELIVERED_TOO_OFTEN"


def test_the_first_failure_is_the_earliest_death(words: WorkQueue) -> None:
    """When a message failed first is read off the broker's own record."""
    deaths = [{"time": datetime(2024, 5, day, 12, 0, 7)} for day in (2, 1, 3)]
    copy = dead_copy(delivered(words, headers={"x-death": deaths}), RAISED, "w")

    assert copy.properties.headers["failure-first-time"] == "2024-05-01T12:00:07+00:00"


@pytest.mark.parametrize("deaths", [None, "rejected", 5, [], ["x"], [{}], [{"time": "noon"}], [{"time": None}]])
def test_a_record_that_is_none_is_passed_over(deaths: Any, words: WorkQueue) -> None:
    """A forged or broken record of deaths does no harm: the first failure is now."""
    headers = dead_copy(delivered(words, headers={"x-death": deaths}), RAISED, "w").properties.headers

    assert datetime.fromisoformat(headers["failure-first-time"]).tzinfo == UTC


def test_copies_keep_own_headers_and_strip_the_brokers(words: WorkQueue) -> None:
    """What a client set stays; the broker's record would be taken for fact. An older reason gives way."""
    own = {"trace": "abc", "n": 5}
    delivery = delivered(words, headers={**BROKERS_HEADERS, **own, "failure-type": "older"})
    dead = dead_copy(delivery, RAISED, "w").properties.headers
    stamped = stamped_copy(delivered(words, headers={**BROKERS_HEADERS, **own})).properties.headers

    assert {name: value for name, value in dead.items() if not name.startswith("failure-")} == own
    assert dead["failure-type"] == "ValueError"
    assert stamped == own


def test_copies_keep_a_clients_properties(words: WorkQueue) -> None:
    """All properties stay, except what could drop the message or name another connection's user."""
    kept: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "correlation_id": "c",
        "reply_to": "r",
        "priority": 3,
        "timestamp": 1_700_000_000,
        "type": "t",
        "app_id": "a",
    }
    delivery = delivered(words, **kept, expiration="1000", user_id="u", delivery_mode=1, cluster_id="x")
    expected = pika.BasicProperties(**kept, delivery_mode=2)

    for copy in (dead_copy(delivery, RAISED, "w"), stamped_copy(delivery)):
        copy.properties.message_id = copy.properties.headers = None
        assert copy.properties == expected


@pytest.mark.parametrize(
    ("key", "way_back"),
    [
        ("words", Route.direct("words")),
        ("words.count", Route.direct("words")),
        ("", Route.direct("words")),
        ("words@2", Route.again("words", 2)),
    ],
)
def test_a_stamped_copy_comes_back_with_an_id(key: str, way_back: Route, words: WorkQueue) -> None:
    """A message without an id gets one and stays at the attempt it was at."""
    copy = stamped_copy(delivered(words, key))

    assert copy.route == way_back
    assert copy.body == b'{"task":"words.count"}'
    assert str(uuid.UUID(copy.id)) == copy.id
    assert copy.properties.headers is None


def test_a_dead_message_without_an_id_gets_one(words: WorkQueue) -> None:
    """What lies in the DLQ can be named, to be sent round again."""
    copy = dead_copy(delivered(words), RAISED, "w")

    assert str(uuid.UUID(copy.id)) == copy.id


@pytest.mark.parametrize("size", [99_000, 101_000, 1_000_000])
def test_a_dead_copy_always_fits_into_a_frame(size: int, words: WorkQueue) -> None:
    """With the longest reason and any headers the copy fits; headers that leave no room are named instead."""
    longest = Failure("E" * 100, "m" * 1024, "t" * 4096, "f" * 1024)
    delivery = delivered(words, message_id="i" * 255, headers={"large": "x" * size, "small": 1})
    copy = dead_copy(delivery, Outcome(Ending.RAISED, "x" * 255, 1.0, longest), "w")
    headers = copy.properties.headers

    assert frame_bytes(copy.properties) < FRAME_BYTES - 100
    assert ("large" in headers) == (size < 100_000)
    assert ("headers-dropped" in headers) == (size > 100_000)
    assert headers["failure-message"] == "m" * 1024


@pytest.mark.parametrize("broken", [{"priority": 300}, {"content_type": 5}, {"message_id": "\ud800"}])
def test_properties_that_cannot_be_written_again_are_left_out(broken: dict[str, Any], words: WorkQueue) -> None:
    """Such a copy would be refused for ever, and its message never leave the worker."""
    delivery = delivered(words, **{"message_id": "id-1", **broken}, headers={"own": 1})

    for copy in (dead_copy(delivery, RAISED, "w"), stamped_copy(delivery)):
        assert frame_bytes(copy.properties)
        assert copy.properties.headers["own"] == 1
        assert "could not be written again" in copy.properties.headers["properties-dropped"]
        assert copy.properties.delivery_mode == 2


def test_a_reason_that_cannot_be_written_does_not_keep_the_message(words: WorkQueue) -> None:
    """The part of it that cannot be is left out, and the rest is there."""
    failure = FAILURE._replace(message="half a character: \ud800")
    copy = dead_copy(delivered(words, headers={"own": 1}), RAISED._replace(failure=failure), "w")

    assert frame_bytes(copy.properties)
    assert "could not be written again" in copy.properties.headers["properties-dropped"]
    assert "failure-message" not in copy.properties.headers
    assert copy.properties.headers["failure-type"] == "ValueError"
    assert copy.properties.headers["own"] == 1


def test_headers_of_every_kind_survive(words: WorkQueue) -> None:
    """Whatever a client of any language puts into headers, as pika reads it, can be written again."""
    fields = {
        b"text": b"S\0\0\0\2\xc3\xa9",
        b"no text": b"S\0\0\0\1\xff",
        b"bytes": b"x\0\0\0\2\xff\0",
        b"true": b"t\1",
        b"octet": b"b\xff",
        b"short": b"s\xff\xfe",
        b"unsigned": b"i\xff\xff\xff\xff",
        b"long": b"l" + b"\x7f" * 8,
        b"double": b"d\x3f\xf8" + b"\0" * 6,
        b"decimal": b"D\2\0\0\1\0",
        b"time": b"T\0\0\0\0\x60\0\0\0",
        b"none": b"V",
        b"list": b"A\0\0\0\3t\1V",
        b"table": b"F\0\0\0\3\1aV",
        b"name that is no \xff text": b"V",
    }
    pairs = b"".join(bytes([len(name)]) + name + value for name, value in fields.items())
    given, _ = pika_data.decode_table(struct.pack("!I", len(pairs)) + pairs, 0)
    copy = dead_copy(delivered(words, headers=given), RAISED, "w")

    assert len(given) == len(fields)
    assert {name: copy.properties.headers[name] for name in given} == given
    assert frame_bytes(copy.properties) > len(pairs)


@pytest.mark.parametrize(("level", "kept"), [("high", "high"), ("low", "low"), ("urgent", None), (["high"], None)])
def test_a_priority_stays_where_other_headers_leave_no_room(level: Any, kept: str | None, words: WorkQueue) -> None:
    """By it the message goes round again; what is no level of ours leaves with the others."""
    delivery = delivered(words, headers={"priority": level, "large": "x" * 110_000})

    for copy in (dead_copy(delivery, RAISED, "w"), stamped_copy(delivery)):
        assert copy.properties.headers.get("priority") == kept
        assert "headers-dropped" in copy.properties.headers
