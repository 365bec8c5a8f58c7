"""Publishing: where a confirmed message is, and what is said when it could not be confirmed."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pika
import pytest

from leveret import (
    LeveretError,
    MessageError,
    MessageTooLarge,
    NotRouted,
    PartlySubmitted,
    Publisher,
    Route,
    TaskMessage,
    Unwritable,
    publish,
    submit,
    submit_async,
    submit_many,
)
from leveret.producers import default, not_routed
from leveret.topology import queues
from tests.broker.jobs import jobs, write
from tests.broker.other_jobs import others
from tests.broker.support import Vhost, queues_of


@pytest.fixture
def own_publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the functions of `leveret` begin with no publisher, and close the one they make."""
    vhost.declare(jobs)
    monkeypatch.setenv("AMQP_URL", vhost.amqp_url)
    monkeypatch.setattr(default, "_default", None)
    yield
    default.default_publisher().close()


@pytest.mark.parametrize(
    ("route", "reached"),
    [
        (None, {jobs.name}),
        (Route.topic("jobs.something.else"), {jobs.name}),
        (Route.direct(jobs.name), {jobs.name}),
        (Route.direct(others.name), {others.name}),
        (Route.fanout(), {jobs.name, others.name}),
        (Route("", jobs.name), {jobs.name}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # the same in every process
)
def test_every_route(vhost: Vhost, publisher: Publisher, route: Route | None, reached: set[str]) -> None:
    """A message lies in the queues of its route and in no other, persistent, dated, as JSON, under the id returned."""
    vhost.declare(jobs, others)
    before = int(time.time())

    task_id = publisher.publish(TaskMessage.create("jobs.write", ["x"], {"ä": "ö"}), route)

    assert {queue for queue in (jobs.name, others.name) if vhost.count(queue)} == reached
    for queue in reached:
        (found,) = vhost.take(queue)
        assert found.properties.message_id == task_id
        assert before <= found.properties.timestamp <= time.time()
        assert found.properties.delivery_mode == pika.DeliveryMode.Persistent.value
        assert (found.properties.content_type, found.properties.content_encoding) == ("application/json", "utf-8")
        assert json.loads(found.body) == {"version": 1, "task": "jobs.write", "args": ["x"], "kwargs": {"ä": "ö"}}


@pytest.mark.usefixtures("own_publisher")
def test_every_way_to_submit(vhost: Vhost) -> None:
    """submit, submit_many, submit_async and publish return one id for each message, and the broker has them all."""
    ids = [
        submit("jobs.fail", "a"),
        submit(write, path="b"),
        *submit_many("jobs.write", [{"path": "c"}, {"path": "d"}]),
        *submit_many("jobs.write", ({"path": "e"} for _ in range(1)), Route.direct(jobs.name)),
        asyncio.run(submit_async("jobs.write", path="f")),
        write.submit(path="g"),
        asyncio.run(write.submit_async("h")),
        write.options(id="my own", queue=jobs.name).submit(path="i"),
        *submit_many([write.message(path="j"), write.options(exchange="fanout").message(path="k")]),
        publish(TaskMessage.create("jobs.write", id="by hand"), Route.direct(jobs.name)),
    ]

    assert submit_many("jobs.write", []) == []
    assert len(set(ids)) == 12
    assert {"my own", "by hand"} < set(ids)
    assert vhost.ids_in(jobs.name) == sorted(ids)


def test_many_threads(vhost: Vhost, publisher: Publisher) -> None:
    """Eight threads that submit 500 tasks each at once put 4,000 messages into the queue, each exactly once."""

    def submit_some(thread: int) -> list[str]:
        return [publisher.submit("jobs.write", path=f"{thread}/{number}") for number in range(500)]

    with ThreadPoolExecutor(8) as threads:
        ids = [task_id for some in threads.map(submit_some, range(8)) for task_id in some]

    assert len(set(ids)) == 4000
    assert vhost.ids_in(jobs.name) == sorted(ids)


def test_many_coroutines(vhost: Vhost, publisher: Publisher) -> None:
    """A thousand submits gathered on one event loop put a thousand messages into the queue, each exactly once."""

    async def submit_all() -> list[str]:
        return list(await asyncio.gather(*(publisher.submit_async("jobs.write", path=str(n)) for n in range(1000))))

    ids = asyncio.run(submit_all())

    assert len(set(ids)) == 1000
    assert vhost.ids_in(jobs.name) == sorted(ids)


def test_one_message_many_times_at_once(vhost: Vhost, publisher: Publisher) -> None:
    """The same message published side by side is confirmed as often as it was published."""
    message = TaskMessage.create("jobs.write")

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: publisher.publish(message), range(20)))

    assert vhost.ids_in(jobs.name) == ids == [message.id] * 20


@pytest.mark.parametrize(
    ("route", "texts"),
    [
        (Route.topic("jbos.write"), ["'tasks.topic'", "'jbos.write'", "nearest binding is 'jobs.#'"]),
        (Route.direct("jbos"), ["'tasks.direct'", "'jbos'", "nearest binding is 'jobs'"]),
        (Route.fanout(), ["'tasks.fanout'", "no queue bound", "leveret declare -a MODULE"]),
        (Route("nowhere", "jobs"), ["no exchange 'nowhere'", "leveret declare"]),
    ],
    ids=lambda value: value.exchange if isinstance(value, Route) else "",
)
def test_not_routed(
    vhost: Vhost, publisher: Publisher, monkeypatch: pytest.MonkeyPatch, route: Route, texts: list[str]
) -> None:
    """A message for no queue that anybody knows raises NotRouted and says what is bound; those beside it arrive."""
    monkeypatch.setattr(queues, "_known", {})
    with vhost.connect() as connection:
        connection.channel().queue_unbind(jobs.name, "tasks.fanout", "")

    async def publish_all() -> list[str | BaseException]:
        routes = [route if number % 10 == 3 else None for number in range(100)]
        sent = (publisher.publish_async(TaskMessage.create("jobs.write", id=str(n)), r) for n, r in enumerate(routes))
        return list(await asyncio.gather(*sent, return_exceptions=True))

    outcomes = asyncio.run(publish_all())

    failed = {str(number): outcome for number, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)}
    assert set(failed) == {str(number) for number in range(3, 100, 10)}
    for task_id, error in failed.items():
        assert isinstance(error, NotRouted)
        assert error.task_id == task_id
        assert [text for text in texts if text not in str(error)] == []
    assert set(vhost.ids_in(jobs.name)) == {str(number) for number in range(100)} - set(failed)


@pytest.fixture
def knows_two_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """This program has two work queues, whatever other tests have defined."""
    monkeypatch.setattr(queues, "_known", {queue.name: queue for queue in (jobs, others)})


FIRST: dict[str, Callable[[Publisher], Sequence[str]]] = {
    "submit": lambda publisher: [publisher.submit("jobs.fail")],
    "submit_async": lambda publisher: [asyncio.run(publisher.submit_async("jobs.fail"))],
    "submit_many": lambda publisher: publisher.submit_many("jobs.fail", [{}] * 1500),
    "publish": lambda publisher: [publisher.publish(TaskMessage.create("jobs.nowhere"), Route.direct("jobs"))],
}


@pytest.mark.usefixtures("knows_two_queues")
@pytest.mark.parametrize("way", FIRST)
def test_the_first_message_declares_its_queue(vhost: Vhost, way: str) -> None:
    """On a fresh broker what is for a queue that this program knows arrives, once, and no other queue is declared."""
    with Publisher(vhost.settings) as fresh:
        ids = FIRST[way](fresh)

    assert len(set(ids)) == len(ids)
    assert vhost.queues() == queues_of(jobs)
    assert vhost.ids_in(jobs.name) == sorted(ids)


@pytest.mark.usefixtures("knows_two_queues")
def test_a_queue_that_is_gone_is_declared_again(vhost: Vhost, publisher: Publisher) -> None:
    """Deleted between two messages, it is declared again for the second; unbound from an exchange, bound again."""
    publisher.submit("jobs.fail")
    with vhost.connect() as connection:
        connection.channel().queue_delete(jobs.name)

    again = publisher.submit("jobs.fail")
    with vhost.connect() as connection:
        connection.channel().queue_unbind(jobs.name, "tasks.fanout", "")
    to_all = publisher.publish(TaskMessage.create("jobs.fail"), Route.fanout())

    assert vhost.ids_in(jobs.name) == sorted([again, to_all])
    assert vhost.ids_in(others.name) == [to_all]


@pytest.mark.usefixtures("knows_two_queues")
def test_many_threads_on_a_fresh_broker(vhost: Vhost) -> None:
    """Whoever comes first declares, and the messages of all the others arrive as well, each exactly once."""
    with Publisher(vhost.settings) as fresh, ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: fresh.submit("jobs.fail"), range(100)))

    assert vhost.ids_in(jobs.name) == sorted(ids)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: write.submit(pth="x"), "'jobs.write' cannot be called like this: missing .* 'path'"),  # type: ignore[call-arg]
        (lambda: submit("jobs.wirte", path="x"), "no task 'jobs.wirte' for queue 'jobs' .*mean 'jobs.write'"),
        (lambda: submit_many("jobs.write", [{"path": "x"}, {}]), "1 of 2 messages .*missing .* 'path'"),
    ],
)
@pytest.mark.usefixtures("own_publisher")
def test_a_call_that_no_worker_could_run(vhost: Vhost, call: Callable[[], object], text: str) -> None:
    """Where the tasks are loaded, a wrong name or argument is refused before anything of it is sent."""
    with pytest.raises(LeveretError, match=text) as caught:
        call()

    assert vhost.ids_in(jobs.name) == sorted(filter(None, getattr(caught.value, "task_ids", ())))


def test_too_large(vhost: Vhost, publisher: Publisher) -> None:
    """A message over the limit raises MessageTooLarge with both sizes; it is not sent, and the next one is."""
    with pytest.raises(MessageTooLarge, match=r"1,0\d\d,\d\d\d bytes, over the limit of 1,048,576"):
        publisher.submit("jobs.fail", text="x" * 1024 * 1024)

    good = publisher.submit("jobs.fail", text="x" * 1_000_000)

    assert vhost.ids_in(jobs.name) == [good]


@pytest.mark.parametrize(
    "value",
    [object(), print, {1: 2}, math.nan, math.inf, "\ud800"],
    ids=["object", "function", "key", "nan", "inf", "surrogate"],
)
def test_arguments_that_are_no_json(vhost: Vhost, publisher: Publisher, value: Any) -> None:
    """Arguments that JSON cannot hold raise MessageError naming the task, and nothing is sent."""
    with pytest.raises(MessageError, match=r"argument number 1 of task 'jobs\.write' cannot be written as JSON"):
        publisher.submit("jobs.write", {"deep": [value]})

    assert vhost.count(jobs.name) == 0


def test_bad_call_among_many(vhost: Vhost, publisher: Publisher) -> None:
    """When one of many calls cannot be written as JSON, the error tells the ids of all that were submitted."""
    calls = [{"path": math.nan if number == 2500 else str(number)} for number in range(3000)]

    with pytest.raises(PartlySubmitted, match=r"1 of 3000 .*number 2500: .*'path' .* cannot be written") as caught:
        publisher.submit_many("jobs.write", calls)

    publisher.close()
    assert vhost.ids_in(jobs.name) == sorted(filter(None, caught.value.task_ids))


def test_calls_that_end_in_an_error(vhost: Vhost, publisher: Publisher) -> None:
    """When the iterable itself raises, the ids of all that it gave before are told, and its error is the cause."""

    def calls() -> Iterator[dict[str, str]]:
        yield from ({"path": str(number)} for number in range(1500))
        raise OSError("the disk is gone")

    with pytest.raises(PartlySubmitted, match=r"number 1500: .*OSError: the disk is gone") as caught:
        publisher.submit_many("jobs.write", calls())

    *ids, none = caught.value.task_ids
    assert none == ""
    assert vhost.ids_in(jobs.name) == sorted(ids)
    assert isinstance(caught.value.failures[0][1].__cause__, OSError)


def test_messages_that_end_in_an_error(vhost: Vhost, publisher: Publisher) -> None:
    """What the messages raise is raised when the outcome of each that came before is told."""

    def messages() -> Iterator[TaskMessage]:
        yield from (TaskMessage.create("jobs.write") for _ in range(1500))
        raise OSError("the disk is gone")

    told: list[tuple[str, object]] = []
    with pytest.raises(OSError, match="disk"):
        told.extend((message.id, outcome) for message, outcome in publisher.publish_many(messages()))

    # extend keeps what came before the error
    assert [outcome for _, outcome in told] == [None] * 1500
    assert vhost.ids_in(jobs.name) == sorted(task_id for task_id, _ in told)


def test_large_messages_leave_in_smaller_pieces(vhost: Vhost, publisher: Publisher) -> None:
    """Few of a thousand large messages are in memory at once, and none waits for the bytes of all the others."""
    taken = 0

    def messages() -> Iterator[TaskMessage]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield TaskMessage.create("jobs.write", ["x" * 500_000])

    ahead = [taken - told for told, _ in enumerate(publisher.publish_many(messages()))]

    assert max(ahead) <= 18
    assert vhost.count(jobs.name) == len(ahead) == 40


def test_advice_is_asked_for_once(vhost: Vhost, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages are not routed, the management API is asked once what is bound."""
    asked: list[object] = []
    ask = not_routed.advice

    def counting(*given: Any) -> str:
        asked.append(given)
        return ask(*given)

    monkeypatch.setattr(not_routed, "advice", counting)

    with pytest.raises(PartlySubmitted, match=r"30 of 30 .* nearest binding is 'jobs\.#'"):
        publisher.submit_many("jbos.write", [{}] * 30)

    assert len(asked) == 1
    assert vhost.count(jobs.name) == 0


@pytest.mark.usefixtures("own_publisher")
def test_the_loop_goes_on_while_the_broker_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first submit_async may have to look for a broker; others on its loop do not wait for that."""
    found, looked = threading.Event(), default.default_publisher

    def slow() -> Publisher:
        assert found.wait(60)
        return looked()

    async def submit() -> None:
        submitted = asyncio.create_task(submit_async("jobs.fail"))
        await asyncio.sleep(0)
        found.set()
        await submitted

    with monkeypatch.context() as patch:
        patch.setattr(default, "default_publisher", slow)
        asyncio.run(submit())


@pytest.mark.parametrize(
    "route",
    [
        Route.topic("k" * 256),
        Route.direct("\N{GREEK SMALL LETTER ALPHA}" * 128),
        Route("e" * 256, "k"),
        Route.topic("\ud800"),
    ],
    ids=["topic", "direct", "exchange", "surrogate"],
)
def test_route_that_cannot_be_sent(vhost: Vhost, route: Route) -> None:
    """A route that AMQP cannot carry raises Unwritable at once, and the messages sent beside it arrive."""
    vhost.declare(jobs)

    async def publish_all() -> list[str | BaseException]:
        messages = [TaskMessage.create("jobs.write", id=str(number)) for number in range(9)]
        publishing = (own.publish_async(one, route if one.id == "4" else None) for one in messages)
        return list(await asyncio.wait_for(asyncio.gather(*publishing, return_exceptions=True), timeout=60))

    with Publisher(replace(vhost.settings, publish_timeout_seconds=2)) as own:
        outcomes = asyncio.run(publish_all())

    refusal = outcomes.pop(4)
    assert isinstance(refusal, Unwritable)
    assert "message 4 cannot be written" in str(refusal)
    assert outcomes == vhost.ids_in(jobs.name) == list("01235678")


def test_a_route_may_be_any_pair(vhost: Vhost, publisher: Publisher) -> None:
    """Also when there is something to say about it."""
    message = TaskMessage.create("jobs.write")
    by_direct: Any = ["tasks.direct", jobs.name]
    to_nobody: Any = ("tasks.direct", "nobody")

    publisher.publish(message, by_direct)
    with pytest.raises(NotRouted, match="'nobody'"):
        publisher.publish(message, to_nobody)
    with pytest.raises(MessageError, match=r"\['tasks.direct'\] is no Route; write Route.direct"):
        publisher.publish(message, by_direct[:1])

    assert vhost.ids_in(jobs.name) == [message.id]


def test_the_common_message_takes_the_short_way(
    publisher: Publisher, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pika's own way, several times as long, is for the uncommon."""
    ways: list[str] = []
    by_pika = pika.channel.Channel.basic_publish

    def publish(*given: Any, **named: Any) -> None:
        ways.append("pika")
        by_pika(*given, **named)

    monkeypatch.setattr(pika.channel.Channel, "basic_publish", publish)

    small = publisher.submit("jobs.fail", text="x")
    assert ways == []
    large = publisher.submit("jobs.fail", text="x" * 300_000)  # more than one frame of the protocol

    assert ways == ["pika"]
    assert [(dead.properties.message_id, len(dead.body) > 300_000) for dead in vhost.take("jobs")] == [
        (small, False),
        (large, True),
    ]
