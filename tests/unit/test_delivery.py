"""A delivery: what is read off a message as it comes off its queue."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from leveret.consumers.settling.delivery import Delivery
from leveret.topology import queues
from leveret.topology.queues import WorkQueue


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue; tests know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})
    return WorkQueue("words", retry_delays=(1, 5))


def delivered(
    queue: WorkQueue, key: str | bytes = "words.count", redelivered: bool = False, **properties: Any
) -> Delivery:
    """A delivery as the consumer makes it."""
    settler: Any = None
    method = pika.spec.Basic.Deliver("consumer", 7, redelivered, "tasks.topic", key)
    return Delivery(settler, queue, method, pika.BasicProperties(**properties), b"{}")


@pytest.mark.parametrize(
    ("key", "attempt"), [("words", 1), ("words.count", 1), ("", 1), ("words@3", 3), ("other@3", 1)]
)
def test_the_attempt_comes_from_the_key(key: str, attempt: int, words: WorkQueue) -> None:
    """The key it was last routed by is the attempt counter."""
    delivery = delivered(words, key)

    assert (delivery.tag, delivery.attempt, delivery.routing_key) == (7, attempt, key)


@pytest.mark.parametrize(
    ("headers", "returns"),
    [
        (None, 0),
        ({}, 0),
        ({"x-delivery-count": 3}, 3),
        ({"x-delivery-count": "3"}, 0),
        ({"x-delivery-count": None}, 0),
        ({"x-delivery-count": {}}, 0),
    ],
)
def test_returns_are_the_brokers_count(headers: dict[str, Any] | None, returns: int, words: WorkQueue) -> None:
    """Deliveries without a verdict are counted by the broker; what is no number is no count."""

    assert delivered(words, redelivered=True, headers=headers).returns == returns


@pytest.mark.parametrize("forged", [1_000_000_000, -3, "5", True])
def test_a_count_on_a_first_delivery_is_not_the_brokers(forged: object, words: WorkQueue) -> None:
    """What a client wrote into the broker's header gets no fine message buried, not even once it is handed back."""
    delivery = delivered(words, headers={"x-delivery-count": forged})

    assert (delivery.returns, delivery.is_forged) == (0, True)


def test_a_count_of_the_brokers_is_not_forged(words: WorkQueue) -> None:
    """Neither the count of a message that came back, nor one that RabbitMQ 4.3 keeps through dead-lettering."""
    counted = {"x-delivery-count": 3}

    assert not delivered(words, redelivered=True, headers=counted).is_forged
    assert not delivered(words, "words@2", headers=counted).is_forged


def test_a_key_and_an_id_that_are_no_utf_8(words: WorkQueue) -> None:
    """Short strings of any bytes are shown escaped, and the key of attempts is not mistaken."""
    delivery = delivered(words, b"words.\xff", message_id=b"id-\xff")

    assert (delivery.routing_key, delivery.attempt, delivery.id) == ("words.\\xff", 1, "id-\\xff")


@pytest.mark.parametrize(("message_id", "expected"), [(None, ""), ("", ""), ("id-1", "id-1")])
def test_a_message_without_an_id_has_an_empty_one(message_id: str | None, expected: str, words: WorkQueue) -> None:
    """The id is text in any case."""

    assert delivered(words, message_id=message_id).id == expected
