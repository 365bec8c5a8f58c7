"""What a task and its options make of a call, with a publisher that has no broker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.task import Task
from leveret.producers import default
from leveret.topology import queues, registry
from leveret.topology.errors import MessageError
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue


class FakePublisher:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.published: list[tuple[TaskMessage, Route | None, float | None]] = []

    def publish(self, message: TaskMessage, route: Route | None = None, *, timeout: float | None = None) -> str:
        self.published.append((message, route, timeout))
        return message.id

    async def publish_async(
        self, message: TaskMessage, route: Route | None = None, *, timeout: float | None = None
    ) -> str:
        await asyncio.sleep(0)
        return self.publish(message, route, timeout=timeout)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    """The publisher of this process."""
    made = FakePublisher()

    async def awaited() -> FakePublisher:
        return made

    monkeypatch.setattr(default, "default_publisher", lambda: made)
    monkeypatch.setattr(default, "default_publisher_async", awaited)
    return made


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Task[[str, int], None]:
    """A task; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})

    @task("mail.send", queue=WorkQueue("mail"))
    def send(to: str, copies: int = 1) -> None: ...

    return send


def call_of(message: TaskMessage) -> tuple[Any, Any]:
    """The arguments that a worker will read."""
    document = json.loads(message.body)
    assert document["task"] == message.task == "mail.send"
    return document["args"], document["kwargs"]


def test_a_message_carries_id_and_route(send: Task[..., None]) -> None:
    """So `submit_many` and `publish` need no word about either."""
    message = send.options(id="order-17", exchange="fanout", routing_key="k").message("a", copies=2)

    assert (message.id, message.route) == ("order-17", Route.fanout("k"))
    assert call_of(message) == (["a"], {"copies": 2})


def test_a_plain_message_has_an_id_of_its_own_and_the_usual_route(send: Task[..., None]) -> None:
    """Each time another one."""
    first, second = send.message(to="a"), send.message(to="a")

    assert first.id != second.id
    assert first.route is second.route is None
    assert first.body == second.body


def test_a_message_keeps_no_timeout(send: Task[..., None]) -> None:
    """Who gives one to a message would wait for another: it is for what sends the message."""
    with pytest.raises(MessageError, match="keeps no timeout; give it to submit_many or publish, which sends"):
        send.options(timeout=5).message("a")


def test_submitting_publishes_with_all_options(send: Task[..., None], publisher: FakePublisher) -> None:
    """The route is the message's own, and the timeout the publish's."""
    assert send.options(id="order-17", queue="urgent", timeout=2.5).submit("a") == "order-17"
    ((message, route, timeout),) = publisher.published

    assert (message.id, message.route, route, timeout) == ("order-17", Route.direct("urgent"), None, 2.5)
    assert call_of(message) == (["a"], {})


def test_submitting_async_is_the_same(send: Task[..., None], publisher: FakePublisher) -> None:
    """Awaited, with the same message."""
    assert asyncio.run(send.options(id="a", routing_key="mail.urgent", timeout=1).submit_async("a")) == "a"
    asyncio.run(send.submit_async("b", copies=2))
    (first, second) = publisher.published

    assert (first[0].id, first[0].route, first[1:]) == ("a", Route.topic("mail.urgent"), (None, 1))
    assert (second[0].route, second[1:], call_of(second[0])) == (None, (None, None), (["b"], {"copies": 2}))


def test_a_task_submits_itself(send: Task[..., None], publisher: FakePublisher) -> None:
    """Without options nothing is unusual about it."""
    task_id = send.submit(to="a")
    ((message, route, timeout),) = publisher.published

    assert (message.id, message.route, route, timeout) == (task_id, None, None, None)
    assert call_of(message) == ([], {"to": "a"})


@pytest.mark.parametrize("way", ["submit", "submit_async", "message"])
def test_a_call_that_cannot_be_is_refused_before_anything_is_sent(
    way: str, send: Any, publisher: FakePublisher
) -> None:
    """However it is made, and with options as without."""

    def make(maker: Any) -> None:
        made = getattr(maker, way)(copies=2)
        if way == "submit_async":
            asyncio.run(made)

    for maker in (send, send.options(id="a")):
        with pytest.raises(MessageError, match=r"task 'mail\.send' cannot be called like this: missing"):
            make(maker)
    assert publisher.published == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"id": ""}, "cannot be a task id"),
        ({"id": "x" * 256}, "cannot be a task id"),
        ({"id": "two\nlines"}, "cannot be a task id"),
        ({"id": 17}, "cannot be a task id"),
        ({"queue": "q", "exchange": "topic"}, "queue is a way of the direct exchange"),
        ({"exchange": "direct"}, "the direct exchange needs a queue"),
        ({"exchange": "headers"}, "there is no exchange 'headers'"),
        ({"routing_key": "x" * 256}, "routing key .* is longer"),
        ({"timeout": 0}, "a timeout of 0 is not possible"),
        ({"timeout": "5"}, "a timeout of '5' is not possible"),
    ],
)
def test_options_that_cannot_be_are_refused_where_they_are_given(
    given: dict[str, Any], reason: str, send: Task[..., None]
) -> None:
    """Not later, where they are used."""
    with pytest.raises(MessageError, match=reason):
        send.options(**given)


def test_options_are_a_value(send: Task[..., None]) -> None:
    """They may be kept and used again, and do not change the task."""
    urgent = send.options(queue="urgent")

    assert urgent == send.options(queue="urgent")
    assert urgent != send.options()
    assert urgent.message("a").id != urgent.message("a").id
    assert send.message("a").route is None
    with pytest.raises(FrozenInstanceError):
        urgent.id = "a"  # type: ignore[misc]


def test_the_functions_of_the_package_use_the_same_publisher(send: Task[..., None], publisher: FakePublisher) -> None:
    """A message that is published by hand goes its own way."""
    message = send.options(queue="urgent").message("a")

    assert default.publish(message) == default.publish(message, Route.fanout(), timeout=3) == message.id
    assert publisher.published == [(message, None, None), (message, Route.fanout(), 3)]


@pytest.fixture
def post(send: Task[[str, int], None]) -> Task[[str], None]:
    """A task whose queue has priorities, beside one whose queue has none."""

    @task("post.send", queue=WorkQueue("post", priorities=True, fanout=True))
    def post(to: str) -> None: ...

    return post


@pytest.mark.parametrize("level", ["high", "normal", "low"])
def test_a_priority_is_a_header(level: Any, post: Task[[str], None], publisher: FakePublisher) -> None:
    """By which the broker chooses; without one there is no header."""
    post.options(priority=level).submit("a")
    post.submit("b")

    assert [message.headers for message, _, _ in publisher.published] == [{"priority": level}, None]


@pytest.mark.parametrize("level", ["urgent", "", "HIGH", 1, True, ["high"]])
def test_an_unknown_priority_is_refused(level: Any, post: Task[[str], None]) -> None:
    """With those there are."""
    with pytest.raises(MessageError, match=r"priority is .*; it is one of high, normal, low"):
        post.options(priority=level)


@pytest.mark.parametrize("options", [{}, {"queue": "mail"}, {"exchange": "topic", "routing_key": "mail.now"}])
def test_a_priority_for_a_queue_without_is_refused(options: dict[str, Any], send: Task[[str, int], None]) -> None:
    """Where the queue is known here, by whichever way it is reached; one that is not known may have them."""
    with pytest.raises(
        MessageError, match=r"task 'mail.send' cannot have priority 'high': queue 'mail' has no priorities; "
    ):
        send.options(priority="high", **options)
    assert send.options(priority="high", queue="elsewhere").message("a", 1).headers == {"priority": "high"}


def test_a_fanout_reaches_queues_of_both_kinds(post: Task[[str], None]) -> None:
    """So a priority means something where one of them has it."""
    assert post.options(exchange="fanout", priority="low").message("a").headers == {"priority": "low"}
