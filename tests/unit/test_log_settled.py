"""The line of a success takes a short way, and is the same as by the long one."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from leveret.consumers import log
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.observing.outcomes import log_settled
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("task", ["words.count", "", "a b", 'say "x"', "\x1b[31m", "é", "a=b"])
@pytest.mark.parametrize("task_id", ["01a221da-bb7e-76ed-9620-97ab66dd6846", "", "two words", "\x1b]0;x\x07", "é", '"'])
def test_the_line_of_a_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str, task_id: str, as_json: bool
) -> None:
    """Whatever is in its fields."""
    monkeypatch.setattr(log._journal, "as_json", as_json)
    monkeypatch.setattr(log._journal, "stream", None)
    monkeypatch.setattr(log._journal, "threshold", logging.INFO)
    monkeypatch.setattr(log, "time", SimpleNamespace(time=lambda: 1_700_000_000.5))
    queue = SimpleNamespace(name="words", attempts=5, retry_delays=(1,))
    delivery: Any = SimpleNamespace(id=task_id, queue=queue, attempt=2)

    log_settled([Settled(delivery, Outcome(Ending.RETURNED, task, 0.12345), Verdict.DONE)])
    short = capsys.readouterr().err
    fields = {"task": task, "id": task_id, "queue": "words", "attempt": 2, "of": 5, "seconds": 0.12345}
    log.event(logging.INFO, "done", **fields)

    assert short == capsys.readouterr().err
    assert short.count("\n") == 1
