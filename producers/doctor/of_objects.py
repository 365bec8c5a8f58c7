"""Checks of what is declared: is it all there, does it lead somewhere, what is left over?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from leveret.producers.doctor.facts import Facts, QueueFacts
from leveret.producers.doctor.finding import Finding, about, fail, quoted, some, warn
from leveret.topology import names
from leveret.topology.objects import Binding, objects_of

DECLARE = "leveret declare -a MODULE"


def there(facts: Facts, name: str) -> Iterator[Finding]:
    """Say which of its queues are not on the broker."""
    known, told = facts.known_queue(name), facts.at_workers(name)
    wanted = [queue.name for queue in objects_of(known).queues] if known else [name, names.dlq_name(name)]
    missing = [one for one in wanted if facts.is_missing(one)]
    if not missing:
        return
    if not known and not told and name in missing:
        near = difflib.get_close_matches(name, facts.management.work_queues, n=1)
        hint = f"did you mean {near[0]!r}? Else name" if near else "name"
        yield fail(about(name), "there is no such queue", f"{hint} the module that defines it: -a MODULE")
        return
    yield fail(about(name), f"not on the broker: {some(missing)}", "declare what is missing:", DECLARE)


def ways(facts: Facts, name: str) -> Iterator[Finding]:
    """Say which bindings are missing: what is published does not arrive, or what fails stays where it is."""
    bindings, known = facts.management.bindings, facts.known_queue(name)
    if bindings is None:
        return
    if known:
        table = objects_of(known)
        wanted = [
            one._replace(arguments=tuple(sorted(one.arguments))) for one in (*table.bindings, *table.last_bindings)
        ]
        missing = [one for one in wanted if one not in bindings]
        if missing:
            what = f"bindings are missing: {some([_spell(one) for one in sorted(missing)])}"
            yield fail(about(name), what, "what is published so does not arrive; bind it:", DECLARE)
            return
    for one in family(facts, name).values():
        exchange = one.arguments.get("x-dead-letter-exchange") or one.policy.get("dead-letter-exchange")
        if isinstance(exchange, str) and exchange and not _leads_somewhere(facts, exchange):
            what = f"what leaves {one.name} goes to exchange {exchange}, which leads to no queue, and stays"
            yield fail(about(name), what, "declare where it leads:", DECLARE)


def _spell(one: Binding) -> str:
    return f"{one.queue} to {one.exchange}" + (f" by key {one.routing_key}" if one.routing_key else "")


def _leads_somewhere(facts: Facts, exchange: str) -> bool:
    """Whether anything is bound to it, or to what takes what nobody is bound for."""
    bindings, alternates = facts.management.bindings or (), facts.management.exchanges or {}
    seen: set[str] = set()
    while exchange in alternates and exchange not in seen:
        if any(one.exchange == exchange for one in bindings):
            return True
        seen.add(exchange)
        exchange = alternates[exchange]
    return False


def family(facts: Facts, name: str) -> Mapping[str, QueueFacts]:
    """Return the queues of a work queue, its levels, tiers of whatever plan, and its DLQ, as far as they are seen."""
    there = facts.management.queues or {}
    return {
        one: described
        for one, described in there.items()
        if names.is_level_queue(one, name) or names.is_retry_queue(one, name) or one == names.dlq_name(name)
    }


def left_over(facts: Facts, name: str) -> Iterator[Finding]:
    """Say what lies in queues that nothing leads out of any more."""
    known = facts.known_queue(name)
    if not known:
        return
    expected = {queue.name for queue in objects_of(known).queues}
    for one in family(facts, name).values():
        if one.name not in expected and one.messages and not one.consumers and "x-message-ttl" not in one.arguments:
            is_stranded = one.name == names.stranded_queue(name)
            command = f"leveret redrive {quoted(name)} --stranded" if is_stranded else ""
            advice = "send them round again:" if is_stranded else "move them by hand, then delete the queue"
            yield warn(about(name), f"{one.messages} message(s) lie in {one.name}, which nobody takes", advice, command)
