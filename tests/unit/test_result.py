"""Results: any value that arguments may have goes to JSON and comes back as the annotation says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from leveret.consumers.tasks.reading import Misfit
from leveret.consumers.tasks.result import Result, UnusableResult

if TYPE_CHECKING:
    from somewhere import Nowhere  # type: ignore[import-not-found]


@dataclass
class Point:
    """Two numbers."""

    x: int
    y: Decimal


def returning(annotation: Any) -> Result:
    """The result of a function with this annotation."""

    def function() -> None: ...

    function.__annotations__["return"] = annotation
    return Result(function)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 10**40),
        (None, None),
        (str, "ä\x1b"),
        (Point, Point(1, Decimal("0.10"))),
        ("list[Point]", [Point(1, Decimal(2))]),
        (dict[date, UUID], {}),
        (datetime | None, datetime(2026, 11, 28, tzinfo=UTC)),
        (bytes, b"\x00\xff"),
        (tuple[int, ...], (1, 2)),
        (set[str], {"a"}),
        (Any, {"a": [1, None, 0.5]}),
        (object, "x"),
    ],
)
def test_it_comes_back(annotation: Any, value: Any) -> None:
    """As what it was."""
    result = returning(annotation)

    assert result.read(result.text(value)) == value


def test_without_an_annotation_it_is_json() -> None:
    """A tuple is an array; so it is where the annotation cannot be read, or names what is not there."""

    def plain():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return ()

    def unknown() -> Nowhere: ...

    def impossible() -> Callable[[], int]: ...  # type: ignore[empty-body]

    for function in (plain, unknown, impossible):
        assert Result(function).read(Result(function).text((1, 2))) == [1, 2]


@pytest.mark.parametrize(
    ("annotation", "value", "why"),
    [
        (Any, float("nan"), "cannot be written as JSON"),
        (Any, object(), "no word for a value of type builtins.object"),
        (Any, {1: 2}, "the key 1 of an object is not text"),
        (Any, "\ud800", "cannot be written as JSON"),
        (int, "3", "not what '-> int' says: expected int, got str"),
        (None, 3, "not what '-> NoneType' says"),
        (Point, {"x": 1}, "says: object missing required field 'y'"),
        (list[int], [1, "2"], r"says: [1]: expected int, got str"),
    ],
)
def test_what_cannot_be_told(annotation: Any, value: Any, why: str) -> None:
    """Each with its reason."""
    with pytest.raises(UnusableResult) as refusal:
        returning(annotation).text(value)

    assert why in str(refusal.value)


def test_depth_and_cycles() -> None:
    """Neither ends the process."""
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (deep, cycle):
        with pytest.raises(UnusableResult):
            returning(Any).text(value)


def test_another_program_may_have_another_annotation() -> None:
    """What does not fit it any more is said, not guessed."""
    with pytest.raises(Misfit, match="expected int, got str"):
        returning(int).read(json.dumps("three"))
