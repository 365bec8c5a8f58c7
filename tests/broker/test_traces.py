"""Traces over a real broker: from a submit through the children of a worker, with retries, redrive and follow-ups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from leveret import Publisher, Route, TaskMessage
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Worker, Workers, await_value, run

TASKS = """
import asyncio, json, time
import leveret
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Exporter(SpanExporter):
    def export(self, spans):
        time.sleep(0.3)  # as a collector that is far away
        with open({path!r}, "a") as file:
            for span in spans:
                file.write(json.dumps(json.loads(span.to_json(indent=None)) | {{"pid": os.getpid()}}) + "\\n")
        return SpanExportResult.SUCCESS

@leveret.on_child_start
def trace_here():
    provider = TracerProvider()
    # so late that nothing is exported until the child ends
    provider.add_span_processor(BatchSpanProcessor(Exporter(), schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)

@task("jobs.first", queue=jobs)
def first():
    leveret.submit("jobs.second")

@task("jobs.second", queue=jobs)
async def second():
    await asyncio.sleep(0)

@task("jobs.threads", queue=jobs, threads=True)
def threads():
    pass

@task("jobs.batch", queue=jobs, batch=leveret.Batch(2, within_seconds=5))
def batch(all: list[int]):
    pass
"""


OTHERS = ("foreign", "odd")


def exported(path: Path, name: str) -> list[dict[str, Any]]:
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    return [span for span in spans if span["name"] == name]


def trace_of(span: dict[str, Any]) -> str:
    found: str = span["context"]["trace_id"]
    return found


@pytest.fixture
def submits(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans of this process; a provider can be set only once in it, so it is not set."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


def trace_ids(exporter: InMemorySpanExporter) -> list[str]:
    return [
        f"0x{trace.format_trace_id(span.context.trace_id)}" for span in exporter.get_finished_spans() if span.context
    ]


def start(workers: Workers, path: Path, *options: str) -> Worker:
    return workers.start_with(TASKS.format(path=str(path)), "--processes", "1", *options)


def test_every_kind_of_child_exports_before_it_ends(
    publisher: Publisher, submits: InMemorySpanExporter, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """A task, what it submits, tasks in a loop and in threads and a batch: each is below, or linked to, its submit."""
    path = tmp_path / "spans"
    worker = start(workers, path)
    publisher.publish(TaskMessage.create("jobs.first"))
    publisher.publish(TaskMessage.create("jobs.threads"))
    ids = publisher.submit_many(TaskMessage.create("jobs.batch", [number]) for number in range(2))
    await_value(lambda: len(worker.find("done")) == 5, "five tasks")

    assert not path.exists()
    assert worker.stop() == 0
    (first,), (second,) = exported(path, "jobs.first process"), exported(path, "jobs.second process")
    (threads,), (batch,) = exported(path, "jobs.threads process"), exported(path, "jobs.batch process")
    (follow_up,) = exported(path, "jobs.second publish")

    links = {link["context"]["trace_id"] for link in batch["links"]}
    assert [trace_of(first), trace_of(threads), *links] == trace_ids(submits)
    assert trace_of(first) == trace_of(follow_up) == trace_of(second)
    assert follow_up["parent_id"] == first["context"]["span_id"]
    assert second["parent_id"] == follow_up["context"]["span_id"]
    assert len(ids) == len(batch["links"]) == batch["attributes"]["messaging.batch.message_count"]
    assert first["pid"] != second["pid"]


def test_retries_and_redrives_link_to_the_submit(
    publisher: Publisher, submits: InMemorySpanExporter, vhost: Vhost, workers: Workers, tmp_path: Path
) -> None:
    """Through the retry tiers, the DLQ and back the headers stay, and so they do where a foreign client wrote them."""
    path = tmp_path / "spans"
    worker = start(workers, path)
    task_id = publisher.submit("jobs.fail")
    foreign = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    vhost.publish(Route.direct(jobs.name), b'{"task": "jobs.fail_once"}', message_id="foreign", headers=foreign)
    vhost.publish(Route.direct(jobs.name), b'{"task": "jobs.fail_once"}', message_id="odd", headers={"traceparent": 7})
    await_value(lambda: vhost.count(dlq_name(jobs.name)), "it to die")
    for other in OTHERS:
        worker.await_event("done", id=other, attempt=2)
    run("producers.redrive", jobs.name, AMQP_URL=vhost.amqp_url)
    await_value(lambda: len(worker.find("bury", id=task_id)) == 2, "it to die again")

    assert worker.stop() == 0
    (dead,) = vhost.take(dlq_name(jobs.name))
    (submitted,) = trace_ids(submits)
    attempts = exported(path, "jobs.fail process")
    links = [[link["context"]["trace_id"] for link in span["links"]] for span in attempts]

    assert dead.headers["traceparent"].split("-")[1] == submitted.removeprefix("0x")
    assert [span["attributes"]["leveret.attempt"] for span in attempts] == [1, 2, 3, 1, 2, 3]
    assert links == [[], *[[submitted]] * 5]
    assert trace_of(attempts[0]) == submitted
    assert len({trace_of(span) for span in attempts}) == 6
    once = exported(path, "jobs.fail_once process")
    of = {name: [one for one in once if one["attributes"]["messaging.message.id"] == name] for name in OTHERS}
    assert trace_of(of["foreign"][0]) == of["foreign"][1]["links"][0]["context"]["trace_id"]
    assert [(one["parent_id"], one["links"]) for one in of["odd"]] == [(None, []), (None, [])]
