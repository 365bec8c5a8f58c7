"""Names: everything a work queue consists of is derived from its name, and attempts are read back off keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology import names
from leveret.topology.names import Route

WORDS = "words"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route.direct("words"), ("tasks.direct", "words")),
        (Route.topic("words.count"), ("tasks.topic", "words.count")),
        (Route.fanout(), ("tasks.fanout", "")),
        (Route.fanout("words.count"), ("tasks.fanout", "words.count")),
        (Route.again("words", 2), ("tasks.again", "words@2")),
        (Route.dead("words"), ("tasks.dead", "words")),
    ],
)
def test_a_route_names_its_exchange_and_key(route: Route, expected: tuple[str, str]) -> None:
    """Each way of publishing has an exchange of its own and keeps the key it was given."""

    assert tuple(route) == expected


def test_names_are_derived_from_the_queue() -> None:
    """The DLQ, the exchanges of failures and the tiers all begin with the queue's name."""

    assert names.dlq_name(WORDS) == "words.dlq"
    assert names.failed_exchange(WORDS) == "words.failed"
    assert names.retry_queue(WORDS, 2, 30) == "words.retry.2.after.30s"
    assert names.attempt_key(WORDS, 3) == "words@3"


@pytest.mark.parametrize(
    ("delays", "expected"),
    [
        ((), "words.failed.first.never"),
        ((5,), "words.failed.first.after.5s"),
        ((1, 5, 25), "words.failed.first.after.1s-5s-25s"),
        ((0.3, 60, 7200), "words.failed.first.after.300ms-1m-2h"),
    ],
)
def test_the_exchange_of_first_failures_spells_the_plan(delays: tuple[float, ...], expected: str) -> None:
    """Another retry plan is another name, so the broker notices the change."""

    assert names.first_failure_exchange(WORDS, delays) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.001, "1ms"),
        (0.3, "300ms"),
        (1, "1s"),
        (1.5, "1500ms"),
        (59, "59s"),
        (60, "1m"),
        (90, "90s"),
        (3600, "1h"),
        (5400, "90m"),
        (86_400, "24h"),
    ],
)
def test_a_delay_is_spelled_in_its_largest_whole_unit(seconds: float, expected: str) -> None:
    """A delay reads the way people say it."""

    assert names.spell_delay(seconds) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("words", 1),
        ("words.count", 1),
        ("", 1),
        ("words@2", 2),
        ("words@40", 40),
        ("words@999999", 999_999),
        ("words@1000000", 1),
        ("words@0", 1),
        ("words@02", 1),
        ("words@-2", 1),
        ("words@2.0", 1),
        ("words@٣", 1),
        ("words@2\n", 1),
        ("words@", 1),
        ("other@3", 1),
        ("more.words@3", 1),
        ("words@2@3", 1),
    ],
)
def test_the_attempt_is_read_off_the_key(key: str, expected: int) -> None:
    """Only this queue's own attempt keys count; any other key is a first attempt."""

    assert names.attempt_of(WORDS, key) == expected


@given(queue=st.text(min_size=1), attempt=st.integers(1, 999_999))
def test_an_attempt_key_reads_back_as_its_attempt(queue: str, attempt: int) -> None:
    """Writing and reading attempt keys agree whatever the queue is called, line breaks apart."""
    single_line = queue.replace("\n", "")
    expected = attempt if single_line else 1

    assert names.attempt_of(single_line, names.attempt_key(single_line, attempt)) == expected
