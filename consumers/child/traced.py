"""An attempt as a span of OpenTelemetry: part of the trace of its submit, or linked to it where it comes later."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from typing import TYPE_CHECKING

from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Order
from leveret.topology import traces

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span
    from opentelemetry.util.types import AttributeValue

_NO_ERROR = frozenset({Ending.RETURNED, Ending.LATER, Ending.CANCELLED})


@traces.harmless
def begin(order: Order, task: str) -> Span:
    """Begin the span of an attempt, and make it the current one of this context.

    Its parent is the submit, if it follows that at once. Retries, and what was delayed or redriven, begin traces of
    their own, which link to the submit: a trace would last for days else.
    """
    context, is_first = _context_of(order)
    links = [] if is_first else _links_to([context])
    attributes: dict[str, AttributeValue] = {
        "messaging.message.id": order.id,
        "messaging.message.body.size": len(order.body),
        "leveret.attempt": order.attempt,
    }
    return _begin(task, order.queue, context if is_first else _without_span(context), links, attributes)


@traces.harmless
def begin_batch(orders: Sequence[Order], task: str) -> Span:
    """Begin the span of calls that run as one, which links to the submit of each."""
    from opentelemetry.context import Context

    links = _links_to([_context_of(order)[0] for order in orders])
    return _begin(task, orders[0].queue, Context(), links, {"messaging.batch.message_count": len(orders)})


@traces.harmless
def end(span: Span, outcome: Outcome) -> None:
    """End the span of an attempt that ended like this."""
    span.set_attribute("leveret.outcome", outcome.ending.name.lower())
    if outcome.failure and outcome.ending not in _NO_ERROR:
        _tell_failure(span, outcome.failure)
    span.end()


@traces.harmless
def end_batch(span: Span, outcomes: Sequence[Outcome]) -> None:
    """End the span of calls that ended like these; the first failure is the one that it tells."""
    failures = [one.failure for one in outcomes if one.failure and one.ending not in _NO_ERROR]
    if failures:
        span.set_attribute("leveret.failed", len(failures))
        _tell_failure(span, failures[0])
    span.end()


def refused(order: Order, outcome: Outcome) -> Outcome:
    """Return the outcome of a message that no task can be called with, after it was told as a span, if they are."""
    if traces.is_on():
        span = contextvars.copy_context().run(begin, order, outcome.task or order.queue)
        if span:
            end(span, outcome)
    return outcome


@traces.harmless
def flush() -> None:
    """Have the spans exported that this process still holds, for it is about to end."""
    if traces.is_on():
        from opentelemetry import trace

        if force_flush := getattr(trace.get_tracer_provider(), "force_flush", None):
            force_flush()


def _begin(task: str, queue: str, context: Context, links: list[Link], attributes: dict[str, AttributeValue]) -> Span:
    from opentelemetry import context as contexts
    from opentelemetry import trace

    attributes |= {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
    }
    span = traces.tracer().start_span(f"{task} process", context, trace.SpanKind.CONSUMER, attributes, links)
    contexts.attach(trace.set_span_in_context(span, context))
    return span


def _context_of(order: Order) -> tuple[Context, bool]:
    """Return what its message carries, and whether it follows at once. What is no context is read over."""
    from opentelemetry import propagate
    from opentelemetry.context import Context

    headers, is_first = order.carried or ({}, True)
    return propagate.extract(headers, Context()), is_first


def _links_to(contexts: Sequence[Context]) -> list[Link]:
    from opentelemetry import trace

    spans = (trace.get_current_span(context).get_span_context() for context in contexts)
    return [trace.Link(span) for span in spans if span.is_valid]


def _without_span(context: Context) -> Context:
    from opentelemetry import trace

    return trace.set_span_in_context(trace.INVALID_SPAN, context)


def _tell_failure(span: Span, failure: Failure) -> None:
    from opentelemetry.trace import Status, StatusCode

    told = {"exception.type": failure.type, "exception.message": failure.message}
    span.add_event("exception", told | {"exception.stacktrace": failure.traceback} if failure.traceback else told)
    span.set_attribute("error.type", failure.type)
    span.set_status(Status(StatusCode.ERROR, failure.message))
