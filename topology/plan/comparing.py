"""Comparing the tables of objects with what the broker has: a pure function.

Ours are the objects of the tables; and what is left over of them, which is told by its name and by what it leads to: a
tier dead-letters as an attempt of its work queue, a level into the exchange of failures of its work queue. So another
project's queue is never taken for a left-over one, whatever its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from leveret.topology import names
from leveret.topology.objects import Binding, Exchange, Queue, Table, objects_of
from leveret.topology.plan.difference import Difference, Kind, Seen
from leveret.topology.queues import WorkQueue

_CHECKED = (
    "x-queue-type",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-single-active-consumer",
)
"""What the broker compares when a queue is declared that is there; of other arguments anything passes."""
_LEAST_WINS = ("message-ttl", "expires", "max-length", "max-length-bytes", "delivery-limit")
_OWN_WINS = ("overflow", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy", "queue-mode")
_QUEUES_FLAGS = {"durable": True, "auto_delete": False, "exclusive": False}


def compare(work_queues: Sequence[WorkQueue], shared: Iterable[Table], seen: Seen) -> list[Difference]:
    """Return what differs between these work queues, with the tables that all share, and the broker."""
    found: list[Difference] = []
    for table in shared:
        found += _table(table, "", seen)
    for queue in work_queues:
        table = objects_of(queue)
        begun = list(_begun(queue, seen))
        found += [one for one in _table(table, queue.name, seen) if not (begun and one.object == "binding")]
        found += begun
        found += _left_over(queue, table, seen)
    return found


def argument_differences(wanted: Mapping[str, object], found: Mapping[str, Any]) -> list[str]:
    """Return what differs between the arguments of a queue, as texts; that is what a declaration would fail with."""
    default = {"x-queue-type": "classic"}
    has, wants = {**default, **found}, {**default, **wanted}
    return [
        f"{name} is {_spell(has.get(name))}, wanted is {_spell(wants.get(name))}"
        for name in (*_CHECKED, *(name for name in wants if name not in _CHECKED))
        if has.get(name) != wants.get(name)
    ]


def _spell(value: object) -> str:
    return "not set" if value is None else str(value)


def _table(table: Table, work_queue: str, seen: Seen) -> Iterator[Difference]:
    for exchange in (*table.exchanges, *table.last_exchanges):
        yield from _exchange(exchange, work_queue, seen)
    for queue in table.queues:
        yield from _queue(queue, work_queue, seen)
    there = {_key(binding) for binding in seen.bindings}
    for binding in (*table.bindings, *table.last_bindings):
        if _key_of(binding) not in there:
            # what was not there cannot have been bound
            is_new = binding.queue not in (seen.exchanges if binding.is_exchange else seen.queues)
            if not is_new and binding.exchange in seen.exchanges:
                yield Difference(Kind.ADDITIVE, "binding", _named(binding), "missing", work_queue)
    for binding in (*table.former_bindings, *table.levels):
        if _key_of(binding) in there:
            yield Difference(Kind.IN_PLACE, "binding", _named(binding), "of a former version", work_queue)


def _exchange(exchange: Exchange, work_queue: str, seen: Seen) -> Iterator[Difference]:
    found = seen.exchanges.get(exchange.name)
    if found is None:
        yield Difference(Kind.ADDITIVE, "exchange", exchange.name, "missing", work_queue)
        return
    wanted = {"type": exchange.type, "durable": True, "auto_delete": False, "internal": exchange.internal}
    differs = [
        f"{name} is {found.get(name)}, wanted is {value}" for name, value in wanted.items() if found.get(name) != value
    ]
    former, alternate = found.get("arguments") or {}, dict(exchange.arguments)
    if not differs and former == alternate:
        return
    is_plan = str(former.get("alternate-exchange", "")).startswith(f"{names.failed_exchange(work_queue)}.first.")
    if not differs and exchange.name == names.failed_exchange(work_queue) and is_plan:
        why = f"retries go by {former['alternate-exchange']}, wanted is {alternate['alternate-exchange']}"
        yield Difference(Kind.IN_PLACE, "exchange", exchange.name, why, work_queue)
        return
    if former != alternate:
        differs.append(
            f"alternate-exchange is {_spell(former.get('alternate-exchange'))}, wanted is "
            f"{_spell(alternate.get('alternate-exchange'))}"
        )
    why = "; ".join(differs)
    if work_queue and exchange.name.startswith(names.failed_exchange(work_queue)):
        yield Difference(Kind.RECREATE, "exchange", exchange.name, why, work_queue)
        return
    cure = "stop who publishes, delete it (on its page in the management UI), then leveret declare"
    yield Difference(Kind.CANNOT, "exchange", exchange.name, f"{why}; {cure}", work_queue)


def _queue(queue: Queue, work_queue: str, seen: Seen) -> Iterator[Difference]:
    found = seen.queues.get(queue.name)
    if found is None:
        yield Difference(Kind.ADDITIVE, "queue", queue.name, "missing", work_queue)
        return
    differs = [
        f"{name} is {found.get(name)}" for name, value in _QUEUES_FLAGS.items() if found.get(name, value) != value
    ]
    differs += argument_differences(queue.arguments, found.get("arguments") or {})
    if differs:
        why = "; ".join(differs)
        if work_queue and not found.get("exclusive"):
            yield Difference(Kind.RECREATE, "queue", queue.name, why, work_queue)
        else:
            cure = "stop who uses it, delete it by hand when what is in it is of no use any more, then leveret declare"
            yield Difference(Kind.CANNOT, "queue", queue.name, f"{why}; {cure}", work_queue)
    yield from _policies(queue, work_queue, found)


def _policies(queue: Queue, work_queue: str, found: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield what policies say of a queue that changes what it is for."""
    policy = found.get("effective_policy_definition")
    for rule, value in policy.items() if isinstance(policy, dict) else ():
        own = queue.arguments.get(f"x-{rule}")
        if rule in _LEAST_WINS:
            if isinstance(own, int) and isinstance(value, int) and value >= own:
                continue
        elif rule not in _OWN_WINS or own is not None:
            continue
        by = " and ".join(filter(None, (found.get("policy"), found.get("operator_policy")))) or "a policy"
        verbs = [
            f"rabbitmqctl {verb} {name}"
            for verb, name in (
                ("clear_policy", found.get("policy")),
                ("clear_operator_policy", found.get("operator_policy")),
            )
            if name
        ]
        why = f"{by} says {rule}={value}; take it away: {' or '.join(verbs) or 'rabbitmqctl clear_policy'}"
        yield Difference(Kind.CANNOT, "policy", queue.name, why, work_queue)


def _begun(queue: WorkQueue, seen: Seen) -> Iterator[Difference]:
    mark = names.changing_exchange(queue.name)
    if mark in seen.exchanges:
        yield Difference(Kind.IN_PLACE, "exchange", mark, "an apply has begun and not ended", queue.name)


def _left_over(queue: WorkQueue, table: Table, seen: Seen) -> Iterator[Difference]:
    wanted_queues = {one.name for one in table.queues}
    wanted_exchanges = {one.name for one in table.exchanges}
    for name, found in seen.queues.items():
        if name not in wanted_queues and (why := _former_queue(queue, name, found.get("arguments") or {})):
            count = found.get("messages")
            holds = f", holds {count} message(s)" if count else ""
            yield Difference(Kind.LEFT_OVER, "queue", name, why + holds, queue.name)
    first = f"{names.failed_exchange(queue.name)}.first."
    for name, found in seen.exchanges.items():
        former_entrance = (
            not queue.priorities
            and found.get("internal")
            and (name in (names.entrance_exchange(queue.name), names.normal_exchange(queue.name)))
        )
        if name not in wanted_exchanges and (name.startswith(first) or former_entrance) and found.get("internal"):
            yield Difference(Kind.LEFT_OVER, "exchange", name, "of a former definition of the queue", queue.name)
    for binding in stale_bindings(queue, table, seen):
        yield Difference(Kind.LEFT_OVER, "binding", _named(binding), "the code has it no longer", queue.name)


def _former_queue(queue: WorkQueue, name: str, arguments: Mapping[str, Any]) -> str:
    """Return why a queue is left over of this work queue; empty where it is not."""
    if re.fullmatch(rf"{re.escape(queue.name)}\.retry\.\d+\.(after\.)?\w+", name):
        back = str(arguments.get("x-dead-letter-routing-key", ""))
        return "a tier of a former retry plan" if names.attempt_of(queue.name, back) > 1 else ""
    if name == names.stranded_queue(queue.name):
        return "of leveret redrive --stranded"
    if not queue.priorities and name in (names.level_queue(queue.name, level) for level in (names.HIGH, names.LOW)):
        is_ours = arguments.get("x-dead-letter-exchange") == names.failed_exchange(queue.name)
        return "a level of a queue that has no priorities any more" if is_ours else ""
    return ""


def stale_bindings(queue: WorkQueue, table: Table, seen: Seen) -> list[Binding]:
    """Return what leads to a work queue and is in no table: former topics, fanout, attempts that no tier asks for."""
    wanted = {*map(_key_of, (*table.bindings, *table.last_bindings, *table.former_bindings, *table.levels))}
    exchanges = {*names.MIRRORS, *names.MIRRORS.values()}
    entrances = {queue.name: False, names.entrance_exchange(queue.name): True}
    asked_for = {str((one.get("arguments") or {}).get("x-dead-letter-routing-key", "")) for one in seen.queues.values()}
    found = []
    for one in seen.bindings:
        target, is_exchange = str(one["destination"]), one["destination_type"] == "exchange"
        if one["source"] not in exchanges or entrances.get(target) is not is_exchange or _key(one) in wanted:
            continue
        key = str(one["routing_key"])
        if names.attempt_of(queue.name, key) > 1 and key in asked_for:  # a former tier still sends messages back by it
            continue
        found.append(binding_of(one))
    return found


def binding_of(described: Mapping[str, Any]) -> Binding:
    """Read a binding as the management API describes it."""
    arguments = tuple(sorted((described.get("arguments") or {}).items()))
    is_exchange = described["destination_type"] == "exchange"
    return Binding(described["destination"], described["source"], described["routing_key"], arguments, is_exchange)


def _key(described: Mapping[str, Any]) -> Binding:
    return binding_of(described)


def _key_of(binding: Binding) -> Binding:
    return binding._replace(arguments=tuple(sorted(binding.arguments)))


def _named(binding: Binding) -> str:
    arguments = "".join(f" {name}={value}" for name, value in binding.arguments if not name.startswith("x-"))
    key = f" {binding.routing_key}" if binding.routing_key else ""
    return f"{binding.exchange}{key}{arguments} → {binding.queue}"
