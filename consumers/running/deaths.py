"""What a delivery comes to whose child says nothing more: it had succeeded, or it was what the child died of."""

from __future__ import annotations

import signal
import time

from leveret.consumers.child.board import Begun
from leveret.consumers.child.outcome import Ending, Failure, Outcome, overran
from leveret.consumers.settling.delivery import Delivery

TIME_LIMIT = "time limit"
"""Why a child was killed whose task overran its time limit."""


def success_of(delivery: Delivery) -> Outcome:
    """Return the outcome of what a child finished before it began another, and did not report."""
    return Outcome(Ending.RETURNED, delivery.task_name(), 0.0)


def death_of(begun: Begun, reason: str, exit_status: int) -> Outcome:
    """Return the outcome of what a child was running when it died; `reason` is why it was killed, if it was."""
    seconds = time.monotonic() - begun.started
    task = begun.task
    if reason == TIME_LIMIT:
        return overran(task, seconds, "killed")
    if exit_status < 0:
        how = f"was killed by signal {-exit_status} ({_signal_name(-exit_status)})"
    else:
        how = f"ended with exit status {exit_status}"
    text = f"the process running the task {how}" + (f": {reason}" if reason else "")
    return Outcome(Ending.PROCESS_DIED, task, seconds, Failure("ProcessDied", text, "", f"ProcessDied@{task}"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return "a real-time signal"
