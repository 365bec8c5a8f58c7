"""What garbage does: each message gets one clear verdict, the worker lives, nothing is lost."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika.exceptions
import pytest

from leveret import Route
from leveret.topology.message import FAILURE_HEADERS
from leveret.topology.names import dlq_name
from tests.broker.jobs import jobs
from tests.broker.malformed import LIMIT_BYTES, UNKNOWN_TASKS, UNREADABLE
from tests.broker.odd import HEADERS, PROPERTIES, REFUSED, ROUTES, UNROUTABLE, Foreign, encode_raw
from tests.broker.support import Vhost, Worker, Workers, attempt_of, await_value

DLQ = dlq_name(jobs.name)
TO_JOBS = Route.direct(jobs.name)
ODD: dict[str, tuple[Route, dict[str, Any]]] = {
    **{f"header-{name}": (TO_JOBS, {"headers": headers}) for name, headers in HEADERS.items()},
    **{name: (TO_JOBS, properties) for name, properties in PROPERTIES.items()},
    **{name: (route, {}) for name, route in ROUTES.items()},
}
_FEWEST_ROUNDS, _MOST_ROUNDS = 12, 40
_ROUND_BYTES = sum(len(message.body) for message in UNREADABLE.values())


@pytest.fixture(autouse=True)
def raw_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Header values go out as the lists have them."""
    encode_raw(monkeypatch)


def good(path: Path) -> bytes:
    """A body that runs."""
    return json.dumps({"task": "jobs.write", "kwargs": {"path": str(path)}}).encode()


def lines(path: Path) -> list[str]:
    """What ran, one line each; an id may have line ends of its own."""
    ran = path.read_bytes().decode().split("\n") if path.exists() else []
    return [line for line in ran if re.search(r" \d+ \d+$", line)]


def test_every_kind_of_garbage_is_buried_with_its_reason(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Garbage of every kind goes to the DLQ once, unrun, with a reason that names it; its neighbours run once."""
    vhost.declare(jobs)
    ran = tmp_path / "ran"
    worker = workers.start("--processes", "2")
    with Foreign(vhost) as client:
        for name, message in UNREADABLE.items():
            client.publish(TO_JOBS, message.body, message_id=name, **message.properties)
            client.publish(TO_JOBS, good(ran), message_id=f"beside-{name}")
    for name in UNREADABLE:
        worker.await_event("bury", id=name)
        worker.await_event("done", id=f"beside-{name}")

    assert worker.stop() == 0
    assert Counter(line.split()[0] for line in lines(ran)) == Counter(f"beside-{name}" for name in UNREADABLE)
    dead = {message.properties.message_id: message for message in vhost.take(DLQ)}
    assert set(dead) == set(UNREADABLE)
    for name, message in UNREADABLE.items():
        reason = dead[name].headers[FAILURE_HEADERS + "message"]
        assert message.reason in reason, name
        assert reason.isprintable(), name
        assert dead[name].headers[FAILURE_HEADERS + "attempts"] == 1, name
        assert dead[name].body == message.body, name
    assert untroubled(worker)
    assert vhost.counts(jobs) == {}


def untroubled(worker: Worker) -> bool:
    """Whether no child died, no connection was lost, and each message had one verdict."""
    assert worker.text == ""
    assert [event for event in worker.events if event["message"].startswith(("lost", "an idle", "keeping"))] == []
    verdicts = Counter(event["id"] for verdict in ("bury", "done") for event in worker.find(verdict))
    assert [task_id for task_id, count in verdicts.items() if count > 1] == []
    return True


def test_names_of_no_task_are_looked_up_and_never_imported(vhost: Vhost, workers: Workers) -> None:
    """A task nobody knows may be known to another worker: it uses up its attempts, then lies in the DLQ."""
    vhost.declare(jobs)
    with Foreign(vhost) as client:
        for name, task in UNKNOWN_TASKS.items():
            client.publish(TO_JOBS, json.dumps({"task": task}).encode(), message_id=name)

    worker = workers.drain()

    dead = {message.properties.message_id: message.headers for message in vhost.take(DLQ)}
    assert set(dead) == set(UNKNOWN_TASKS)
    for name, task in UNKNOWN_TASKS.items():
        assert dead[name][FAILURE_HEADERS + "message"].startswith(f"no task {task!r} is known to this worker"), name
        assert dead[name][FAILURE_HEADERS + "attempts"] == 3
    assert len(worker.find("retry")) == 2 * len(UNKNOWN_TASKS)
    assert untroubled(worker)


def test_what_is_odd_around_a_good_body_runs_once(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Headers, properties and keys of any kind are no reason not to run a message, forged counts included."""
    vhost.declare(jobs)
    with Foreign(vhost) as client:
        for name, (route, properties) in ODD.items():
            client.publish(route, good(tmp_path / name), **{"message_id": name, **properties})

    worker = workers.drain()

    assert {name: len(lines(tmp_path / name)) for name in ODD} == dict.fromkeys(ODD, 1)
    assert len(worker.find("done")) == len(ODD)
    assert (worker.find("retry"), worker.find("bury")) == ([], [])
    assert untroubled(worker)
    assert vhost.counts(jobs) == {}


def test_what_is_odd_around_garbage_reaches_the_dlq(vhost: Vhost, workers: Workers) -> None:
    """Whatever headers and properties a message has, its copy with the reason can be published; none goes round."""
    vhost.declare(jobs)
    with Foreign(vhost) as client:
        for name, (route, properties) in ODD.items():
            client.publish(route, f"no JSON: {name}".encode(), **{"message_id": name, **properties})

    worker = workers.drain()

    dead = vhost.take(DLQ)
    assert Counter(message.body.decode() for message in dead) == Counter(f"no JSON: {name}" for name in ODD)
    assert all("not JSON" in message.headers[FAILURE_HEADERS + "message"] for message in dead)
    assert untroubled(worker)
    assert vhost.counts(jobs) == {}


def test_what_the_broker_refuses(vhost: Vhost) -> None:
    """Keys of attempts that are not bound, another's name and impossible expirations get no further than the broker."""
    vhost.declare(jobs)
    for key in UNROUTABLE:
        with Foreign(vhost) as client, pytest.raises(pika.exceptions.UnroutableError):
            client.publish(Route("tasks.direct", key), b"{}")  # type: ignore[arg-type]
    for properties in REFUSED.values():
        with Foreign(vhost) as client, pytest.raises(pika.exceptions.ChannelClosedByBroker):
            client.publish(TO_JOBS, b"{}", **properties)

    assert vhost.counts(jobs) == {}


def test_a_log_for_people_is_one_line_an_event(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """No id, task, argument or error text puts a line or a terminal sequence of its own into the log."""
    vhost.declare(jobs)
    evil = "\x1b[2J\n12:00:00.000 info    [1] done  task=forged\r\u2028\x9b"
    with Foreign(vhost) as client:
        client.publish(TO_JOBS, good(tmp_path / "ran"), message_id=evil)
        client.publish(TO_JOBS, json.dumps({"task": evil}).encode(), message_id="unknown")
        client.publish(TO_JOBS, json.dumps({"task": "jobs.fail", "args": [evil]}).encode(), message_id="raises")
        client.publish(TO_JOBS, json.dumps({"task": "jobs.fail", "kwargs": {evil: 1}}).encode(), message_id="misfit")
        client.publish(TO_JOBS, b"{}", message_id="label", content_type=evil)

    text = workers.drain("--log-format", "text").text

    assert all(line.isprintable() for line in text.split("\n"))
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \w+ +\[\d+\] ", line) for line in text.split("\n")[:-1])
    assert [line for line in text.split("\n") if line.startswith("12:00:00.000")] == []


def memory_of(worker: Worker) -> int:
    """Bytes of the worker and all its processes, what they share counted once."""
    waiting, total = [worker.process.pid], 0
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        waiting += map(int, (process / "task" / process.name / "children").read_text().split())
        (kilobytes,) = re.findall(r"^Pss: +(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
        total += 1024 * int(kilobytes)
    return total


def test_garbage_leaves_no_memory_behind(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """The whole list, again and again, until the worker's processes grow no more; with a leak that is never.

    What is freed goes back to the system at once: left to itself, the C library keeps as much as ever was in use at
    one moment, which on a busy machine is more in a later round than in an earlier one (mallopt(3)).
    """
    vhost.declare(jobs)
    worker = workers.start("--processes", "2", MALLOC_MMAP_THRESHOLD_="65536")
    sizes: list[int] = []
    for wanted in rounds(vhost, tmp_path):
        await_value(lambda: lines(tmp_path / "last"), "the last of the round")
        await_buried(worker, wanted)
        sizes.append(memory_of(worker))
        if len(sizes) >= _FEWEST_ROUNDS and growth(sizes) < _ROUND_BYTES:
            break

    assert worker.stop() == 0
    assert growth(sizes) < _ROUND_BYTES, sizes
    assert len(worker.find("bury")) == len(sizes) * len(UNREADABLE)
    assert worker.find("an idle") == worker.find("lost the broker") == []


def growth(sizes: list[int]) -> int:
    """Bytes from the last but one four rounds to the last four: the least of each, for bodies on their way go again."""
    return min(sizes[-4:]) - min(sizes[-8:-4])


def await_buried(worker: Worker, count: int) -> None:
    """Wait for so many verdicts."""
    await_value(lambda: len(worker.find("bury")) >= count, "every verdict")


def rounds(vhost: Vhost, folder: Path) -> Iterator[int]:
    """Publish everything malformed and odd, again and again; yields how many are to be buried by then."""
    for number in range(1, _MOST_ROUNDS + 1):
        with Foreign(vhost) as client:
            for message in UNREADABLE.values():
                client.publish(TO_JOBS, message.body, message_id="bad", **message.properties)
            for route, properties in ODD.values():
                client.publish(route, good(folder / "odd"), **{"message_id": "odd", **properties})
            client.publish(TO_JOBS, good(folder / "last"), message_id="last")
        yield number * len(UNREADABLE)
        (folder / "last").unlink()
        with vhost.connect() as connection:
            connection.channel().queue_purge(DLQ)


def test_as_large_as_may_be_is_run(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """A body of exactly the limit is no garbage."""
    vhost.declare(jobs)
    vhost.publish(TO_JOBS, good(tmp_path / "ran").ljust(LIMIT_BYTES), message_id="large")
    workers.drain()

    assert len(lines(tmp_path / "ran")) == 1


@pytest.mark.parametrize("megabytes", [20, 100])
def test_huge_body_is_buried_or_refused(vhost: Vhost, workers: Workers, megabytes: int) -> None:
    """A body far over the limit is buried whole where the broker takes it; a newer broker refuses it itself."""
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
    assert [attempt_of(event) for event in worker.find("done")] == [(2, 3)]
    assert vhost.counts(jobs) == {}


@pytest.mark.parametrize("deaths", [[{"queue": "jobs", "reason": "expired", "count": 7}], [1, 2], [], "often"])
def test_a_forged_x_death_is_gone_before_the_message_can_fail(deaths: Any, vhost: Vhost, workers: Workers) -> None:
    """A broker before 4.0 takes it for its own, and drops the message or ends all dead-lettering."""
    vhost.declare(jobs)
    with Foreign(vhost) as client:
        client.publish(TO_JOBS, b'{"task":"jobs.fail"}', message_id="forged", headers={"x-death": deaths, "own": 1})

    worker = workers.drain()

    assert [attempt_of(event) for event in worker.find("retry", id="forged")] == [(1, 3), (2, 3)]
    dead = vhost.take_one(DLQ)
    assert (dead.properties.message_id, dead.headers["own"]) == ("forged", 1)
    assert dead.headers[FAILURE_HEADERS + "attempts"] == 3
