"""The pure functions every message passes through, for pytest-benchmark.

Not a part of `make test`, and nothing here fails for being slow. Run it, and compare with a run before a change:

    .venv/bin/pip install pytest-benchmark
    .venv/bin/python -m pytest benchmarks/test_hot_functions.py --benchmark-autosave
    .venv/bin/python -m pytest benchmarks/test_hot_functions.py --benchmark-compare
"""

from __future__ import annotations

from typing import Any

import pytest

from leveret import TaskMessage
from leveret.consumers.child.outcome import Ending
from leveret.consumers.settling.verdict import Verdict, decide
from leveret.topology.message import CONTENT_ENCODING, CONTENT_TYPE, Call, decode
from leveret.topology.names import attempt_of

SMALL: dict[str, Any] = {"book": "dracula.txt", "top": 20}
LARGE: dict[str, Any] = {"rows": [{"id": number, "name": f"row {number}", "tags": ["a", "b"]} for number in range(100)]}
_LIMIT_BYTES = 1024 * 1024

ARGUMENTS = pytest.mark.parametrize("kwargs", [SMALL, LARGE], ids=["small", "large"])


@ARGUMENTS
def test_create(benchmark: Any, kwargs: dict[str, Any]) -> None:
    """Make a message out of a call."""
    message = benchmark(TaskMessage.create, "words.count", (), kwargs)
    assert message.task == "words.count"


@ARGUMENTS
def test_decode(benchmark: Any, kwargs: dict[str, Any]) -> None:
    """Read a call out of a message."""
    body = TaskMessage.create("words.count", kwargs=kwargs).body
    call = benchmark(decode, body, CONTENT_TYPE, CONTENT_ENCODING, _LIMIT_BYTES)
    assert call == Call("words.count", [], kwargs)


def test_decide(benchmark: Any) -> None:
    """Decide what becomes of a message."""
    assert benchmark(decide, Ending.RETURNED, 1, 5) is Verdict.DONE


@pytest.mark.parametrize(("key", "attempt"), [("words.count", 1), ("words@3", 3)])
def test_attempt_of(benchmark: Any, key: str, attempt: int) -> None:
    """Read the attempt off a routing key."""
    assert benchmark(attempt_of, "words", key) == attempt
