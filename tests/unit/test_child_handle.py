"""How the death of a child is told."""

from __future__ import annotations

import math
import signal

import pytest

from consumers.child_handle import _death
from consumers.outcome import Ending
from consumers.slots import Begun


@pytest.mark.parametrize(
    ("exit_status", "told"),
    [
        (7, "ended with exit status 7"),
        (-signal.SIGSEGV, "was killed by signal 11 (SIGSEGV)"),
        (-(signal.SIGRTMIN + 2), "(a real-time signal)"),
    ],
)
def test_every_way_to_die_is_told(exit_status: int, told: str) -> None:
    """Each exit status is put into words, those of signals without a name too."""
    outcome = _death(Begun(1, 0.0, math.inf, "mail.send"), "", exit_status)

    assert outcome.ending is Ending.PROCESS_DIED
    assert outcome.failure is not None
    assert told in outcome.failure.message
