"""The table of a queue: exactly what exists, and where a failing message goes through it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import kombu
import pytest

from leveret.topology import names, queues
from leveret.topology.apply.declare import _InternalExchange, _kombu_exchange, _kombu_queue
from leveret.topology.objects import PRODUCERS_EXCHANGES, Binding, Exchange, Table, objects_of, shared_exchanges
from leveret.topology.queues import WorkQueue

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
DEAD_LETTERING = {**QUORUM, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@pytest.fixture(autouse=True)
def no_known_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know no queues but their own."""
    monkeypatch.setattr(queues, "_known", {})


def words(retry_delays: tuple[float, ...] = (1, 5, 25), fanout: bool = False, priorities: bool = False) -> WorkQueue:
    """A queue named words; each of a test may be another."""
    queues.forget()
    return WorkQueue("words", retry_delays=retry_delays, fanout=fanout, priorities=priorities)


def exchanges(table: Table) -> list[tuple[str, str, bool, bool, Any]]:
    """Name, type, durable, internal and arguments of each exchange, as it is declared."""
    made = [_kombu_exchange(exchange) for exchange in table.exchanges]
    assert [isinstance(e, _InternalExchange) for e in made] == [exchange.internal for exchange in table.exchanges]
    assert not any(e.auto_delete for e in made)
    return [(e.name, e.type, e.durable, isinstance(e, _InternalExchange), e.arguments or {}) for e in made]


def arguments(table: Table) -> dict[str, dict[str, object]]:
    """The arguments of each queue, by its name, as it is declared."""
    made = [_kombu_queue(queue) for queue in table.queues]
    assert [queue.arguments for queue in table.queues] == [queue.queue_arguments for queue in made]
    return {queue.name: queue.queue_arguments for queue in made}


def test_the_shared_exchanges() -> None:
    """Every producer finds a direct, a topic and a fanout exchange; what comes back, is dead or told has its own."""
    table = shared_exchanges()

    assert exchanges(table) == [
        ("tasks.direct", "direct", True, False, {}),
        ("tasks.topic", "topic", True, False, {}),
        ("tasks.fanout", "fanout", True, False, {}),
        ("tasks.again", "direct", True, False, {}),
        ("tasks.dead", "direct", True, False, {}),
        ("tasks.events", "topic", True, False, {}),
        ("tasks.control", "topic", True, False, {}),
        *(
            (f"tasks.later.{kind}", real, True, True, {"alternate-exchange": "tasks.later.lost"})
            for kind, real in (("direct", "direct"), ("topic", "topic"), ("fanout", "fanout"), ("again", "direct"))
        ),
    ]
    assert (table.queues, table.bindings) == ((), ())


def test_a_queue_has_two_exchanges_of_its_own() -> None:
    """Failures arrive at a direct exchange; what it does not know goes on to the exchange of first failures."""
    first = "words.failed.first.after.1s-5s-25s"

    assert exchanges(objects_of(words())) == [
        (first, "fanout", True, True, {}),
        ("words.failed", "direct", True, True, {"alternate-exchange": first}),
    ]


def test_a_queue_with_three_delays_has_three_tiers_and_a_dlq() -> None:
    """Every queue is a quorum queue with a far limit; each tier sends back by its own time and key."""

    def tier(number: int, ttl: int) -> dict[str, object]:
        back = {"x-dead-letter-exchange": "tasks.again", "x-dead-letter-routing-key": f"words@{number + 1}"}
        return {**DEAD_LETTERING, **back, "x-message-ttl": ttl}

    assert arguments(objects_of(words())) == {
        "words": {**DEAD_LETTERING, "x-dead-letter-exchange": "words.failed"},
        "words.retry.1.after.1s": tier(1, 1_000),
        "words.retry.2.after.5s": tier(2, 5_000),
        "words.retry.3.after.25s": tier(3, 25_000),
        "words.dlq": QUORUM,
    }


def test_every_queue_is_durable() -> None:
    """Nothing is lost with a restart of the broker, nor with the last consumer."""

    made = [_kombu_queue(queue) for queue in objects_of(words()).queues]

    assert {(q.durable, q.exclusive, q.auto_delete) for q in made} == {(True, False, False)}


def test_the_bindings_of_a_queue_with_three_delays() -> None:
    """Attempt keys lead to the next tier and back to the queue; the last one leads to the DLQ."""
    first = "words.failed.first.after.1s-5s-25s"

    assert sorted(objects_of(words()).bindings) == sorted(
        [
            Binding("words.retry.1.after.1s", first, ""),
            Binding("words.retry.2.after.5s", "words.failed", "words@2"),
            Binding("words.retry.3.after.25s", "words.failed", "words@3"),
            Binding("words.dlq", "words.failed", "words@4"),
            Binding("words.dlq", "tasks.dead", "words"),
            Binding("words", "tasks.direct", "words"),
            Binding("words", "tasks.again", "words@2"),
            Binding("words", "tasks.again", "words@3"),
            Binding("words", "tasks.again", "words@4"),
            Binding("words", "tasks.topic", "words.#"),
            Binding("words", "tasks.later.direct", "words"),
            Binding("words", "tasks.later.again", "words@2"),
            Binding("words", "tasks.later.again", "words@3"),
            Binding("words", "tasks.later.again", "words@4"),
            Binding("words", "tasks.later.topic", "words.#"),
        ]
    )


def test_fanout_is_two_bindings_more() -> None:
    """A queue that opts in is bound to the fanout exchange, now and later, and differs in nothing else."""
    plain = objects_of(words())
    queues.forget()
    opted_in = objects_of(words(fanout=True))

    assert set(opted_in.bindings) - set(plain.bindings) == {
        Binding("words", "tasks.fanout", ""),
        Binding("words", "tasks.later.fanout", ""),
    }
    assert arguments(opted_in) == arguments(plain)


def test_without_delays_the_first_failure_is_final() -> None:
    """No tiers exist, and any failed message falls through into the DLQ."""
    table = objects_of(words(retry_delays=()))
    first = "words.failed.first.never"

    assert arguments(table) == {
        "words": {**DEAD_LETTERING, "x-dead-letter-exchange": "words.failed"},
        "words.dlq": QUORUM,
    }
    assert sorted(table.bindings) == sorted(
        [
            Binding("words.dlq", first, ""),
            Binding("words.dlq", "tasks.dead", "words"),
            Binding("words", "tasks.direct", "words"),
            Binding("words", "tasks.topic", "words.#"),
            Binding("words", "tasks.later.direct", "words"),
            Binding("words", "tasks.later.topic", "words.#"),
        ]
    )


def test_everything_a_table_refers_to_is_in_it() -> None:
    """A table can be declared in its order: names it uses are its own or shared, and none stands twice."""
    table = objects_of(words(fanout=True))
    exchange_names = [exchange.name for exchange in (*shared_exchanges().exchanges, *table.exchanges)]
    queue_names = [queue.name for queue in table.queues]
    used = {binding.exchange for binding in table.bindings}
    used |= {
        str(given["x-dead-letter-exchange"]) for given in arguments(table).values() if "x-dead-letter-exchange" in given
    }

    assert used <= set(exchange_names)
    assert {binding.queue for binding in table.bindings} == set(queue_names)
    assert len({*exchange_names, *queue_names}) == len(exchange_names) + len(queue_names)
    assert len(set(table.bindings)) == len(table.bindings)


def routed(table: Table, exchange_name: str, key: str) -> list[str]:
    """The queues an exchange routes a key to, as the broker does it with this table."""
    [exchange] = [e for e in (*shared_exchanges().exchanges, *table.exchanges) if e.name == exchange_name]
    fits: dict[str, Callable[[str], bool]] = {
        "direct": lambda bound: bound == key,
        "topic": lambda bound: queues.topic_matches(bound, key),
        "fanout": lambda _bound: True,
    }
    bound = [binding for binding in table.bindings if binding.exchange == exchange_name]
    targets = {binding.queue for binding in bound if fits[exchange.type](binding.routing_key)}
    alternate = exchange.arguments.get("alternate-exchange")
    return sorted(targets) if targets or not alternate else routed(table, str(alternate), key)


def journey(table: Table, queue: str, key: str) -> list[str]:
    """The queues a message visits that always fails: nacked in a work queue, expiring in a tier."""
    visited = []
    while exchange := (given := arguments(table)[queue]).get("x-dead-letter-exchange"):
        key = str(given.get("x-dead-letter-routing-key", key))
        [queue] = routed(table, str(exchange), key)
        visited.append(queue)
    return visited


@pytest.mark.parametrize("key", ["words", "words.count", "", "words@1", "other@3"])
def test_a_failing_message_visits_every_tier_and_ends_in_the_dlq(key: str) -> None:
    """However a message came in, it waits in tier 1, 2 and 3 with a run after each, and then lies in the DLQ."""
    expected = [
        "words.retry.1.after.1s",
        "words",
        "words.retry.2.after.5s",
        "words",
        "words.retry.3.after.25s",
        "words",
        "words.dlq",
    ]

    assert journey(objects_of(words()), "words", key) == expected


@pytest.mark.parametrize("key", ["words", "words.count", ""])
def test_a_failing_message_of_a_queue_without_retries_ends_in_the_dlq(key: str) -> None:
    """With no retry plan one failure leads straight to the DLQ."""

    assert journey(objects_of(words(retry_delays=())), "words", key) == ["words.dlq"]


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (names.Route.direct("words"), ["words"]),
        (names.Route.dead("words"), ["words.dlq"]),
        (names.Route.again("words", 2), ["words"]),
        (names.Route.again("words", 5), []),
        (names.Route.direct("words.dlq"), []),
        (names.Route.direct("words@2"), []),
        (names.Route.direct("word"), []),
        (names.Route.topic("words.count"), ["words"]),
        (names.Route.topic("mail.send"), []),
        (names.Route.fanout(), ["words"]),
    ],
)
def test_a_route_leads_into_the_queue(route: names.Route, expected: list[str]) -> None:
    """A message gets into the work queue by each exchange, and nowhere by a key that is not bound."""

    assert routed(objects_of(words(fanout=True)), *route) == expected


def test_an_internal_exchange_says_so_to_the_broker() -> None:
    """The declaration has the durable and the internal bit set, and nothing of passive or auto-delete."""
    sent: list[tuple[Any, ...]] = []
    channel: Any = SimpleNamespace(send_method=lambda *given, wait: sent.append((*given, wait)))
    _kombu_exchange(Exchange("words.failed", "direct", internal=True, arguments={"a": 1})).declare(channel=channel)
    [(method, form, values, answer)] = sent
    _, name, kind, passive, durable, auto_delete, internal, nowait, given = values

    assert (method, form, answer) == ((40, 10), "BssbbbbbF", (40, 11))
    assert (name, kind, given) == ("words.failed", "direct", {"a": 1})
    assert (passive, durable, auto_delete, internal, nowait) == (False, True, False, True, False)


def test_an_exchange_of_producers_is_kombus_own() -> None:
    """Only an internal one is declared in another way."""
    assert {type(_kombu_exchange(exchange)) for exchange in PRODUCERS_EXCHANGES} == {kombu.Exchange}


def test_a_table_cannot_be_changed_through_an_exchange() -> None:
    """Exchanges without arguments share the one that is empty, and nobody can write to it."""
    arguments: Any = Exchange("a", "direct").arguments

    with pytest.raises(TypeError):
        arguments["a"] = 1
    assert _kombu_exchange(Exchange("a", "direct")).arguments is not arguments


def test_a_queue_with_priorities_has_one_entrance_three_queues_and_one_family() -> None:
    """All that leads to the queue leads to the entrance; the levels share the exchange of failures."""
    table = objects_of(words(fanout=True, priorities=True))
    plain = objects_of(words(fanout=True))
    ways = {(one.exchange, one.routing_key) for one in plain.bindings if one.queue == "words"}

    assert {(one.exchange, one.routing_key) for one in table.bindings if one.queue == "words.in"} == ways
    assert [tuple(one)[:3] for one in table.bindings if one.queue == "words"] == [("words", "words.in.normal", "")]
    assert [(one.queue, dict(one.arguments)["priority"]) for one in table.last_bindings] == [
        ("words.high", "high"),
        ("words.low", "low"),
    ]
    assert {(one.exchange, one.routing_key) for one in table.former_bindings if one.queue == "words"} == ways
    of_levels = [one.arguments for one in table.queues if one.name in ("words", "words.high", "words.low")]
    assert of_levels == [of_levels[0]] * 3
    assert of_levels[0]["x-dead-letter-exchange"] == "words.failed"


def test_a_queue_without_priorities_declares_nothing_of_them() -> None:
    """Who does not use them pays nothing, and needs no right to them."""
    table = objects_of(words())
    declared = [*(one.name for one in table.exchanges), *(one.name for one in table.queues)]

    assert not {"words.in", "words.in.normal", "words.high", "words.low"} & set(declared)
    assert not any(one.is_exchange or one.arguments for one in (*table.bindings, *table.former_bindings))
    assert table.last_bindings == ()
