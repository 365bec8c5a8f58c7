"""The errors: the tree drawn on top of the file is the real one, and each says what it is about."""

from __future__ import annotations

import inspect
import re

import pytest

from leveret.topology import errors
from leveret.topology.errors import LeveretError, MessageTooLarge, NotRouted, PartlySubmitted, PublishError


def drawn() -> dict[str, str]:
    """Each error of the drawing with the one it hangs from."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"(?P<branches>(?:[│ ] {3})*(?:[├└]── )?)(?P<name>[A-Z]\w+)(?: {2,}|$)", line):
            path = [*path[: len(match["branches"]) // 4], match["name"]]
            parents[path[-1]] = path[-2] if len(path) > 1 else "Exception"
    return parents


def defined() -> dict[str, str]:
    """Each error class of the module with its base."""
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: one.__bases__[0].__name__ for name, one in classes if one.__module__ == errors.__name__}


def test_the_drawing_is_the_truth() -> None:
    """Every class is drawn, below its own base, and nothing is drawn that does not exist."""

    assert drawn() == defined()


def test_one_except_clause_catches_all() -> None:
    """Every error has the one base, and none has two."""
    classes = [getattr(errors, name) for name in defined()]

    assert all(issubclass(one, LeveretError) and len(one.__bases__) == 1 for one in classes)


@pytest.mark.parametrize("name", sorted(drawn()))
def test_every_error_says_what_it_means(name: str) -> None:
    """An error's docstring is its own and a sentence."""
    said = getattr(errors, name).__dict__["__doc__"]

    assert said.strip().endswith(".")


def test_a_publish_error_knows_its_message() -> None:
    """The text is what is shown, the id is for the program."""
    error = NotRouted("no queue is bound", "id-1")

    assert (str(error), error.task_id, PublishError("no broker").task_id) == ("no queue is bound", "id-1", "")


def test_partly_submitted_tells_how_many_and_shows_the_first() -> None:
    """Of many, the count, the first position and its reason are in the text, and everything is kept."""
    failures = [(1, NotRouted("no queue")), (2, MessageTooLarge("too large"))]
    error = PartlySubmitted(["a", "b", "c"], failures)

    assert str(error) == "2 of 3 messages were not submitted; the first, number 1: no queue"
    assert (error.task_ids, error.failures) == (("a", "b", "c"), tuple(failures))
    assert error.task_id == ""
