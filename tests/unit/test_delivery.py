"""A delivery: what is read off a message as it comes off its queue."""

from __future__ import annotations

from datetime import datetime
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
    queue: WorkQueue,
    key: str | bytes = "words.count",
    redelivered: bool = False,
    exchange: str | bytes = "tasks.topic",
    **properties: Any,
) -> Delivery:
    """A delivery as the consumer makes it."""
    settler: Any = None
    method = pika.spec.Basic.Deliver("consumer", 7, redelivered, exchange, key)
    return Delivery(settler, queue, method, pika.BasicProperties(**properties), b"{}")


@pytest.mark.parametrize(
    ("key", "attempt"), [("words", 1), ("words.count", 1), ("", 1), ("words@3", 3), ("other@3", 1)]
)
def test_the_attempt_comes_from_the_key(key: str, attempt: int, words: WorkQueue) -> None:
    """The key it was last routed by is the attempt counter, where it came by the exchange of retries."""
    delivery = delivered(words, key, exchange="tasks.again")

    assert (delivery.tag, delivery.attempt, delivery.routing_key, delivery.is_forged) == (7, attempt, key, False)


@pytest.mark.parametrize("exchange", ["tasks.direct", "tasks.topic", "tasks.fanout", "", b"tasks.again\xff"])
def test_elsewhere_the_key_of_an_attempt_is_forged(exchange: str | bytes, words: WorkQueue) -> None:
    """A producer's message begins at attempt 1, and loses the key by which it would skip some."""
    delivery = delivered(words, "words@3", exchange=exchange)

    assert (delivery.attempt, delivery.is_forged) == (1, True)
    assert not delivered(words, "other@3", exchange=exchange).is_forged


DEATH = {
    "count": 1,
    "reason": "rejected",
    "queue": "words",
    "time": datetime(2026, 1, 1),
    "exchange": "tasks.topic",
    "routing-keys": ["words.count"],
}
EXPIRED = {**DEATH, "reason": "expired", "queue": "words.retry.1.after.1s", "original-expiration": "60000"}


@pytest.mark.parametrize(
    "deaths",
    [
        [],
        [DEATH],
        [EXPIRED, DEATH],
        [{**EXPIRED, "queue": "words.retry.1.1s"}, DEATH],
        [{**DEATH, "queue": "words.high"}],
    ],
)
def test_a_history_of_the_brokers_is_kept(deaths: list[Any], words: WorkQueue) -> None:
    """What RabbitMQ itself tells of a message's failures here stays."""

    assert not delivered(words, "words@2", exchange="tasks.again", headers={"x-death": deaths}).is_forged


@pytest.mark.parametrize(
    "deaths",
    [
        [1],
        ["words"],
        1,
        {},
        "rejected",
        None,
        b"\0",
        [DEATH, 1],
        [{}],
        [{**DEATH, "count": "1"}],
        [{**DEATH, "count": 0}],
        [{**DEATH, "reason": "because"}],
        [{**DEATH, "queue": "elsewhere"}],
        [{**DEATH, "queue": "words2"}],
        [{**DEATH, "queue": "words.normal"}],
        [{**DEATH, "queue": 1}],
        [{**DEATH, "time": 2**63}],
        [{**DEATH, "exchange": None}],
        [{**DEATH, "routing-keys": [1]}],
        [{**DEATH, "routing-keys": "words"}],
        [{**DEATH, "more": 1}],
    ],
)
def test_a_history_that_no_broker_writes_is_forged(deaths: Any, words: WorkQueue) -> None:
    """It never reaches another nack: RabbitMQ before 4.0 takes it for its own, and can end over it."""

    assert delivered(words, "words@2", exchange="tasks.again", headers={"x-death": deaths}).is_forged


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": [DEATH]},
        {"x-first-death-queue": "words"},
        {"x-last-death-reason": "rejected"},
        {"x-acquired-count": 1},
        {"CC": ["words@3"]},
        {"CC": ["mail", "words@2"]},
        {"BCC": ["words@3"]},
    ],
)
def test_before_it_failed_no_message_has_a_history(headers: dict[str, Any], words: WorkQueue) -> None:
    """What only a broker or a worker may say of a message is taken off it before anything else."""

    assert delivered(words, headers=headers).is_forged


@pytest.mark.parametrize(
    "headers", [{}, {"CC": ["mail"]}, {"CC": "words@2"}, {"CC": [1]}, {"X-Death": 1}, {"trace": "x"}]
)
def test_other_headers_are_the_publishers(headers: dict[str, Any], words: WorkQueue) -> None:
    """They stay as they are."""

    assert not delivered(words, headers=headers).is_forged


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
    assert not delivered(words, "words@2", exchange="tasks.again", headers=counted).is_forged


def test_a_key_and_an_id_that_are_no_utf_8(words: WorkQueue) -> None:
    """Short strings of any bytes are shown escaped, and the key of attempts is not mistaken."""
    delivery = delivered(words, b"words.\xff", message_id=b"id-\xff")

    assert (delivery.routing_key, delivery.attempt, delivery.id) == ("words.\\xff", 1, "id-\\xff")


@pytest.mark.parametrize(("message_id", "expected"), [(None, ""), ("", ""), ("id-1", "id-1")])
def test_a_message_without_an_id_has_an_empty_one(message_id: str | None, expected: str, words: WorkQueue) -> None:
    """The id is text in any case."""

    assert delivered(words, message_id=message_id).id == expected
