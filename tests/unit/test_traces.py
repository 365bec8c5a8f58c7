"""Traces: a submit and its attempts as spans, which of them are one trace, and nothing of it where there are none."""

from __future__ import annotations

import contextvars
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from leveret import (
    Batch,
    BatchFailed,
    NotRouted,
    Reject,
    RetryLater,
    Route,
    TaskMessage,
    WorkQueue,
    publish,
    submit_many,
    task,
)
from leveret.consumers import log
from leveret.consumers.child import traced
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.settling.products import dead_copy
from leveret.consumers.tasks.task import Task
from leveret.testing import Inline, inline
from leveret.topology import queues, registry, traces
from tests.unit.children import delivery_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Spans:
    """The spans that have ended."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """What a program that has set up a provider sees; only one can be set in a process, so it is not set."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return Spans(provider)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inline]:
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    with inline() as made:
        yield made


@pytest.fixture
def mail(here: Inline) -> Callable[..., Task[..., Any]]:
    """Make a task of a function."""
    queue = WorkQueue("mail", retry_delays=(5, 60))
    return lambda function, **options: task("mail.send", queue=queue, **options)(function)


def context_of(span: ReadableSpan) -> trace.SpanContext:
    found: trace.SpanContext | None = span.context
    assert found
    return found


def ids_of(*spans: ReadableSpan) -> list[tuple[int, int]]:
    return [(context_of(span).trace_id, context_of(span).span_id) for span in spans]


def linked(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def test_a_submit_and_its_first_attempt_are_one_trace(
    spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]]
) -> None:
    """The attempt is below the submit, and both say of which message they are."""
    send = mail(lambda to: None)
    task_id = send.submit(to="a")
    here.run()
    publish, process = spans.one("mail.send publish"), spans.one("mail.send process")

    assert (publish.kind, process.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert process.parent
    assert (process.parent.trace_id, process.parent.span_id) == ids_of(publish)[0]
    assert process.links == ()
    assert {**(publish.attributes or {})} == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "tasks.topic:mail.send",
        "messaging.rabbitmq.destination.routing_key": "mail.send",
        "messaging.message.id": task_id,
        "messaging.message.body.size": len(here.submitted[0].delivery.body),
    }
    assert {**(process.attributes or {})} == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "mail",
        "messaging.message.id": task_id,
        "messaging.message.body.size": len(here.submitted[0].delivery.body),
        "leveret.attempt": 1,
        "leveret.outcome": "returned",
    }


def test_retries_are_traces_of_their_own_that_link_to_the_submit(
    spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]]
) -> None:
    """Each failure is told with its exception."""

    def fail() -> None:
        raise ValueError("boom")

    mail(fail).submit()
    here.run(check=False)
    submitted = ids_of(spans.one("mail.send publish"))
    first, second, third = spans.named("mail.send process")

    assert first.parent
    assert (second.parent, third.parent) == (None, None)
    assert len({context_of(span).trace_id for span in (first, second, third)}) == 3
    assert (linked(first), linked(second), linked(third)) == ([], submitted, submitted)
    for number, span in enumerate((first, second, third), start=1):
        (event,) = span.events
        told = event.attributes or {}
        attributes = span.attributes or {}

        assert (told["exception.type"], told["exception.message"]) == ("ValueError", "boom")
        assert "in fail\n" in str(told["exception.stacktrace"])
        assert (attributes["leveret.attempt"], attributes["leveret.outcome"]) == (number, "raised")
        assert (span.status.status_code, attributes["error.type"]) == (StatusCode.ERROR, "ValueError")


def test_what_comes_later_links_to_the_submit(spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]]) -> None:
    """What is delayed, and what asks to be run later, which is no failure."""
    asked: list[int] = []

    def later() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RetryLater(30)

    mail(later).options(delay=60).submit()
    here.run()
    submitted = ids_of(spans.one("mail.send publish"))
    delayed, again = spans.named("mail.send process")

    assert (delayed.parent, again.parent) == (None, None)
    assert (linked(delayed), linked(again)) == (submitted, submitted)
    assert (delayed.status.status_code, delayed.events) == (StatusCode.UNSET, ())
    assert (delayed.attributes or {})["leveret.outcome"] == "later"


def test_what_a_task_submits_belongs_to_its_attempt(
    spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]]
) -> None:
    """So does what it measures itself, and the baggage goes with all of them."""
    seen: list[object] = []

    def follow() -> None:
        seen.append(baggage.get_baggage("customer"))

    following = task("follow.up", queue=WorkQueue("follow"))(follow)

    def first() -> None:
        with spans.provider.get_tracer("own").start_as_current_span("own"):
            following.submit()

    sending = mail(first)
    contextvars.copy_context().run(lambda: (context.attach(baggage.set_baggage("customer", "hare")), sending.submit()))
    here.run()
    process, own, publish = (spans.one(name) for name in ("mail.send process", "own", "follow.up publish"))

    assert own.parent
    assert publish.parent
    assert (own.parent.span_id, publish.parent.span_id) == (context_of(process).span_id, context_of(own).span_id)
    assert seen == ["hare"]


def test_many_submits_are_one_publish_and_a_batch_links_to_each(
    spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]]
) -> None:
    """And the failure of some of a batch is told."""

    def send(all: list[str]) -> None:
        if "bad" in all:
            raise BatchFailed({0: Reject("no use")})

    sending = mail(send, batch=Batch(3, within_seconds=1))
    submit_many([sending.message(to) for to in ("a", "b", "c")])
    sending.submit("bad")
    here.run(check=False)
    many, one = spans.named("mail.send publish")
    batch, failed = spans.named("mail.send process")

    assert (many.attributes or {})["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in (many.attributes or {})
    assert linked(batch) == ids_of(many) * 3
    assert linked(failed) == ids_of(one)
    assert ((failed.attributes or {})["leveret.failed"], failed.status.description) == (1, "no use")


def test_a_submit_that_fails_tells_why(spans: Spans, here: Inline) -> None:
    """Its span ends with the error that the program gets."""
    with pytest.raises(NotRouted):
        publish(TaskMessage.create("mail.send"), Route.direct("nowhere"))
    span = spans.named("mail.send publish")[-1]

    assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "NotRouted")


@pytest.mark.parametrize(
    ("headers", "links"),
    [
        ({"traceparent": PARENT}, True),
        ({"traceparent": PARENT, "tracestate": "\0=\x1b[31m", "baggage": "=;=,%%%"}, True),
        ({"traceparent": PARENT, "tracestate": "a=" + "b" * 1000, "baggage": "c=" + "d" * 9000}, True),
        ({"traceparent": "garbage"}, False),
        ({"traceparent": PARENT.upper() * 1000}, False),
        ({"traceparent": 5}, False),
        ({"traceparent": b"\xff"}, False),
        ({"traceparent": {"deep": [None]}}, False),
        ({"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}, False),
        ({"traceparent": "ff" + PARENT[2:]}, False),
    ],
)
def test_what_a_client_sends_is_taken_or_read_over(headers: dict[str, Any], links: bool, spans: Spans) -> None:
    """Whatever it is, the attempt has its span, and what is too long does not reach the child."""
    delivery = delivery_of("id-1")
    delivery.properties.headers = headers
    order = Order._make(delivery.order(1))
    span = contextvars.copy_context().run(traced.begin, order, "mail.send")

    assert isinstance(span, Span)
    assert (span.parent is not None) is links
    assert len(str(order.carried)) < 500


def test_a_trace_goes_round_with_its_message(spans: Spans) -> None:
    """A dead message keeps it, so that a redrive links to the submit."""
    delivery = delivery_of("id-1")
    delivery.properties.headers = {"traceparent": PARENT, "mine": 1}
    unreadable = Outcome(Ending.UNREADABLE, "", 0.0, Failure("UnreadableMessage", "no JSON"))
    outcome = traced.refused(Order._make(delivery.order(1)), unreadable)
    headers = dead_copy(delivery, outcome, "worker").properties.headers
    delivery.properties.headers = {**headers, "redriven-at": 1}
    again = Order._make(delivery.order(1))

    assert headers["traceparent"] == PARENT
    assert traces.trace_here() == ""
    assert again.carried == ({"traceparent": PARENT}, False)
    assert spans.one("mail process").status.description == "no JSON"


def test_a_processor_that_raises_fails_neither_submit_nor_task(
    spans: Spans, here: Inline, mail: Callable[..., Task[..., Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """It is the program's own code, and only looks on; that it fails is logged."""

    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            raise RuntimeError("no room")

    spans.provider.add_span_processor(Broken())
    seen: list[int] = []
    mail(lambda: seen.append(1)).submit()
    here.run()

    assert seen == [1]
    assert "tracing has failed, and the task goes on without: RuntimeError: no room" in caplog.text


def test_a_log_line_says_to_which_trace_it_belongs(spans: Spans, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is one."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.configure(as_json=False)
        logging.getLogger("mail").info("without")
        with spans.provider.get_tracer("own").start_as_current_span("own") as span:
            logging.getLogger("mail").info("within")
    finally:
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    without, within = capsys.readouterr().err.splitlines()

    assert "trace_id" not in without
    assert within.endswith(f" trace_id={trace.format_trace_id(span.get_span_context().trace_id)}")


def test_who_sets_up_nothing_has_no_spans_and_no_headers(here: Inline, mail: Callable[..., Task[..., Any]]) -> None:
    """The library may be there, and even be imported."""
    mail(lambda: None).submit()

    assert not traces.is_on()
    assert here.submitted[0].delivery.properties.headers is None


def test_the_library_is_never_imported_for_who_does_not() -> None:
    """Neither by a submit, nor by what runs tasks."""
    code = """
import sys
from leveret import WorkQueue, task
from leveret.testing import inline
send = task("mail.send", queue=WorkQueue("mail"))(lambda: None)
with inline() as here:
    send.submit()
    here.run()
from leveret.consumers.child import execute, in_batches, side_by_side
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout == "[]\n"
