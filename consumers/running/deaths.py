"""What a delivery comes to whose child says nothing more: it had succeeded, or it was what the child died of."""

from __future__ import annotations

import signal
import time

from leveret.consumers.child.board import Begun
from leveret.consumers.child.outcome import Ending, Failure, Outcome, overran
from leveret.consumers.settling.delivery import Delivery, cancel_of

TIME_LIMIT = "time limit"
"""Why a child was killed whose task overran its time limit."""
CANCELLED_TASK = "its task was cancelled and went on"
"""Why a child was killed whose task did not end when it was told to."""
GRACE_SECONDS = 2.0
"""How long an attempt that was told to end may take to do so, before its process is killed."""


def success_of(delivery: Delivery, result: str | None) -> Outcome:
    """Return the outcome of what a child finished before it began another, and did not report."""
    return Outcome(Ending.RETURNED, delivery.task_name(), 0.0, None, result)


def end_of(delivery: Delivery, begun: Begun, reason: str, exit_status: int) -> Outcome:
    """Return the outcome of what a child was running when it died: cancelled if it was told to end for that."""
    if cancel_of(delivery):
        return Outcome(Ending.CANCELLED, begun.task or delivery.task_name(), time.monotonic() - begun.started)
    return death_of(begun, reason, exit_status)


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
