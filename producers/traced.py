"""A publish as a span of OpenTelemetry: begun when messages are handed over, ended when their outcomes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from leveret.topology import traces
from leveret.topology.errors import LeveretError
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue


@traces.harmless
def begin(messages: Sequence[TaskMessage], ways: Sequence[Route]) -> tuple[Span, Mapping[str, str]]:
    """Begin the span of a publish by these routes; returns it with the headers that all of its messages carry."""
    from opentelemetry.trace import SpanKind

    attributes: dict[str, AttributeValue] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
    }
    tasks, routes = {message.task for message in messages}, set(ways)
    if len(routes) == 1:
        exchange, key = routes.pop()
        attributes["messaging.destination.name"] = f"{exchange}:{key}"
        attributes["messaging.rabbitmq.destination.routing_key"] = key
    if len(messages) == 1:
        attributes["messaging.message.id"] = messages[0].id
        attributes["messaging.message.body.size"] = len(messages[0].body)
    else:
        attributes["messaging.batch.message_count"] = len(messages)
    name = f"{tasks.pop()} publish" if len(tasks) == 1 else "publish"
    span = traces.tracer().start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
    return span, traces.headers_of(span)


@traces.harmless
def end(span: Span, outcomes: Sequence[LeveretError | None], at: int | None) -> None:
    """End it at a moment, in nanoseconds of the epoch; the first failure is the one that it tells."""
    from opentelemetry.trace import Status, StatusCode

    if error := next(filter(None, outcomes), None):
        span.record_exception(error)
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, str(error)))
    span.end(at)
