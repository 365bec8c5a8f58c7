"""Text of others: whatever it is, it reaches a terminal, a log or a page as one line without commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("é 日本 🐇", "é 日本 🐇"),
        ("two words", "two words"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\N{LINE SEPARATOR}b", r"a\u2028b"),
        ("\x85\N{NO-BREAK SPACE}", r"\x85\xa0"),
        ("\ud800", r"\ud800"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}abc", r"\u202eabc"),
        ("back\\slash", "back\\slash"),
        (5, "5"),
        (None, "None"),
        (b"\xff", r"b'\xff'"),
    ],
)
def test_what_is_not_printable_is_escaped(text: object, expected: str) -> None:
    """Everything else stays as it is."""
    assert printable(text) == expected


@given(text=st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    """And what is printable already is not changed."""
    shown = printable(text)

    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one", "one"),
        ("a\nb", "a\n  b"),
        ("a\n  b\n    c", "a\n  b\n    c"),
        ("a\n  b\nc\n", "a\n    b\n  c\n"),
        ("a\r\nb\x85c", "a\\r\n  b\\x85c"),
    ],
)
def test_lines_are_kept_and_all_but_the_first_are_indented(text: str, expected: str) -> None:
    """What is indented already stays as it is."""
    assert printable_lines(text) == expected


@given(text=st.text())
def test_no_line_but_the_first_begins_at_the_margin(text: str) -> None:
    """So none can be taken for another event or error."""
    first, *rest = printable_lines(text).split("\n")

    assert first.isprintable()
    assert all(line == "" or (line.startswith(" ") and line.isprintable()) for line in rest)
