"""The outcome: a failure is described whatever the exception is like, in a size that fits message headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.consumers.child.outcome import Failure, failure_of, fitting


class Mute(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class Leaving(Exception):
    """An exception whose text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(3)


class OddText(str):
    """A text that cannot be written."""

    def encode(self, *_: object) -> bytes:
        raise LookupError

    def __format__(self, _: str) -> str:
        raise LookupError


class Odd(Exception):
    """An exception with such a text."""

    def __str__(self) -> str:
        return OddText("odd text")


class BrokenNotes(Exception):
    """An exception whose notes cannot be had."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise SystemExit(3)


class Numeric(Exception):
    """An exception whose text is none."""

    def __str__(self) -> str:
        wrong: Any = 5
        return wrong  # type: ignore[no-any-return]


class Nameless(type):
    """The class of exceptions that cannot be named."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__"):
            raise SystemExit(3)
        return super().__getattribute__(name)


class Unnamed(Exception, metaclass=Nameless):
    """An exception whose class tells no name."""


class Untraced(Exception):
    """An exception that does not say where it was raised."""

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise SystemExit(3)


class MuteUnnamed(Exception):
    """An exception whose text raises one that cannot be named."""

    def __str__(self) -> str:
        raise Unnamed


def place_of(line: Any) -> tuple[str, int, int, Any]:
    """The place in a file that a SyntaxError tells of."""
    return "page.html", 3, 1, line


def fail(error: BaseException, depth: int = 0) -> Failure:
    """Raise an exception below so many calls more, and describe it."""

    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        raise error

    try:
        deeper(depth)
    except BaseException as caught:  # noqa: BLE001 - any exception is to be described
        return failure_of(caught, skip_frames=1)
    raise AssertionError


def test_a_failure_has_type_message_traceback_and_fingerprint() -> None:
    """An exception's description says what, why and where; the worker's own frames are left out."""
    failure = fail(ValueError("no such tariff"))

    assert (failure.type, failure.message) == ("ValueError", "no such tariff")
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert failure.traceback.endswith("\nValueError: no such tariff\n")
    assert "in deeper" in failure.traceback
    assert "in fail" not in failure.traceback
    assert failure.fingerprint == "ValueError@test_outcome.py:deeper"


def test_a_nested_class_is_named_in_full() -> None:
    """The type's name says in which class or function it was defined."""

    class Inner(Exception):
        pass

    assert fail(Inner()).type == "test_a_nested_class_is_named_in_full.<locals>.Inner"


def test_equal_failures_share_a_fingerprint() -> None:
    """The message, the depth and the line do not matter; the type does."""

    assert fail(ValueError("order 1")).fingerprint == fail(ValueError("order 2"), depth=3).fingerprint
    assert fail(ValueError("order 1")).fingerprint != fail(KeyError("order 1")).fingerprint


def test_the_fingerprint_names_own_code_not_a_librarys() -> None:
    """A failure inside the standard library is told by the own line that called it."""
    try:
        json.loads("{")
    except ValueError as caught:
        failure = failure_of(caught)

    assert failure.fingerprint == ("JSONDecodeError@test_outcome.py:test_the_fingerprint_names_own_code_not_a_librarys")
    assert "json/decoder.py" in failure.traceback


@pytest.mark.parametrize("skip_frames", [0, 99])
def test_an_exception_without_own_frames_has_no_traceback(skip_frames: int) -> None:
    """What was never raised, or only in the worker's frames, is told without a traceback."""
    failure = failure_of(ValueError("text"), skip_frames)

    assert failure == Failure("ValueError", "text", "", "ValueError@unknown")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mute(), "(its message cannot be shown: ZeroDivisionError)"),
        (Numeric(), "(its message cannot be shown: Type"),
        (Leaving(), "(its message cannot be shown: SystemExit)"),
        (Odd(), "odd text"),
        (BrokenNotes("a text"), "a text"),
        (SyntaxError("bad template", place_of(b"<html>")), "bad template (page.html, line 3)"),
    ],
)
def test_a_broken_exception_is_still_described(error: Exception, reason: str) -> None:
    """An exception whose text cannot be had is told by its type and place."""
    failure = fail(error)

    assert failure.message.startswith(reason)
    assert failure.type == type(error).__name__
    assert "in deeper" in failure.traceback
    assert failure.fingerprint == f"{failure.type}@test_outcome.py:deeper"


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (Unnamed("a text"), "Unnamed", "a text"),
        (Untraced("a text"), "Untraced", "a text"),
        (MuteUnnamed(), "MuteUnnamed", "(its message cannot be shown: Unnamed)"),
    ],
)
def test_an_exception_of_a_broken_class_is_told_by_what_it_is(error: Exception, name: str, message: str) -> None:
    """Its name and its place are Python's own, whatever its class makes of them."""
    failure = fail(error)

    assert (failure.type, failure.message) == (name, message)
    assert "in deeper" in failure.traceback
    assert failure.fingerprint == f"{name}@test_outcome.py:deeper"


def test_an_exception_is_asked_once_for_its_text() -> None:
    """To make it may take long, or do something; the traceback shows the same text, its notes and its cause."""
    asked = []

    class Asked(Exception):
        def __str__(self) -> str:
            asked.append(self)
            return f"asked {len(asked)} times"

    error = Asked()
    error.add_note("a note")
    error.__cause__ = KeyError("inner")
    failure = fail(error)

    assert len(asked) == 1
    assert failure.message == "asked 1 times"
    assert failure.traceback.endswith("<locals>.Asked: asked 1 times\na note\n")
    assert "KeyError: 'inner'" in failure.traceback


def test_a_long_message_keeps_its_beginning() -> None:
    """A message is cut behind 1,024 bytes, and shows that it was."""

    assert fail(ValueError("x" * 1024)).message == "x" * 1024
    assert fail(ValueError("x" * 1025)).message == "x" * 1024 + "…"
    assert fail(ValueError("é" * 600)).message == "é" * 512 + "…"
    assert fail(ValueError("x" + "é" * 600)).message == "x" + "é" * 511 + "…"


def test_a_long_traceback_keeps_its_end() -> None:
    """A traceback is cut before its last 4,096 bytes, where the error is."""
    traceback = fail(ValueError("x" * 5000)).traceback

    assert traceback == "…" + "x" * 4095 + "\n"


def test_a_lone_surrogate_is_escaped() -> None:
    """A message that UTF-8 cannot hold is written so that it can."""
    failure = fail(ValueError("bad \ud800 text"))

    assert failure.message == "bad \\ud800 text"
    assert "bad \\ud800 text" in failure.traceback


@given(text=st.text(max_size=3000))
def test_any_message_fits(text: str) -> None:
    """Whatever an exception says, its description is UTF-8 within the sizes."""
    failure = fail(ValueError(text))

    assert len(failure.message.encode()) <= 1024 + len("…".encode())
    assert len(failure.traceback.encode()) <= 4096 + len("…".encode())
    assert len(failure.fingerprint.encode()) <= 1024
    assert fitting(failure) == failure


def test_a_cause_is_part_of_the_traceback() -> None:
    """What led to the failure is told with it."""
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")

    assert "KeyError: 'inner'" in fail(error).traceback


def test_every_part_of_a_failure_is_cut() -> None:
    """A type with an absurd name does not outgrow a header either."""
    absurd = type("A" * 200_000, (Exception,), {})
    failure = fail(absurd())

    assert max(len(part) for part in failure) <= 4097
