"""A batch: what is sent of each message, how an iterable is cut into batches, and when all have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from leveret.producers import batch
from leveret.producers.batch import Batch, Batches
from leveret.topology.errors import LeveretError, MessageTooLarge, NotRouted
from leveret.topology.link import frames
from leveret.topology.link.outbox import Outgoing
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route

OnEnded = Callable[[LeveretError | None], None]


class FakeOutbox:
    """Keeps what it is to send, and whom to tell how that ended."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.tell: list[OnEnded] = []
        self.timeouts: list[float | None] = []

    def send(self, outgoing: Outgoing, on_ended: OnEnded, timeout_seconds: float | None = None) -> None:
        self.sent.append(outgoing)
        self.tell.append(on_ended)
        self.timeouts.append(timeout_seconds)


def sent(*messages: TaskMessage, route: Any = None, limit_bytes: int = 1000) -> tuple[Batch, FakeOutbox]:
    """A batch of these messages, and the outbox it was given to."""
    outbox: Any = FakeOutbox()
    made = Batch(messages, route, limit_bytes, 2.5, None)
    made.send(outbox)
    return made, outbox


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (None, None, Route.topic("mail.send")),
        (Route.direct("mail"), None, Route.direct("mail")),
        (None, Route.fanout("k"), Route.fanout("k")),
        (Route.direct("mail"), Route.fanout("k"), Route.fanout("k")),
        (None, ("tasks.direct", "mail"), Route.direct("mail")),
        (None, ["tasks.direct", "mail"], Route.direct("mail")),
    ],
)
def test_the_route_is_what_was_given_or_the_messages_own_or_the_usual(
    own: Route | None, given: Any, expected: Route
) -> None:
    """In this order."""
    _, outbox = sent(TaskMessage.create("mail.send", id="a", route=own), route=given)

    assert [outgoing.route for outgoing in outbox.sent] == [expected]
    assert isinstance(outbox.sent[0].route, Route)


def test_what_is_sent_goes_the_short_way() -> None:
    """The properties are those that frames.py writes itself; id, persistence and time are among them."""
    before = int(time.time())
    _, outbox = sent(TaskMessage.create("mail.send", id="order-17"))
    ((route, body, properties),) = ((one.route, one.body, one.properties) for one in outbox.sent)

    assert frames.write_publish(1, *route, properties, body, 1000) is not None
    assert (properties.message_id, properties.delivery_mode) == ("order-17", 2)
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert before <= properties.timestamp <= time.time()
    assert outbox.timeouts == [2.5]


def test_all_have_ended_when_the_last_has() -> None:
    """Whatever order they end in, each outcome stands at its message's place."""
    ended: list[bool] = []
    outbox: Any = FakeOutbox()
    made = Batch([TaskMessage.create("a") for _ in range(3)], None, 1000, None, lambda: ended.append(True))
    made.send(outbox)
    refused = NotRouted("no queue")
    outbox.tell[2](None)
    outbox.tell[0](refused)
    assert ended == []
    outbox.tell[1](None)

    assert ended == [True]
    assert made.outcomes == [refused, None, None]


def test_what_is_too_large_is_refused_and_the_rest_sent() -> None:
    """The broker would close the channel for it."""
    large = TaskMessage.create("a", ["x" * 100])
    made, outbox = sent(TaskMessage.create("a", id="one"), large, TaskMessage.create("a", id="two"), limit_bytes=100)
    for tell in outbox.tell:
        tell(None)
    first, second, third = made.wait()

    assert [outgoing.id for outgoing in outbox.sent] == ["one", "two"]
    assert (first, third) == (None, None)
    assert isinstance(second, MessageTooLarge)
    assert "message of task 'a' is " in str(second)


def test_nothing_but_what_is_too_large_has_ended_at_once() -> None:
    """Nobody waits for it."""
    made, outbox = sent(TaskMessage.create("a", ["x" * 100]), limit_bytes=100)

    assert outbox.sent == []
    assert [type(outcome) for outcome in made.wait()] == [MessageTooLarge]


def test_an_iterable_is_cut_by_number_and_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever comes first; the end is an empty batch, again and again."""
    monkeypatch.setattr(batch, "_BATCH_MESSAGES", 3)
    monkeypatch.setattr(batch, "_BATCH_BYTES", 1000)
    sizes = [10, 10, 10, 10, 2000, 10, 500, 600, 10]
    batches = Batches(TaskMessage("a", b"x" * size) for size in sizes)
    taken = [[len(message.body) for message in batches.take()] for _ in range(6)]

    assert taken == [[10, 10, 10], [10, 2000], [10, 500, 600], [10], [], []]
    assert batches.failure is None


def test_what_an_iterable_raises_is_its_end() -> None:
    """What came before it is a batch, and the failure is kept for the end."""

    def failing() -> Iterator[TaskMessage]:
        yield TaskMessage.create("a", id="one")
        raise ZeroDivisionError

    batches = Batches(failing())

    assert [message.id for message in batches.take()] == ["one"]
    assert isinstance(batches.failure, ZeroDivisionError)
    assert batches.take() == []
