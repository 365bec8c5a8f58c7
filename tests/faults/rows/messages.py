"""Faults of messages: unreadable, too large, unknown, sent twice."""

from __future__ import annotations

import json
import pickle
import time
from typing import Any

import pika.exceptions

from leveret import MessageTooLarge
from leveret.topology.message import FAILURE_HEADERS
from leveret.topology.names import dlq_name
from tests.broker.support import await_value
from tests.faults import records
from tests.faults.logged import faults
from tests.faults.row import Row
from tests.faults.stage import Stage

_MEBIBYTE = 1024 * 1024
_BAD = "bad-"


def unreadable(stage: Stage) -> None:
    """Publish what is no task message, among others that are."""
    call = {"task": "faults.work", "kwargs": {"seconds": 0.001}}
    good = json.dumps(call).encode()
    cases: list[tuple[bytes, dict[str, Any]]] = [
        (b"", {}),
        (b"{", {}),
        (b"[1, 2]", {}),
        (b"\xff\xfe", {}),
        (b"[" * 100_000, {}),
        (b'{"task": 7}', {}),
        (json.dumps({"task": "faults.work", "kwargs": {"no_such": 1}}).encode(), {}),
        (json.dumps({"task": "faults.work", "args": "seconds"}).encode(), {}),
        (pickle.dumps(call), {"content_type": "application/x-python-serialize"}),
        (good, {"content_type": "text/plain"}),
        (good, {"content_encoding": "gzip"}),
    ]
    stage.random.shuffle(cases)
    stage.worker()
    with stage.load():
        stage.wait_a_moment()
        stage.blow()
        for number, (body, properties) in enumerate(cases):
            stage.publish_raw(f"{_BAD}{number}", body, **properties)
        await_value(lambda: stage.vhost.count(dlq_name(faults.name)) == len(cases), "all of them in the DLQ")
        stage.recovery_seconds = time.monotonic() - stage.began


def too_large(stage: Stage) -> None:
    """Submit and publish messages and headers that are too large, among others that are not."""
    stage.worker()
    with stage.load():
        stage.wait_a_moment()
        stage.blow()
        huge = "x" * (17 * _MEBIBYTE)
        try:
            stage.publisher.publish(stage.message("faults.work", seconds=0, text=huge))
        except MessageTooLarge:
            pass
        else:
            stage.problems.append("a message of 17 MiB was submitted without an error")
        stage.publish_raw(f"{_BAD}body", b"x" * int(1.5 * _MEBIBYTE))
        stage.publish_raw(f"{_BAD}headers", b"{", headers={"large": "x" * 100_000})
        refused: tuple[tuple[str, bytes, dict[str, Any]], ...] = (
            ("body-of-17-mib", huge.encode(), {}),
            ("headers-of-140-kib", b"{", {"headers": {"large": "x" * 140 * 1024}}),
        )
        for name, body, properties in refused:
            try:
                stage.publish_raw(f"{_BAD}{name}", body, **properties)
            except pika.exceptions.AMQPError as error:  # the broker's own limit, which depends on its version
                records.append(stage.submissions_log, f"{_BAD}{name}", records.UNKNOWN, repr(error))


def unknown_tasks(stage: Stage) -> None:
    """Submit tasks that no worker knows, and messages of a later version."""
    stage.worker()
    unknown = [stage.message(f"faults.nowhere{number}") for number in range(3)]
    with stage.load(among=unknown):
        stage.wait_a_moment()
        stage.blow()
        for number in range(3):
            body = json.dumps({"version": 2 + number, "task": "faults.work", "kwargs": {"seconds": 0}}).encode()
            stage.publish_raw(f"{_BAD}{number}", body)


def see_reasons(stage: Stage) -> None:
    """What is dead must say why, and nothing else may have died; the connection must have lived on."""
    for dead in stage.dead:
        reason = dead.headers.get(f"{FAILURE_HEADERS}message")
        stage.expect(reason, f"{dead.properties.message_id} lies in the DLQ without a reason")
    account = stage.account()
    bad = {one for one in account.confirmed if one.startswith(_BAD)}
    stage.expect(not bad - set(account.parked), f"not parked: {bad - set(account.parked)}")
    for worker in stage.started:
        stage.expect(not worker.find("lost the broker"), "the worker lost its connection")


def sent_twice(stage: Stage) -> None:
    """Submit some messages a second time, under the same ids."""
    stage.worker()
    messages = stage.messages(100)
    again = stage.random.sample(messages, _SENT_TWICE)
    for message in again:
        messages.insert(stage.random.randrange(messages.index(message), len(messages)) + 1, message)
    stage.submit(*messages)


def see_twice(stage: Stage) -> None:
    """What was sent twice runs twice: there is no memory of ids by default."""
    found = stage.account().duplicates
    stage.expect(found == _SENT_TWICE, f"{_SENT_TWICE} were sent twice, {found} ran twice")


_SENT_TWICE = 20

ROWS = [
    Row(
        14,
        "unreadable",
        "bodies that are no task message, pickle and gzip among them",
        "0",
        unreadable,
        afterwards=see_reasons,
    ),
    Row(15, "too-large", "17 MiB messages and 140 KiB headers", "0", too_large, afterwards=see_reasons),
    Row(
        16,
        "unknown-task",
        "tasks nobody knows, messages of a later version",
        "0",
        unknown_tasks,
        afterwards=see_reasons,
    ),
    Row(
        26,
        "sent-twice",
        "the same message id submitted twice",
        "one for each sent twice",
        sent_twice,
        lambda _stage: _SENT_TWICE,
        afterwards=see_twice,
    ),
]
