"""Cancelling tasks: what waits does not run, what is not meant does, and nobody has to be there when it is said."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker

from leveret import MessageError, Route, cancel, cancel_async, recorded
from leveret.consumers.control import stream
from leveret.consumers.control.control import Control
from leveret.topology.control import Command, write_cancels
from leveret.topology.events import Kind
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.message import new_id
from leveret.topology.names import CANCELLED_QUEUE, CONTROL_EXCHANGE, EVENTS_EXCHANGE, dlq_name
from leveret.topology.objects import control_streams
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders, tell
from tests.broker.support import Vhost, Workers, await_value, run, start_waiting_task


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file in which tasks write that they ran."""
    return tmp_path / "ran"


def runs(ran: Path) -> list[str]:
    return [line.split()[0] for line in ran.read_text().splitlines()] if ran.exists() else []


def write(vhost: Vhost, ran: Path, *ids: str, **properties: Any) -> None:
    """Submit a task under each id that writes it down."""
    for task_id in ids:
        body = json.dumps({"task": "jobs.write", "kwargs": {"path": str(ran)}}).encode()
        vhost.publish(Route.direct("jobs"), body, message_id=task_id, **properties)


def stop(vhost: Vhost, *ids: str, reason: str = "") -> None:
    cancel(*ids, reason=reason, configured=vhost.settings)


def say(vhost: Vhost, *bodies: bytes) -> None:
    """Publish what is no command of ours to all workers."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(CONTROL_EXCHANGE, "cancel", body, pika.BasicProperties(delivery_mode=2))


def test_what_waits_while_no_worker_runs(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """A worker that starts later settles it without running it, and says who cancelled it and why."""
    vhost.declare(jobs)
    write(vhost, ran, "one", "two", "three", timestamp=int(time.time()))
    stop(vhost, "two", reason="wrong list")
    worker = workers.drain()

    assert sorted(runs(ran)) == ["one", "three"]
    (event,) = worker.find("cancelled")
    assert (event["id"], event["task"], event["queue"]) == ("two", "jobs.write", "jobs")
    assert "@" in event["by"]
    assert event["reason"] == "wrong list"
    assert vhost.counts(jobs) == {}


def test_what_waits_behind_what_runs(vhost: Vhost, workers: Workers, tmp_path: Path, ran: Path) -> None:
    """It is settled at once, and not only when its turn comes."""
    vhost.declare(jobs)
    started, go = start_waiting_task(vhost, tmp_path)
    worker = workers.start("--processes", "1", "--prefetch", "10")
    await_value(started.exists, "the task to start")
    write(vhost, ran, "one", "two")
    await_value(lambda: vhost.count("jobs") == 0, "the worker to hold them")
    stop(vhost, "one")
    worker.await_event("cancelled", id="one", task="jobs.write")
    go.touch()
    worker.await_event("done", id="two")

    assert worker.stop() == 0
    assert runs(ran) == ["two"]


def test_what_waits_to_be_tried_again(vhost: Vhost, workers: Workers) -> None:
    """It is cancelled when it comes back from its retry tier, and does not end in the DLQ."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.fail", "delayed")
    worker = workers.start()
    worker.await_event("retry", id="delayed")
    stop(vhost, "delayed")
    worker.await_event("cancelled", id="delayed", task="jobs.fail")

    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}


def test_ten_thousand_cancels_are_known_before_the_first_task(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """Each was said by a message of its own; the last one counts as the first does."""
    ids = [new_id() for _ in range(10_000)]
    vhost.declare(jobs)
    stop(vhost, ids[0])
    with vhost.connect() as connection:
        channel = connection.channel()
        for task_id in ids[1:]:
            (body,) = write_cancels([task_id], Command(time.time(), "ops@desk", ""))
            channel.basic_publish(CONTROL_EXCHANGE, "cancel", body, pika.BasicProperties(delivery_mode=2))
        channel.confirm_delivery()
        channel.basic_publish(CONTROL_EXCHANGE, "cancel", b"{}", mandatory=True)
    write(vhost, ran, ids[0], ids[5000], "another", ids[-1])
    worker = workers.drain()

    assert runs(ran) == ["another"]
    assert {event["id"] for event in worker.find("cancelled")} == {ids[0], ids[5000], ids[-1]}
    assert not worker.find("not all cancels")


def test_a_redrive_after_a_cancel_is_a_new_wish(vhost: Vhost, workers: Workers) -> None:
    """What was cancelled while it lay in the DLQ runs when somebody sends it round again."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.reject", "dead")
    workers.drain()
    assert vhost.count(dlq_name("jobs")) == 1
    stop(vhost, "dead")
    assert run("producers.redrive", "jobs", AMQP_URL=vhost.amqp_url).returncode == 0
    worker = workers.drain()

    assert not worker.find("cancelled")
    assert worker.find("bury", id="dead")
    stop(vhost, "dead")  # and again
    assert run("producers.redrive", "jobs", AMQP_URL=vhost.amqp_url).returncode == 0
    stop(vhost, "dead")
    assert workers.drain().find("cancelled", id="dead")
    assert vhost.counts(jobs) == {}


def test_an_id_of_nobody_is_remembered(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """Nothing happens, until a task of that id comes that was submitted before; one that is newer runs."""
    vhost.declare(jobs)
    worker = workers.start()
    stop(vhost, "late", "new")
    write(vhost, ran, "new", timestamp=int(time.time()) + 60)
    write(vhost, ran, "late")
    worker.await_event("cancelled", id="late")
    worker.await_event("done", id="new")

    assert worker.stop() == 0
    assert runs(ran) == ["new"]


def test_what_is_no_cancel_is_passed_over(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """The worker says so once, in one line without control characters, and what follows it counts."""
    vhost.declare(jobs)
    stop(vhost, "first")
    say(vhost, b"\xff", b"[", b'{"version":1,"cancel":["\\u001b[2Jx"],"at":1}', b"9" * 5000, b"{}")
    stop(vhost, "second", reason="\x1b[2J and more\nforged  line")
    write(vhost, ran, "first", "second", "third")
    worker = workers.drain("--log-format", "text")

    assert runs(ran) == ["third"]
    assert "a message of tasks.cancelled is passed over: " in worker.text
    assert worker.text.count("is passed over") == 1
    assert "\x1b" not in worker.text
    assert "\nforged" not in worker.text


def test_a_worker_without_the_right_goes_on(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """It says once what it does without, and that its queue is paused or a task cancelled is not known to it."""
    vhost.declare(jobs)
    stop(vhost, "one")
    write(vhost, ran, "one")
    with vhost.limited_user(write=".*", read=r"^jobs.*") as url:
        worker = workers.drain("--no-declare", AMQP_URL=url)

    assert runs(ran) == ["one"]
    assert len(worker.find("tasks.cancelled cannot be read")) == 1
    assert len(worker.find("tasks.paused cannot be read")) == 1


def test_a_worker_that_may_not_declare_reads_what_is_there(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """Where the streams were never declared it goes on without them."""
    vhost.declare(jobs)
    write(vhost, ran, "one")
    worker = workers.drain("--no-declare")

    assert runs(ran) == ["one"]
    assert worker.find("tasks.cancelled cannot be read")
    assert CANCELLED_QUEUE not in vhost.queues()


def test_a_refused_stream_is_looked_at_again_and_nothing_piles_up(
    vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look closes what it has opened; when the right is given, all is read."""
    stop(vhost, "one")
    opened: list[Any] = []

    async def open_and_note(connection: Any) -> Any:
        opened.append(connection)
        return await open_channel(connection)

    monkeypatch.setattr(stream, "open_channel", open_and_note)
    monkeypatch.setattr(stream, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(stream, "_LONGEST_PAUSE_SECONDS", 0.01)

    async def play(url: str) -> None:
        settings = dataclasses.replace(vhost.settings, amqp_url=url)
        control = Control(settings, False, lambda _ids: None, lambda *_: None)
        connection = await connect(settings, "a test", lambda *_: None)
        await control.read(connection)
        assert control.cancels == {}
        async with asyncio.timeout(60):
            while len(opened) < 50:
                await asyncio.sleep(0.01)
            assert len(connection._channels) <= 4
            vhost.give_limited_user(read=".*")
            while not control.cancels:
                await asyncio.sleep(0.01)
        control.stop()
        await close(connection)

    with vhost.limited_user(write=".*", read="^nothing$") as url:
        asyncio.run(play(url))


def test_a_stream_that_was_made_anew_is_read_from_its_start(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """A worker that has read hundreds of an older one misses nothing."""
    vhost.declare(jobs)
    for _ in range(30):
        stop(vhost, "before")
    worker = workers.start()
    with vhost.connect() as connection:
        connection.channel().queue_delete(CANCELLED_QUEUE)
    stop(vhost, "one")
    worker.await_event("tasks.cancelled cannot be read")
    write(vhost, ran, "before")
    worker.await_event("cancelled", id="before")
    vhost.publish_task(Route.direct("jobs"), "jobs.wait_for", "one", path=str(ran), started=str(ran) + ".started")
    worker.await_event("cancelled", id="one", task="jobs.wait_for")
    assert worker.stop() == 0


def test_the_stream_forgets_whole_segments(vhost: Vhost) -> None:
    """By its size: what was said first is gone when much more was said."""
    (cancels, _) = control_streams().queues
    arguments = {**cancels.arguments, "x-max-length-bytes": 1_000_000}
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("small", durable=True, arguments=arguments)
        for _ in range(4000):
            channel.basic_publish("", "small", b"x" * 1000)

    def first_offset() -> int:
        found: list[int] = []
        # pika rejects what is in flight when it leaves, for which 3.10 ends the connection of a stream's reader
        with contextlib.suppress(ConnectionClosedByBroker), vhost.connect() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)

            def note(_channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
                found.append(properties.headers["x-stream-offset"])

            channel.basic_consume("small", note, arguments={"x-stream-offset": 0})
            while not found:
                connection.process_data_events(1)
        return found[0]

    assert await_value(first_offset, "the oldest segment to go") > 0


def test_a_cancel_of_one_nobody_follows_is_told(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """So that it is no silent deletion: whoever listens on the exchange of events hears who did it."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("listener", durable=True)
        channel.queue_bind("listener", EVENTS_EXCHANGE, "task.cancelled.#")
        write(vhost, ran, "one")
        stop(vhost, "one", reason="why not")
        workers.drain()
        told = json.loads(vhost.take_one("listener").body)

    (event,) = told["events"]
    assert (told["kind"], told["task"], event["id"], event["reason"]) == ("cancelled", "jobs.write", "one", "why not")
    assert "@" in event["by"]


def test_the_verb(vhost: Vhost, workers: Workers, ran: Path) -> None:
    """It takes ids as arguments and from stdin, declares what it needs, and says what it did."""
    vhost.declare(jobs)
    write(vhost, ran, "one", "two", "three")
    ended = run("leveret", "cancel", "one", "-", stdin="two\n\none\n", AMQP_URL=vhost.amqp_url)

    assert (ended.returncode, ended.stdout) == (0, "one\ntwo\n")
    assert ended.stderr.startswith("cancel sent for 2 task(s)")
    workers.drain()
    assert runs(ran) == ["three"]
    as_json = run("leveret", "cancel", "one", "--json", "-q", AMQP_URL=vhost.amqp_url)
    assert (json.loads(as_json.stdout), as_json.stderr) == ({"id": "one", "cancel": "sent"}, "")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "name tasks by id, or a list of the record by --task or --state"),
        (["one", "--task", "jobs.*"], 2, "name tasks by id, or a list of the record by --task or --state"),
        (["--task", ""], 2, "it is empty"),
        (["--state", "failed"], 2, "no task is cancelled in state 'failed'; there are: submitted, delayed"),
        (["--task", "jobs.*", "--yes"], 1, "leveret recorder"),
        (["-"], 2, "no id is named"),
        ([","], 2, "no id is named"),
        (["a\x1b[2Jb"], 1, "leveret cancel: 'a\\x1b[2Jb' cannot be a task id: 1 to 255 bytes of printable text"),
        (["x" * 256], 1, "cannot be a task id"),
        (["one", "--reason", "x" * 1001], 1, "the reason has 1,001 bytes, over the limit of 1,000; shorten it"),
    ],
)
def test_wrong_ids_are_refused(vhost: Vhost, arguments: list[str], status: int, said: str) -> None:
    """In one line, before anything is sent."""
    ended = run("leveret", "cancel", *arguments, stdin="", AMQP_URL=vhost.amqp_url)

    assert (ended.returncode, ended.stdout) == (status, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert CANCELLED_QUEUE not in vhost.queues()


def test_a_list_of_the_record(vhost: Vhost, tmp_path: Path) -> None:
    """What has not ended, of these names and states; without a terminal only with --yes."""
    recorders = Recorders(vhost, tmp_path)
    recorders.start()
    try:
        tell(vhost, Kind.SUBMITTED, ["one", "two"])
        tell(vhost, Kind.SUCCEEDED, ["ended"], result="5", seconds=0.1)
        await_value(lambda: len(list(recorded(configured=vhost.settings))) == 3, "the record of three")
        refused = run("leveret", "cancel", "--task", "*", AMQP_URL=vhost.amqp_url, stdin="")
        ended = run("leveret", "cancel", "--task", "*", "--yes", AMQP_URL=vhost.amqp_url)
        none = run("leveret", "cancel", "--task", "nothing.*", "--yes", AMQP_URL=vhost.amqp_url)
    finally:
        recorders.kill_all()

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "2 task(s) would be cancelled; say --yes" in refused.stderr
    assert (ended.returncode, sorted(ended.stdout.splitlines())) == (0, ["one", "two"])
    assert (none.returncode, none.stderr) == (1, "no task was cancelled\n")


def test_without_the_right_to_declare_or_publish(vhost: Vhost) -> None:
    """It says whom to ask, and what for."""
    vhost.declare(jobs)
    with vhost.limited_user(write="^tasks.*") as url:
        undeclared = run("leveret", "cancel", "one", AMQP_URL=url)
    stop(vhost, "one")
    with vhost.limited_user(write="^tasks.direct$") as url:
        refused = run("leveret", "cancel", "one", AMQP_URL=url)

    assert (undeclared.returncode, refused.returncode) == (1, 1)
    assert "leveret declare" in undeclared.stderr
    assert "refused to publish to exchange 'tasks.control'" in refused.stderr


def test_from_python(vhost: Vhost) -> None:
    """Awaitable, too, and refused where an id is none."""
    asyncio.run(cancel_async("one", configured=vhost.settings))
    with pytest.raises(MessageError, match="cannot be a task id"):
        asyncio.run(cancel_async("", configured=vhost.settings))
    with pytest.raises(MessageError, match="is no text"):
        cancel("one", reason=7, configured=vhost.settings)  # type: ignore[arg-type]
    cancel(configured=vhost.settings)  # nothing to say, so nobody is asked

    assert {queue.name for queue in control_streams().queues} <= vhost.queues()


def test_without_a_broker_the_command_ends_at_once() -> None:
    """As every other does, and not after the time that a publish may take."""
    ended = run("leveret", "cancel", "some-id", AMQP_URL="amqp://guest:secret@127.0.0.1:1/")

    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert "tried for" not in ended.stderr
    assert "secret" not in ended.stderr
