"""Topics: the program's own matching agrees with the rules of AMQP's topic exchanges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology.queues import topic_matches

KEYS = st.lists(st.sampled_from(["words", "count", "", "a"]), max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("words", "words", True),
        ("words", "words.count", False),
        ("words.#", "words", True),
        ("words.#", "words.count", True),
        ("words.#", "words.count.fast", True),
        ("words.#", "wordsmith", False),
        ("words.#", "words@2", False),
        ("words.*", "words", False),
        ("words.*", "words.count", True),
        ("words.*", "words.count.fast", False),
        ("words.*", "words.", True),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("*", "", False),
        ("*", "a", True),
        ("*.*", ".", True),
        ("*.*", "a", False),
        ("#.count", "count", True),
        ("#.count", "words.count", True),
        ("#.count", "words.count.fast", False),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.b.b", True),
        ("a.#.b", "a.c", False),
        ("#.*", "", False),
        ("#.a.#", "b.a.c", True),
        ("wor*", "words", False),
        ("Words.#", "words.count", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_topics_match_as_the_broker_matches(pattern: str, key: str, expected: bool) -> None:
    """A star is exactly one word, a hash any number, an empty key has no words, and case counts."""

    assert topic_matches(pattern, key) is expected


@given(key=KEYS)
def test_a_hash_takes_every_key(key: str) -> None:
    """Whatever the key, `#` matches it, and so does the key itself if it is not empty."""

    assert topic_matches("#", key)
    assert topic_matches(key, key) or not key
