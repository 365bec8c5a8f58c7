"""What the log says of tasks: that one has begun, and how each ended."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

from leveret.consumers.child.board import Begun
from leveret.consumers.log import event, event_with_id, is_logged, text_of, writes_text
from leveret.consumers.settling.delivery import Delivery, cancel_of
from leveret.consumers.settling.products import seconds_of
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.names import dlq_name, retry_queue

_LEVELS = {
    Verdict.DONE: logging.INFO,
    Verdict.RETRY: logging.WARNING,
    Verdict.BURY: logging.ERROR,
    Verdict.CANCEL: logging.INFO,
    Verdict.LATER: logging.INFO,
}


def log_settled(batch: Sequence[Settled]) -> None:
    """Write a line for each."""
    for delivery, outcome, verdict in batch:
        level = _LEVELS[verdict] if verdict else logging.WARNING
        if not is_logged(level):
            continue
        queue = delivery.queue
        if verdict is Verdict.DONE and delivery.id and writes_text():
            before, after = _around_id(verdict.value, outcome.task, queue.name, delivery.attempt, queue.attempts)
            event_with_id(level, before, delivery.id, f"{after}{outcome.duration_seconds:.3f}")
            continue
        fields: dict[str, object] = {
            "task": outcome.task,
            "id": delivery.id,
            "queue": queue.name,
            "attempt": delivery.attempt,
            "of": queue.attempts,
            "seconds": outcome.duration_seconds,
        }
        if failure := outcome.failure:
            fields["error"] = f"{failure.type}: {failure.message}"
        if verdict is None:
            text = "finished, but the connection it came by is gone: the broker delivers it again"
            event(level, text, **fields)
            continue
        if verdict is Verdict.RETRY:
            number = delivery.attempt
            fields["waits_in"] = retry_queue(queue.name, number, queue.retry_delays[number - 1])
        elif verdict is Verdict.BURY:
            fields["lies_in"] = dlq_name(queue.name)
        elif verdict is Verdict.LATER:
            fields["again_in"] = seconds_of(outcome)
        elif verdict is Verdict.CANCEL and (command := cancel_of(delivery)):
            fields |= {"by": command.by, "reason": command.reason}
        event(level, verdict.value, **fields)


@functools.lru_cache(maxsize=1024)
def _around_id(message: str, task: str, queue: str, attempt: int, of: int) -> tuple[str, str]:
    """Return what stands before and behind the id in the lines of successes, which are most of a log."""
    before = text_of({"task": task})
    after = text_of({"queue": queue, "attempt": attempt, "of": of})
    return f"{message}  {before} id=" if before else f"{message}  id=", f" {after} seconds="


def log_started(delivery: Delivery, begun: Begun) -> None:
    """Say that a child has begun a task."""
    event(logging.DEBUG, "started", task=begun.task, **_of(delivery), child=begun.pid)


def log_running(delivery: Delivery, begun: Begun, seconds: float) -> None:
    """Say that a task runs for long already."""
    event(logging.INFO, "still running", task=begun.task, **_of(delivery), child=begun.pid, seconds=seconds)


def _of(delivery: Delivery) -> dict[str, object]:
    queue = delivery.queue
    return {"id": delivery.id, "queue": queue.name, "attempt": delivery.attempt, "of": queue.attempts}
