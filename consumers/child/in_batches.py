"""Running a batch: many orders for one task, whose function is called once with all of them, and an outcome for each.

What cannot be read is no part of the batch and fails by itself.
"""

from __future__ import annotations

import contextvars
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leveret.consumers.child import traced
from leveret.consumers.child.board import Board
from leveret.consumers.child.execute import Executor, cancelled_in, failed, read_call, serve, take_tokens
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.child.reporting import Reporter
from leveret.consumers.child.returned import succeeded
from leveret.consumers.child.surroundings import Surroundings
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.errors import BatchFailed
from leveret.consumers.tasks.task import AnyTask
from leveret.topology import traces

_OWN_FRAMES = 3  # _run, call and _call_function stand above the task in a traceback
_REPORT_CHARACTERS = 256 * 1024
_FAILURE_CHARACTERS = 16 * 1024  # with its traceback, and everything escaped


def serve_batches(parent: socket.socket, tokens: int, board: Board, index: int, message_limit_bytes: int) -> None:
    """Run batches until the parent closes the connection: all orders that come together are one."""
    serve(parent, tokens, board, index, message_limit_bytes, _run_batch)


def _run_batch(
    reporter: Reporter, tokens: int, executor: Executor, surroundings: Surroundings, orders: list[Order]
) -> None:
    taken = orders[: take_tokens(tokens, len(orders))]  # the rest was taken back
    outcomes = run_together(executor, taken) if taken else []
    if outcomes:
        surroundings.put_back(outcomes[-1].task)
    reporter.start(orders[0].number)
    *before, last = parts_of(outcomes)
    for part in before:
        reporter.tell(part)
    reporter.tell(last, is_last=True)


def parts_of(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    """Yield the outcomes in parts, each of which fits into a report; one at least, which may be empty."""
    part: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        one = len(outcome.result or "") + (_FAILURE_CHARACTERS if outcome.failure else 0)
        if part and size + one > _REPORT_CHARACTERS:
            yield part
            part, size = [], 0
        part.append(outcome)
        size += one
    yield part


def run_together(executor: Executor, orders: Sequence[Order]) -> list[Outcome]:
    """Run the orders as one batch; returns how each ended. All that can be read are for one task."""
    started = time.monotonic()
    outcomes: dict[int, Outcome] = {}
    batch: list[Order] = []
    calls: list[Any] = []
    task: AnyTask | None = None
    for order in orders:
        call = read_call(order, executor.limit_bytes, started)
        if isinstance(call, Outcome):
            outcomes[order.number] = call
        else:
            task, (argument,), _ = call
            batch.append(order)
            calls.append(argument)
    if task:
        # the last, so that none of them is taken for one that ended before it
        executor.begin(orders[-1].number, task, attempt.together([_attempt_of(order, task) for order in batch]))
        context = contextvars.copy_context()
        span = context.run(traced.begin_batch, batch, task.name) if traces.is_on() else None
        endings = context.run(_run, executor, task, batch, calls, started)
        if span:
            traced.end_batch(span, endings)
        outcomes |= zip((order.number for order in batch), endings, strict=True)
    return [outcomes[order.number] for order in orders]


def _attempt_of(order: Order, task: AnyTask) -> attempt.Attempt:
    return attempt.Attempt(order.id, order.attempt, order.queue, task.name)


def _run(
    executor: Executor, task: AnyTask, batch: Sequence[Order], calls: list[Any], started: float
) -> Sequence[Outcome]:
    count = len(calls)
    try:
        returned = executor.call(task, (calls,), {})
    except BatchFailed as error:
        if wrong := what_is_wrong(error, count):
            return [failed(task, wrong, started, _OWN_FRAMES)] * count
        return endings_of(task, error.failures, count, started)
    except BaseException as error:  # noqa: BLE001 - sys.exit() and the like fail this batch only
        if executor.was_told_to_end:
            return [cancelled_in(task, error, started, _OWN_FRAMES)] * count
        return [failed(task, error, started, _OWN_FRAMES)] * count
    return successes_of(task, returned, [order.is_followed for order in batch], started)


def what_is_wrong(error: BatchFailed, count: int) -> ValueError | None:
    """Say what is wrong with a `BatchFailed` of so many calls, for which all of them fail; None when nothing is."""
    failures = error.failures
    if not isinstance(failures, Mapping) or not failures:
        return ValueError(f"BatchFailed({failures!r:.60}) does not say which calls failed; give {{place: error}}")
    for place, reason in failures.items():
        if type(place) is not int or not 0 <= place < count:
            return ValueError(f"BatchFailed names call {place!r:.60}, and the batch has calls 0 to {count - 1}")
        if not isinstance(reason, BaseException):
            return ValueError(f"BatchFailed says {reason!r:.60} of call {place}, which is no exception")
    return None


def endings_of(task: AnyTask, failures: Mapping[int, BaseException], count: int, started: float) -> list[Outcome]:
    """Return the outcomes of a batch in which these calls failed and all others succeeded."""
    success = Outcome(Ending.RETURNED, task.name, time.monotonic() - started)
    return [failed(task, failures[place], started, 0) if place in failures else success for place in range(count)]


def successes_of(task: AnyTask, returned: Any, are_followed: Sequence[bool], started: float) -> Sequence[Outcome]:
    """Return the outcomes of calls that succeeded. A list of as many is their results; else each has none."""
    count = len(are_followed)
    success = Outcome(Ending.RETURNED, task.name, time.monotonic() - started)
    if not (task.follow or any(are_followed)):
        return [success] * count
    results = returned if isinstance(returned, list) and len(returned) == count else [None] * count
    return [
        succeeded(task, result, started) if is_followed or task.follow else success
        for result, is_followed in zip(results, are_followed, strict=True)
    ]
