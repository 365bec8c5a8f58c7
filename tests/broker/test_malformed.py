"""What garbage does: each message gets one clear verdict, the worker lives, nothing is lost."""

from __future__ import annotations

import json
import struct
from typing import Any

import pika.data
import pytest

from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers
from topology import headers
from topology.message import FAILURE_HEADERS
from topology.names import Route, dlq_name

GARBAGE: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "not-json": (b"hello", {}, "not JSON"),
    "empty": (b"", {}, "not JSON"),
    "no-object": (b"[1, 2]", {}, "a JSON array, not an object"),
    "null": (b"null", {}, "a JSON null, not an object"),
    "no-task": (b'{"kwargs": {}}', {}, "no field 'task'"),
    "task-is-a-number": (b'{"task": 5}', {}, "no field 'task'"),
    "args-no-array": (b'{"task": "jobs.fail", "args": {}}', {}, "'args' is a JSON object"),
    "kwargs-no-object": (b'{"task": "jobs.fail", "kwargs": []}', {}, "'kwargs' is a JSON array"),
    "misfit": (b'{"task": "jobs.write", "kwargs": {"pth": 1}}', {}, "missing a required argument"),
    "too-many": (b'{"task": "jobs.fail", "args": [1, 2, 3]}', {}, "too many positional"),
    "pickle": (b'{"task": "jobs.fail"}', {"content_type": "application/x-python-serialize"}, "content type"),
    "compressed": (b'{"task": "jobs.fail"}', {"content_encoding": "gzip"}, "content encoding"),
    "latin-1": ('{"task": "jobs.f\xe4il"}'.encode("latin-1"), {}, "not UTF-8"),
    "utf-16": ('{"task": "jobs.fail"}'.encode("utf-16"), {}, "not UTF-8"),
    "newer-version": (b'{"version": 2, "task": "jobs.fail"}', {}, "envelope version 2 is unknown"),
    "nan": (b'{"task": "jobs.fail", "kwargs": {"text": NaN}}', {}, "NaN is not a JSON number"),
    "duplicate-key": (b'{"task": "jobs.fail", "task": "jobs.exit"}', {}, "stands twice"),
    "deep": (b'{"task": "jobs.fail", "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, "nested too deeply"),
    "huge-number": (b'{"task": "jobs.fail", "args": [' + b"9" * 50_000 + b"]}", {}, "not JSON"),
    "over-the-limit": (b'{"task": "jobs.fail", "args": ["' + b"x" * 2_000_000 + b'"]}', {}, "over the limit"),
}


def test_every_kind_of_garbage_is_buried_with_its_reason(vhost: Vhost, workers: Workers) -> None:
    """Garbage of every kind goes to the DLQ once, unrun, with a reason that names it; the worker goes on."""
    vhost.declare(jobs)
    worker = workers.start()
    for name, (body, properties, _) in GARBAGE.items():
        vhost.publish(Route.direct(jobs.name), body, message_id=name, **properties)
    for name in GARBAGE:
        worker.await_event("bury", id=name)
    vhost.publish_task(Route.direct(jobs.name), "jobs.fail_once", "a-good-one")
    worker.await_event("done", id="a-good-one")

    dead = {message.properties.message_id: message for message in vhost.take(dlq_name(jobs.name))}
    assert set(dead) == set(GARBAGE)
    for name, (body, _, text) in GARBAGE.items():
        assert text in dead[name].headers[FAILURE_HEADERS + "message"], name
        assert dead[name].body == body
    assert worker.stop() == 0
    assert len(worker.find("retry")) == 1  # the good one's
    assert vhost.counts(jobs) == {}


@pytest.mark.parametrize("megabytes", [20, 100])
def test_huge_body_is_buried_or_refused(vhost: Vhost, workers: Workers, megabytes: int) -> None:
    """A body far over the limit is buried whole where the broker takes it; a newer broker refuses it itself."""
    import pika.exceptions

    vhost.declare(jobs)
    body = b'{"task": "jobs.fail", "args": ["' + b"x" * (megabytes * 1024 * 1024) + b'"]}'
    try:
        vhost.publish(Route.direct(jobs.name), body, message_id="huge")
    except pika.exceptions.AMQPError:
        assert vhost.counts(jobs) == {}
        return
    workers.drain()

    (dead,) = vhost.take(dlq_name(jobs.name))
    assert dead.body == body
    assert "over the limit" in dead.headers[FAILURE_HEADERS + "message"]


def test_shortest_message_from_the_management_ui(vhost: Vhost, workers: Workers) -> None:
    """A message from the management UI's form with nothing but task and kwargs runs like any other."""
    vhost.declare(jobs)
    answer = vhost.api(
        "POST",
        f"exchanges/{vhost.name}/tasks.topic/publish",
        {
            "properties": {},
            "routing_key": "jobs.fail_once",
            "payload": json.dumps({"task": "jobs.fail_once", "kwargs": {}, "note": "unknown fields are kept"}),
            "payload_encoding": "string",
        },
    )

    assert answer == {"routed": True}
    worker = workers.drain()
    assert [event["attempt"] for event in worker.find("done")] == ["2/3"]
    assert vhost.counts(jobs) == {}


def test_headers_that_pika_cannot_read_alone(vhost: Vhost, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fraction and a timestamp of no year neither end the connection nor change on the way to the DLQ."""
    vhost.declare(jobs)
    far_away = 2**40

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if value == far_away:
            pieces.append(struct.pack(">cQ", b"T", value))
            return 9
        return headers.encode_value(pieces, value)

    monkeypatch.setattr(pika.data, "encode_value", encode_value)
    vhost.publish(Route.direct(jobs.name), b"no JSON", message_id="odd", headers={"half": 0.5, "then": far_away})

    worker = workers.drain()

    assert worker.find("lost the broker") == []
    kept = vhost.take_one(dlq_name(jobs.name)).headers
    assert (kept["half"], kept["then"]) == (0.5, far_away)
