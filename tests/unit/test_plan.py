"""A plan compares tables with what a virtual host has: each difference is of the kind that says what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from leveret.topology import queues
from leveret.topology.names import Route
from leveret.topology.objects import Binding, Table, objects_of, shared_exchanges
from leveret.topology.plan.comparing import compare
from leveret.topology.plan.difference import Difference, Kind, Seen
from leveret.topology.plan.moving import into_holding, out_of_holding
from leveret.topology.queues import WorkQueue


@pytest.fixture(autouse=True)
def no_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test defines its own queues, and the others are there again afterwards."""
    monkeypatch.setattr(queues, "_known", {})


def mail(**options: Any) -> WorkQueue:
    queues.forget()
    return WorkQueue("mail", **{"retry_delays": (5, 30), **options})


def seen_of(*tables: Table, more: Iterable[Binding] = ()) -> Seen:
    """What a virtual host has that was brought to these tables."""
    exchanges, found, bindings = {}, {}, []
    for table in (shared_exchanges(), *tables):
        for exchange in table.exchanges:
            described = {"type": exchange.type, "durable": True, "auto_delete": False, "internal": exchange.internal}
            exchanges[exchange.name] = {"arguments": dict(exchange.arguments), **described}
        for queue in table.queues:
            flags = {"durable": True, "auto_delete": False, "exclusive": False}
            found[queue.name] = {"arguments": dict(queue.arguments), "effective_policy_definition": [], **flags}
        bindings += [*table.bindings, *table.last_bindings]
    return Seen(exchanges, found, [described_binding(one) for one in (*bindings, *more)])


def described_binding(one: Binding) -> dict[str, Any]:
    return {
        "source": one.exchange,
        "destination": one.queue,
        "destination_type": "exchange" if one.is_exchange else "queue",
        "routing_key": one.routing_key,
        "arguments": dict(one.arguments),
    }


def differences(queue: WorkQueue, seen: Seen) -> list[Difference]:
    return compare([queue], [shared_exchanges()], seen)


def brief(found: Iterable[Difference]) -> set[tuple[Kind, str, str]]:
    return {(one.kind, one.object, one.name) for one in found}


def test_nothing_differs_from_what_was_declared() -> None:
    """Of a queue, and of one with priorities."""
    assert differences(mail(), seen_of(objects_of(mail()))) == []
    queue = mail(priorities=True, fanout=True)
    assert differences(queue, seen_of(objects_of(queue))) == []


def test_another_retry_plan_is_in_place_and_leaves_tiers_over() -> None:
    """New tiers are missing, the exchange of failures changes its way, former tiers are left over, and no attempt."""
    former = objects_of(mail())

    found = brief(differences(mail(retry_delays=(60,)), seen_of(former)))

    assert (Kind.ADDITIVE, "queue", "mail.retry.1.after.1m") in found
    assert (Kind.IN_PLACE, "exchange", "mail.failed") in found
    assert {name for kind, _, name in found if kind is Kind.LEFT_OVER} == {
        "mail.retry.1.after.5s",
        "mail.retry.2.after.30s",
        "mail.failed.first.after.5s-30s",
    }
    assert not [name for kind, _, name in found if kind in (Kind.RECREATE, Kind.CANNOT)]


def test_a_stale_binding_is_left_over_once_no_tier_leads_by_it() -> None:
    """A topic that is gone is, at once; the key of an attempt is while a former tier sends messages back by it."""
    former = objects_of(mail(topics=("mail.#", "letters.#")))
    seen = seen_of(former)
    tier = "mail.retry.2.after.30s"
    changed = mail(retry_delays=(5,))

    with_tier = brief(differences(changed, seen))
    without = brief(differences(changed, seen._replace(queues={n: q for n, q in seen.queues.items() if n != tier})))

    topic = (Kind.LEFT_OVER, "binding", "tasks.topic letters.# → mail")
    attempt = (Kind.LEFT_OVER, "binding", "tasks.again mail@3 → mail")
    assert topic in with_tier
    assert attempt not in with_tier
    assert {topic, attempt} <= without


@pytest.mark.parametrize("argument", ["x-dead-letter-exchange", "x-overflow", "x-delivery-limit", "x-queue-type"])
def test_other_arguments_make_it_anew(argument: str) -> None:
    """Which differs is said."""
    seen = seen_of(objects_of(mail()))
    arguments = {name: value for name, value in seen.queues["mail"]["arguments"].items() if name != argument}
    changed = {**seen.queues["mail"], "arguments": arguments}

    (one,) = differences(mail(), seen._replace(queues={**seen.queues, "mail": changed}))

    assert (one.kind, one.object, one.name, one.work_queue) == (Kind.RECREATE, "queue", "mail", "mail")
    assert argument in one.why


def test_what_the_broker_does_not_compare_is_no_difference() -> None:
    """An argument that nobody knows."""
    seen = seen_of(objects_of(mail()))
    arguments = {**seen.queues["mail"]["arguments"], "x-note": "ours"}
    changed = {**seen.queues["mail"], "arguments": arguments}

    assert differences(mail(), seen._replace(queues={**seen.queues, "mail": changed})) == []


@pytest.mark.parametrize(
    ("queue", "policy", "is_told"),
    [
        ("mail.dlq", {"max-length": 10}, True),
        ("mail", {"message-ttl": 1000}, True),
        ("mail.retry.1.after.5s", {"message-ttl": 1000}, True),
        ("mail.retry.1.after.5s", {"message-ttl": 3_600_000}, False),
        ("mail", {"overflow": "drop-head"}, False),
        ("mail.dlq", {"dead-letter-exchange": "elsewhere"}, True),
        ("mail", {"delivery-limit": 20}, True),
        ("mail", {"ha-sync-batch-size": 1}, False),
    ],
)
def test_policies_that_change_what_a_queue_is_for(queue: str, policy: dict[str, object], is_told: bool) -> None:
    """Of a number the least holds, of all else what the queue was declared with."""
    seen = seen_of(objects_of(mail()))
    changed = {**seen.queues[queue], "effective_policy_definition": policy, "policy": "short", "operator_policy": None}

    found = differences(mail(), seen._replace(queues={**seen.queues, queue: changed}))

    assert brief(found) == ({(Kind.CANNOT, "policy", queue)} if is_told else set())
    assert all("rabbitmqctl clear_policy short" in one.why for one in found)


def test_an_exchange_of_another_type() -> None:
    """One that producers use cannot be changed; what only failures go by is made anew."""
    seen = seen_of(objects_of(mail()))
    changed = {name: {**seen.exchanges[name], "type": "headers"} for name in ("tasks.topic", "mail.failed")}

    found = brief(differences(mail(), seen._replace(exchanges={**seen.exchanges, **changed})))

    assert found == {(Kind.CANNOT, "exchange", "tasks.topic"), (Kind.RECREATE, "exchange", "mail.failed")}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mail.high", {"x-dead-letter-exchange": "elsewhere"}),
        ("mail.retry.1.after.9s", {}),
        ("mail.retry.1.after.9s", {"x-dead-letter-routing-key": "post@2"}),
        ("mail.retry.notes", {"x-dead-letter-routing-key": "mail@2"}),
        ("mails.retry.1.after.9s", {"x-dead-letter-routing-key": "mails@2"}),
        ("mail.other", {}),
    ],
)
def test_another_projects_queue_is_not_left_over(name: str, arguments: Mapping[str, object]) -> None:
    """Whatever it is named, and though it is bound to an exchange of ours."""
    seen = seen_of(objects_of(mail()), more=[Binding(name, "tasks.topic", "mail.#"), Binding("mail", "orders", "new")])
    queues_seen = {**seen.queues, name: {"arguments": arguments, "durable": True}}

    assert differences(mail(), seen._replace(queues=queues_seen)) == []


def test_levels_that_are_left_over() -> None:
    """A queue that has lost its priorities: what led to its levels is unbound, and they are left over."""
    found = brief(differences(mail(), seen_of(objects_of(mail(priorities=True)))))

    left = {name for kind, _, name in found if kind is Kind.LEFT_OVER}
    assert {"mail.high", "mail.low", "mail.in", "mail.in.normal"} <= left


@pytest.mark.parametrize(
    ("exchange", "key", "back_by"),
    [
        ("tasks.direct", "mail", Route("tasks.held.mail/all", "mail")),
        ("tasks.topic", "mail.send", Route("tasks.held.mail/all", "mail.send")),
        ("tasks.again", "mail@3", Route("tasks.again", "mail@3")),
        ("tasks.direct", "mail@3", Route("tasks.held.mail/all", "mail@3")),
        ("tasks.topic", "mail@3", Route("tasks.held.mail/all", "mail@3")),
    ],
)
def test_a_message_comes_back_as_the_attempt_it_was(exchange: str, key: str, back_by: Route) -> None:
    """By its own key, and by the exchange of attempts only where it came by it: straight, or held meanwhile."""
    moved: dict[str, Any] = {"mine": 1}
    straight: dict[str, Any] = {}

    assert into_holding("mail")(exchange, key, moved) == Route("tasks.held.mail/all", key)
    assert out_of_holding("mail", "mail")("tasks.held.mail/all", key, moved) == back_by
    assert out_of_holding("mail", "mail")(exchange, key, straight) == back_by
    assert moved == {"mine": 1}


def test_an_attempt_that_was_delayed_comes_back_as_one() -> None:
    """Though what has delayed it leads to the queue by another exchange than that of attempts."""
    moved: dict[str, Any] = {"later-to": "tasks.again"}
    straight = dict(moved)

    into_holding("mail")("tasks.delay.out", "mail@2", moved)

    assert out_of_holding("mail", "mail")("tasks.held.mail/all", "mail@2", moved) == Route("tasks.again", "mail@2")
    assert out_of_holding("mail", "mail")("tasks.delay.out", "mail@2", straight) == Route("tasks.again", "mail@2")


def test_an_apply_that_has_begun_is_told() -> None:
    """And not that its bindings are missing, for another exchange has them."""
    seen = seen_of(objects_of(mail()))
    mark = {"tasks.held.mail": {"type": "fanout"}}

    found = brief(differences(mail(), seen._replace(exchanges={**seen.exchanges, **mark}, bindings=seen.bindings[1:])))

    assert found == {(Kind.IN_PLACE, "exchange", "tasks.held.mail")}
