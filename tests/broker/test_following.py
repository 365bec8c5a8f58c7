"""Following tasks: who submits one is told what it returned, how it failed, and what happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leveret import (
    AccessRefused,
    MessageError,
    NobodyAnswers,
    NotFollowed,
    Publisher,
    ResultMissed,
    ResultTimeout,
    Route,
    State,
    Status,
    Submitted,
    TaskCancelled,
    TaskFailed,
    TaskMessage,
    as_completed,
    gather,
    gather_async,
)
from leveret.producers import default
from leveret.producers.following import replies
from leveret.topology import events
from leveret.topology.events import Event, Kind
from leveret.topology.link.asking import open_channel
from leveret.topology.names import EVENTS_EXCHANGE, RECORD_QUEUE
from tests.broker import followed_jobs
from tests.broker.control import BrokerControl
from tests.broker.followed_jobs import Receipt, followed, followed_async
from tests.broker.support import Vhost, Worker, Workers, await_value, run

JOBS = "tests.broker.followed_jobs"


@pytest.fixture
def publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """This process's own publisher."""
    vhost.declare(followed, followed_async)
    with Publisher(vhost.settings) as made:
        monkeypatch.setattr(default, "_default", made)
        yield made


@pytest.fixture
def worker(publisher: Publisher, workers: Workers) -> Worker:
    return start(workers)


def start(workers: Workers, *options: str, queue: str = "followed,followed-async", **more: Any) -> Worker:
    return workers.start("--processes", "1", *options, queue=queue, tasks=[JOBS], **more)


def listening(vhost: Vhost, queue: str, *keys: str) -> None:
    """Have a queue that gets the events of these keys."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for key in keys:
            channel.queue_bind(queue, EVENTS_EXCHANGE, key)


def told(vhost: Vhost, queue: str) -> list[events.Told]:
    """Take what was told."""
    return [events.read(message.body) for message in vhost.take(queue)]


def reply_queues(vhost: Vhost) -> list[str]:
    return [name for name in vhost.queues() if name.startswith("tasks.reply.")]


def test_a_result_is_what_the_function_returned(worker: Worker) -> None:
    """A number, and an object with a time and a tuple; the handle is the id, and knows the state with its times."""
    at = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
    sent = followed_jobs.add.options(follow=True, id="the-id").submit(2, b=3)
    receipt = followed_jobs.receipt.options(follow=True).submit(at)

    assert sent == sent.id == "the-id"
    assert sent.result(60) == 5
    assert sent.status().state is State.SUCCEEDED
    assert receipt.result(60) == Receipt(at.replace(hour=10), ("ä", '"'))
    assert {State.SUBMITTED, State.SUCCEEDED} <= receipt.status().times.keys()
    assert worker.await_event("done", id="the-id")


def test_results_of_async_tasks_and_on_loops(worker: Worker) -> None:
    """Fifty of a task that runs side by side, submitted and awaited on one loop."""

    async def submit_all() -> list[int]:
        handles = [await followed_jobs.add_async.options(follow=True).submit_async(n, 1) for n in range(50)]
        return list(await asyncio.gather(*(one.result_async(60) for one in handles)))

    assert asyncio.run(submit_all()) == list(range(1, 51))


def test_many_are_gathered(worker: Worker, publisher: Publisher) -> None:
    """Two thousand in order, and as they end."""
    add = followed_jobs.add.options(follow=True)
    handles = publisher.submit_many(add.message(n, n) for n in range(2000))

    assert gather(handles, timeout=120) == [2 * n for n in range(2000)]
    assert sorted(as_completed(handles, timeout=60)) == sorted(handles)


def test_who_dies_takes_no_result_of_others_along(worker: Worker, publisher: Publisher) -> None:
    """Ten of five hundred kill their process, among short ones that it has run and not reported yet."""
    add = followed_jobs.add_or_die.options(follow=True)
    handles = publisher.submit_many(add.message(n, n, dies=n % 50 == 25) for n in range(500))

    assert gather(handles, timeout=120) == [2 * n for n in range(500)]
    assert [n for n, handle in enumerate(handles) if handle.status().attempt > 1] == list(range(25, 500, 50))


def test_a_result_does_not_wait_for_a_task_that_has_become_slow(
    workers: Workers, publisher: Publisher, tmp_path: Path
) -> None:
    """Which its process runs after short ones of the same kind."""
    start(workers, "--processes", "2")
    go = tmp_path / "go"
    add = followed_jobs.add_until.options(follow=True)
    handles = publisher.submit_many(add.message(n, n, str(go) if n == 150 else "") for n in range(300))

    others = [handle for n, handle in enumerate(handles) if n != 150]
    assert gather(others, timeout=60) == [2 * n for n in range(300) if n != 150]
    assert not handles[150].status().state.is_final
    go.touch()
    assert handles[150].result(60) == 300


def test_a_failure_tells_why_and_where_it_lies(worker: Worker, vhost: Vhost) -> None:
    """After its last attempt; what is tried again is told meanwhile."""
    sent = followed_jobs.fail.options(follow=True).submit()
    kinds = [kind for kind, _ in sent.events(60) if kind is not Kind.STARTED]  # which a busy machine may tell

    with pytest.raises(TaskFailed, match=r"attempt 2 of 2: ValueError: no such mailbox; .* followed\.dlq") as failure:
        sent.result(0)
    assert failure.value.failure["traceback"].endswith("ValueError: no such mailbox\n")
    assert (failure.value.task_id, failure.value.lies_in) == (sent.id, "followed.dlq")
    assert kinds == [Kind.RETRYING, Kind.FAILED]
    assert [kind for kind, _ in sent.events(0) if kind is not Kind.STARTED] == kinds  # all of it again
    assert vhost.ids_in("followed.dlq") == [sent.id]


def test_it_is_seen_that_one_is_tried_again(worker: Worker) -> None:
    """With the reason and when; then it succeeds, and the reason is over."""
    sent = followed_jobs.fail_once.options(follow=True).submit()

    def look() -> Status | None:
        status = sent.status()
        return status if status.state is State.RETRYING else None

    retrying = await_value(look, "the state")

    assert retrying.failure is not None
    assert (retrying.failure["message"], retrying.attempt, retrying.of) == ("the first time", 1, 2)
    assert retrying.next_at == pytest.approx(retrying.times[State.RETRYING] + 0.3)
    assert sent.result(60) == 2
    assert (sent.status().failure, sent.status().attempt) == (None, 2)


def test_events_on_a_loop(worker: Worker) -> None:
    """The same, awaited."""

    async def listen() -> list[Kind]:
        sent = await followed_jobs.fail_once.options(follow=True).submit_async()
        return [kind async for kind, _ in sent.events_async(60) if kind is not Kind.STARTED]

    assert asyncio.run(listen()) == [Kind.RETRYING, Kind.SUCCEEDED]


def test_a_rejected_one_fails_at_once(worker: Worker) -> None:
    """Without another attempt."""
    with pytest.raises(TaskFailed, match="attempt 1 of 2: Reject: no use"):
        followed_jobs.reject.options(follow=True).submit().result(60)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("nan", "cannot be written as JSON: Out of range float"),
        ("object", "JSON has no word for a value of type builtins.object"),
        ("key", "the key 1 of an object is not text"),
        ("large", "1,100,002 bytes, over the limit of 1,048,576"),
    ],
)
def test_what_cannot_be_told_has_failed(worker: Worker, vhost: Vhost, what: str, why: str) -> None:
    """Once, for another run would return it again; one that nobody follows succeeds."""
    with pytest.raises(TaskFailed) as failure:
        followed_jobs.odd.options(follow=True).submit(what).result(60)

    assert failure.value.failure["type"] == "UnusableResult"
    assert why in str(failure.value)
    assert "attempt 1 of 2" in str(failure.value)
    unfollowed = followed_jobs.odd.submit(what)
    worker.await_event("done", id=unfollowed.id)


def test_a_result_of_another_type_than_it_says(worker: Worker) -> None:
    """It is named what was expected."""
    with pytest.raises(TaskFailed, match="not what '-> int' says: expected int, got str"):
        followed_jobs.wrong.options(follow=True).submit().result(60)


def test_a_message_that_cannot_be_read_fails_too(worker: Worker, publisher: Publisher) -> None:
    """Who waits is told, though nobody knows the task."""
    sent = publisher.publish(
        TaskMessage("followed.add", b'{"task": 7}', "odd-id", Route.direct("followed"), follow=True)
    )

    with pytest.raises(TaskFailed, match="no field 'task'"):
        sent.result(60)


def test_without_a_worker_it_has_not_ended(publisher: Publisher) -> None:
    """In the time that is given; the state says so."""
    sent = followed_jobs.add.options(follow=True).submit(1, 2)

    with pytest.raises(ResultTimeout, match=r"'followed\.add' has not ended within 0\.1 s; it is submitted"):
        sent.result(0.1)
    with pytest.raises(ResultTimeout, match=r"1 task\(s\) have not ended"):
        list(as_completed([sent], timeout=0.1))
    with pytest.raises(ResultTimeout):
        list(sent.events(0.1))
    with pytest.raises(ResultTimeout):
        asyncio.run(sent.result_async(0.1))


def test_who_is_not_followed_says_so(worker: Worker, publisher: Publisher) -> None:
    """And so does a copy in another process."""
    sent = followed_jobs.add.submit(1, 2)

    with pytest.raises(NotFollowed, match=r"options\(follow=True\)"):
        sent.result(1)
    with pytest.raises(NobodyAnswers, match="leveret recorder"):
        sent.status()
    handle = followed_jobs.add.options(follow=True).submit(1, 2)
    for copied in (pickle.loads(pickle.dumps(handle)), copy.deepcopy(handle)):
        assert (type(copied), copied, copied.task) == (Submitted, handle, "followed.add")
        with pytest.raises(NotFollowed):
            copied.result(1)
    assert handle.result(60) == 3


def test_nothing_of_it_without_following(worker: Worker, publisher: Publisher, vhost: Vhost) -> None:
    """No queue, no event of a success; a failure for good is told without its text."""
    listening(vhost, "heard", "task.#")
    worker.await_event("done", id=followed_jobs.add.submit(1, 2).id)
    worker.await_event("bury", id=followed_jobs.reject.submit().id)
    await_value(lambda: vhost.count("heard"), "the failure")

    (failed,) = told(vhost, "heard")
    assert (failed.kind, failed.task) == (Kind.FAILED, "followed.reject")
    assert failed.events[0]["failure"] == {"type": "Reject", "fingerprint": failed.events[0]["failure"]["fingerprint"]}
    assert not reply_queues(vhost)


def test_results_wait_in_a_classic_queue(worker: Worker, publisher: Publisher, vhost: Vhost) -> None:
    """Also in a virtual host whose default is a quorum queue, which would make each result wait for one more log."""
    vhost.api("PUT", f"vhosts/{vhost.name}", {"default_queue_type": "quorum"})

    handle = followed_jobs.add.options(follow=True).submit(1, 2)
    (name,) = reply_queues(vhost)

    assert vhost.api("GET", f"queues/{vhost.name}/{name}")["type"] == "classic"
    assert handle.result(60) == 3


def test_the_record_hears_all_of_it(worker: Worker, publisher: Publisher, vhost: Vhost) -> None:
    """A task that is always followed, and one for the record only: submitted, and what it returned."""
    listening(vhost, RECORD_QUEUE, "task.#")
    always = publisher.submit("followed.always", text="x")
    recorded = followed_jobs.add.options(follow="record").submit(1, 2)
    heard: dict[tuple[Kind, str], Event] = {}

    def kinds() -> set[tuple[Kind, str]]:
        heard.update({(one.kind, event["id"]): event for one in told(vhost, RECORD_QUEUE) for event in one.events})
        return {one for one in heard if one[0] is not Kind.STARTED}  # of what takes longer than a moment

    whole = {(kind, task) for kind in (Kind.SUBMITTED, Kind.SUCCEEDED) for task in (always, recorded)}
    await_value(lambda: kinds() >= whole, "the events")
    assert kinds() == whole
    assert heard[Kind.SUCCEEDED, recorded.id]["result"] == "3"
    assert always.result(60) == "x"
    with pytest.raises(NotFollowed):
        recorded.result(1)


@pytest.mark.parametrize("record", ["all", "off"])
def test_what_is_recorded_is_a_setting(publisher: Publisher, vhost: Vhost, workers: Workers, record: str) -> None:
    """Everything, or nothing that is not waited for."""
    worker = start(workers, RECORD=record)
    listening(vhost, "heard", "task.succeeded.#", "task.failed.#")
    unfollowed = [followed_jobs.add.submit(1, 2), followed_jobs.add.options(follow="record").submit(1, 2)]
    for sent in unfollowed:
        worker.await_event("done", id=sent.id)
    worker.await_event("bury", id=followed_jobs.reject.submit().id)
    assert followed_jobs.add.options(follow=True).submit(1, 2).result(60) == 3
    await_value(lambda: vhost.count("heard") >= {"all": 4, "off": 1}[record], "the events")

    assert sum(len(one.events) for one in told(vhost, "heard")) == {"all": 4, "off": 1}[record]


def test_a_handle_cancels(publisher: Publisher, workers: Workers) -> None:
    """What waits does not run, and who waits for it is told."""
    sent = followed_jobs.add.options(follow=True).submit(1, 2)
    sent.cancel("no need")
    start(workers)

    with pytest.raises(TaskCancelled, match="no need"):
        sent.result(60)
    assert sent.status().state is State.CANCELLED


def test_the_queue_goes_with_the_publisher(worker: Worker, vhost: Vhost) -> None:
    """And who still waits hears that nothing will come."""
    with Publisher(vhost.settings) as publisher:
        sent = publisher.publish(followed_jobs.wait_for.options(follow=True).message("/nowhere"))
        assert [name for name in vhost.queues() if name.startswith("tasks.reply.")]

    await_value(lambda: not [name for name in vhost.queues() if name.startswith("tasks.reply.")], "its end")
    with pytest.raises(ResultMissed, match="the publisher that waited for it is closed"):
        sent.result(60)


def test_a_lost_link_loses_no_result(worker: Worker, publisher: Publisher, vhost: Vhost, tmp_path: Path) -> None:
    """The queue is found again by its name; what was told meanwhile lies there."""
    go = tmp_path / "go"
    sent = followed_jobs.wait_for.options(follow=True).submit(str(go))

    cut(vhost)
    go.touch()
    assert sent.result(60) == "done"


def test_a_queue_that_cannot_be_found_is_left(
    worker: Worker, publisher: Publisher, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the one on a node that is down, of which no word comes: who waits hears it, and goes on elsewhere."""
    monkeypatch.setattr(replies, "_FIND_SECONDS", 0.0)
    sent = followed_jobs.wait_for.options(follow=True).submit("never")
    (queue,) = reply_queues(vhost)

    cut(vhost)
    with pytest.raises(ResultMissed, match="its node is down"):
        sent.result(60)
    assert followed_jobs.add_async.options(follow=True).submit(3, 4).result(60) == 7
    await_value(lambda: queue not in reply_queues(vhost), "the end of the former queue")
    assert len(reply_queues(vhost)) == 1


def test_where_several_nodes_are_known_results_outlive_one(worker: Worker, vhost: Vhost) -> None:
    """They wait in a quorum queue."""
    twice = replace(vhost.settings, amqp_url=f"{vhost.amqp_url};{vhost.amqp_url}")
    with Publisher(twice) as clustered:
        handle = clustered.publish(followed_jobs.add.options(follow=True).message(1, 2))
        assert handle.result(60) == 3
        (name,) = reply_queues(vhost)
        assert vhost.api("GET", f"queues/{vhost.name}/{name}")["type"] == "quorum"


def cut(vhost: Vhost) -> None:
    """Have the broker close the connection by which results come."""
    name = "leveret producer, waiting for results"

    def look() -> bool:
        connections = [
            one
            for one in vhost.api("GET", f"vhosts/{vhost.name}/connections")
            if name in one.get("client_properties", {}).get("connection_name", "")
        ]
        for one in connections:
            vhost.api("DELETE", f"connections/{one['name'].replace(' ', '%20').replace('>', '%3E')}")
        return bool(connections)

    await_value(look, "the connection that waits")


def test_without_the_right_to_wait(vhost: Vhost, publisher: Publisher) -> None:
    """Who may not declare the queue is told so, and nothing is submitted; without following all goes on."""
    with vhost.limited_user(write=".*") as url, Publisher(vhost.settings_for(url)) as limited:
        open_files = []
        for _ in range(5):
            with pytest.raises(AccessRefused, match="cannot wait for results"):
                limited.publish(followed_jobs.add.options(follow=True).message(1, 2))
            open_files.append(len(list(Path("/proc/self/fd").iterdir())))
        limited.publish(followed_jobs.add.message(1, 2))

    assert open_files[-1] <= open_files[0]  # no connection is left behind
    assert vhost.count("followed") == 1


def test_forged_and_broken_events_are_not_believed(publisher: Publisher, vhost: Vhost) -> None:
    """Garbage, another task's name, and a second end change nothing."""
    sent = followed_jobs.add.options(follow=True).submit(1, 2)
    (queue,) = [name for name in vhost.queues() if name.startswith("tasks.reply.")]

    def tell(kind: Kind, task: str, **fields: Any) -> None:
        event = events.write_event({"id": sent.id, "at": 2e9, **fields})
        vhost.publish(Route(EVENTS_EXCHANGE, queue), events.write(kind, task, "x:1", [event]))

    for garbage in (
        b"",
        b"\xff",
        b"[]",
        b'{"version": 1}',
        b'{"version":1,"kind":"x","task":"","worker":"","events":[]}',
    ):
        vhost.publish(Route(EVENTS_EXCHANGE, queue), garbage)
    tell(Kind.SUCCEEDED, "followed.other", result="1")
    tell(Kind.SUCCEEDED, "followed.add", result="2")
    tell(Kind.FAILED, "followed.add", failure={"type": "Lie"})

    assert sent.result(60) == 2
    await_value(lambda: vhost.count(queue) == 0, "the rest")
    assert sent.result(0) == 2


def test_an_id_that_is_submitted_again_is_waited_for_again(worker: Worker, tmp_path: Path) -> None:
    """Also under the name of another task: no handle has the result of another, and none waits in vain."""
    first = followed_jobs.add.options(follow=True, id="the-id").submit(1, 2)
    assert first.result(60) == 3
    again = followed_jobs.add.options(follow=True, id="the-id").submit(5, 6)
    assert (first.result(60), again.result(60)) == (3, 11)
    go = tmp_path / "go"
    held_up = followed_jobs.wait_for.options(follow=True, id="the-id").submit(str(go))
    other = followed_jobs.add_async.options(follow=True, id="the-id").submit(7, 8)
    with pytest.raises(ResultMissed, match="another task was submitted with the same id"):
        held_up.result(60)
    go.touch()
    assert other.result(60) == 15


def test_a_fork_is_told_nothing(worker: Worker, publisher: Publisher, tmp_path: Path) -> None:
    """And says so, instead of waiting for ever; what was told before is known there, too."""
    go = tmp_path / "go"
    over = followed_jobs.add.options(follow=True).submit(1, 2)
    assert over.result(60) == 3
    sent = followed_jobs.wait_for.options(follow=True).submit(str(go))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said: list[object] = []
        try:
            said.append(over.result(0))
            for wait in (
                lambda: sent.result(60),
                lambda: asyncio.run(sent.result_async(60)),
                lambda: list(sent.events(60)),
                lambda: list(as_completed([sent], timeout=60)),
            ):
                try:
                    said.append(wait())
                except NotFollowed as error:
                    said.append("forked" in str(error))
        finally:
            os.write(writing, json.dumps(said, default=repr).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert json.loads(pipe.read()) == [3, True, True, True, True]
    os.waitpid(child, 0)
    go.touch()
    assert sent.result(60) == "done"


@pytest.mark.parametrize("timeout", ["5", float("nan"), True, object()])
def test_what_no_timeout_is(publisher: Publisher, timeout: Any) -> None:
    """It is said by whatever waits."""
    sent = followed_jobs.add.options(follow=True).submit(1, 2)

    async def listen() -> list[Any]:
        return [one async for one in sent.events_async(timeout)]

    for wait in (
        lambda: sent.result(timeout),
        lambda: asyncio.run(sent.result_async(timeout)),
        lambda: list(sent.events(timeout)),
        lambda: asyncio.run(listen()),
        lambda: gather([sent], timeout=timeout),
        lambda: asyncio.run(gather_async([sent], timeout=timeout)),
        lambda: list(as_completed([sent], timeout=timeout)),
    ):
        with pytest.raises(MessageError, match="is not possible; give seconds, or None"):
            wait()


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_timeout_longer_than_any_clock(worker: Worker, timeout: float) -> None:
    """Is none."""
    add = followed_jobs.add.options(follow=True)

    async def wait() -> int:
        return await (await add.submit_async(1, 2)).result_async(timeout)

    assert add.submit(1, 2).result(timeout) == 3
    assert asyncio.run(wait()) == 3
    assert gather([add.submit(1, 2)], timeout=timeout) == [3]
    assert [one.result(0) for one in as_completed([add.submit(1, 2)], timeout=timeout)] == [3]
    assert [kind for kind, _ in add.submit(1, 2).events(timeout)] == [Kind.SUCCEEDED]


def test_gathering_says_how_long_it_has_waited(publisher: Publisher) -> None:
    """All of the time, not what was left of it for the one that has not ended."""
    add = followed_jobs.add.options(follow=True)
    with pytest.raises(ResultTimeout, match=r"has not ended within 0\.2 s"):
        gather([add.submit(1, 2)], timeout=0.2)
    with pytest.raises(ResultTimeout, match=r"has not ended within 0\.2 s"):
        asyncio.run(gather_async([add.submit(1, 2)], timeout=0.2))


def test_a_deleted_queue_is_made_again(
    worker: Worker, publisher: Publisher, vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waited hears that something may be missed, also of what ends before the queue is bound; then it goes on."""
    go, bind = tmp_path / "go", threading.Event()
    sent = followed_jobs.wait_for.options(follow=True).submit(str(go))
    opened: list[Any] = []

    async def open_late(connection: Any) -> Any:
        opened.append(connection)
        if len(opened) == 2:  # the first finds that the queue is gone, the second makes it again
            await asyncio.to_thread(bind.wait)
        return await open_channel(connection)

    listening(vhost, "heard", "task.succeeded.#")
    monkeypatch.setattr(replies, "open_channel", open_late)
    (queue,) = reply_queues(vhost)
    vhost.api("DELETE", f"queues/{vhost.name}/{queue}")
    await_value(lambda: len(opened) == 2, "the look for the queue")
    between = followed_jobs.add_async.options(follow=True).submit(1, 2)
    await_value(lambda: vhost.count("heard"), "how that ended")
    bind.set()

    for one in (between, sent):
        with pytest.raises(ResultMissed, match="somebody has deleted it, its node is down, or the"):
            one.result(60)
    assert followed_jobs.add_async.options(follow=True).submit(3, 4).result(60) == 7
    assert reply_queues(vhost) == [queue]
    go.touch()

    def look() -> str | None:
        with contextlib.suppress(ResultMissed):
            return sent.result(0)
        return None

    assert await_value(look, "what was missed, told after all") == "done"


def test_a_message_larger_than_any_worker_sends_is_not_kept(
    worker: Worker, publisher: Publisher, vhost: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, takes no memory, and what comes after it is heard."""
    add = followed_jobs.add.options(follow=True)
    assert add.submit(1, 2).result(60) == 3
    (queue,) = reply_queues(vhost)
    vhost.publish(Route(EVENTS_EXCHANGE, queue), b"x" * (5 * 1024 * 1024))

    assert add.submit(3, 4).result(60) == 7
    await_value(lambda: "a message of events has more than 4,194,304 bytes" in caplog.text, "what is said of it")


@pytest.mark.parametrize("follow", ["yes", 1, 0, object()])
def test_what_follow_can_be(follow: Any) -> None:
    """Nothing else, said when the options are made."""
    with pytest.raises(Exception, match="it is True, False or 'record'"):
        followed_jobs.add.options(follow=follow)


def leveret(vhost: Vhost, *arguments: str, stdin: str = "") -> tuple[int, list[Any], str]:
    """Run `leveret submit`; returns its status, what it printed as JSON, and what it said."""
    ended = run("producers.submit", "-a", JOBS, *arguments, stdin=stdin, AMQP_URL=vhost.amqp_url)
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def test_wait_on_the_command_line(worker: Worker, vhost: Vhost) -> None:
    """The result is what stdout has; the rest, the id included, is told beside it."""
    status, printed, said = leveret(vhost, "followed.add", "a=2", "b=3", "--wait", "--id", "the-id")

    assert (status, printed) == (0, [5])
    assert said.splitlines()[0] == "the-id"
    assert "succeeded  attempt 1 of 2" in said
    status, printed, said = leveret(vhost, "followed.fail", "--wait")
    assert (status, printed) == (4, [])
    assert [line.split("  ")[0].split()[0] for line in said.splitlines()[1:]] == ["failed", "failed"]
    assert "again in 0.3 s" in said
    assert "ValueError: no such mailbox; the message lies in followed.dlq" in said
    status, (row,), _ = leveret(vhost, "followed.add", "a=2", "b=3", "--wait", "--json")
    assert (status, row["state"], row["result"]) == (0, "succeeded", 5)


def test_wait_for_many_on_the_command_line(worker: Worker, vhost: Vhost) -> None:
    """A line of JSON for each as it ends; some of them may fail."""
    lines = "".join(f'{{"what": "{what}"}}\n' for what in ("nan", "large"))
    status, printed, _ = leveret(vhost, "followed.odd", "--file", "-", "--wait", stdin=lines)
    assert (status, {row["state"] for row in printed}, len(printed)) == (4, {"failed"}, 2)
    calls = "".join(f'{{"a": {n}, "b": 1}}\n' for n in range(30))
    status, printed, _ = leveret(vhost, "followed.add", "--file", "-", "--wait", "-q", stdin=calls)
    assert (status, sorted(row["result"] for row in printed)) == (0, list(range(1, 31)))


def test_wait_without_a_worker(publisher: Publisher, vhost: Vhost) -> None:
    """It has not ended in the time that was given, and goes on."""
    status, printed, said = leveret(vhost, "followed.add", "a=1", "b=2", "--wait", "--timeout", "0.2")

    assert (status, printed) == (5, [])
    assert "has not ended within 0.2 s; it is submitted; it goes on" in said
    assert vhost.count("followed") == 1


@pytest.mark.alone
@pytest.mark.parametrize("options", [("--prefetch", "2"), ()])
def test_in_an_alarm_tasks_that_nobody_follows_go_on(
    vhost: Vhost,
    publisher: Publisher,
    workers: Workers,
    control: BrokerControl,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    """However many followed ones wait before them to be told: those are told when the alarm is over, each once."""
    ran = tmp_path / "ran"
    handles = [followed_jobs.add.options(follow=True).submit(number, 1) for number in range(24)]
    for number in range(24):
        followed_jobs.append.submit(str(ran), str(number))
    more = [followed_jobs.add.options(follow=True).submit(number, 1) for number in range(24, 40)]
    followed_jobs.append.submit(str(ran), "last")
    with control.memory_alarm():
        await_value(lambda: vhost.api("GET", "nodes")[0].get("mem_alarm"), "the node's alarm")
        worker = start(workers, *options, queue="followed")
        await_value(lambda: ran.exists() and "last" in ran.read_text(), "the last one that nobody follows")
        over = [handle for handle in handles if handle.status().state is State.SUCCEEDED]
        beside = [one for one in worker.events if "taking others beside them" in one["message"]]

    assert gather([*handles, *more], timeout=60) == [number + 1 for number in range(40)]
    assert sorted(ran.read_text().split()) == sorted([*map(str, range(24)), "last"])
    assert over == []
    assert beside or not options
    assert worker.stop() == 0
