"""How deep and how long: what is over a limit is found in the bytes, what only looks like it is let through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology.errors import MessageError
from leveret.topology.message import Call, TaskMessage, decode
from leveret.topology.message.bounds import LONGEST_NUMBER_DIGITS, MOST_LEVELS, excess

QUOTES = st.text(st.sampled_from('"\\[]{}0123456789 é'), max_size=30)
VALUES = st.recursive(
    QUOTES | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(QUOTES, inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """A body in which something is nested so deeply, the message itself included."""
    inner = levels - 1
    return b'{"task":"a","args":' + opening * inner + b"1" + closing * inner + b"}"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'[{"":', b"}]")])
def test_the_deepest_nesting(opening: bytes, closing: bytes) -> None:
    """So many levels are let through and one more is not, whatever they are made of."""
    step = opening.count(b"[") + opening.count(b"{")
    within = (MOST_LEVELS - 1) // step + 1

    assert excess(nested(within, opening, closing)) == ""
    assert "nested too deeply" in excess(nested(within + 1, opening, closing))


@pytest.mark.parametrize("before", [b"", b"1.", b"-", b"1e", b'"text",'])
@pytest.mark.parametrize("after", [b"", b".5", b",2", b"e5"])
@pytest.mark.parametrize("shift", [0, 1, LONGEST_NUMBER_DIGITS // 2, LONGEST_NUMBER_DIGITS])
def test_the_longest_number(before: bytes, after: bytes, shift: int) -> None:
    """So many digits are let through and one more is not, wherever in the body they stand."""
    start = b'{"args":[' + b" " * shift + before

    assert excess(start + b"9" * LONGEST_NUMBER_DIGITS + after + b"]}") == ""
    assert "a number in the JSON is too long" in excess(start + b"9" * (LONGEST_NUMBER_DIGITS + 1) + after + b"]}")


@pytest.mark.parametrize(
    "text",
    ["[" * 1000, "{" * 1000, "9" * 10_000, '"' * 1000 + "[" * 1000, "\\" * 1001 + "[" * 1000, '\\"' + "9" * 5000],
)
def test_text_is_no_structure(text: str) -> None:
    """Brackets and digits within a string do not count, however it is quoted."""
    body = TaskMessage.create("a", [text, text], {text: text}).body

    assert decode(body, None, None, len(body)) == Call("a", [text, text], {text: text})


def test_many_neighbours_are_not_deep() -> None:
    """Width is not depth."""

    assert excess(json.dumps([[[]], {}] * 10_000).encode()) == ""


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b"]" * 1_000_000,
        b'{"":' * 250_000,
        b'"' * 1_000_000,
        b'"' + b'\\"' * 500_000 + b"[" * 1000,
        b"\\" * 999_999 + b"[" * 1000,
        (b"9" * LONGEST_NUMBER_DIGITS + b",") * 230,
        b"9" * 1_000_000,
        bytes(range(256)) * 4000,
    ],
    ids=range(9),
)
def test_hostile_bytes_end(body: bytes) -> None:
    """What would cost a parser or a pattern matcher dear is judged in a few passes."""

    assert isinstance(excess(body), str)


@given(value=VALUES, depth=st.integers(0, 2 * MOST_LEVELS))
def test_producers_and_workers_have_the_same_limits(value: Any, depth: int) -> None:
    """What a producer may send a worker reads back as the same call; only what is too deep is refused."""
    for _ in range(depth):
        value = [value]
    try:
        body = TaskMessage.create("a", [value]).body
    except MessageError as error:
        assert "nested too deeply" in str(error)  # noqa: PT017 - that it may be raised is the property
        assert depth > MOST_LEVELS - 10
    else:
        assert decode(body, None, None, len(body)) == Call("a", [value], {})
