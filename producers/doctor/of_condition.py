"""Checks of one of the broker's queues as it is: its type, its members, what cannot leave it, and policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from leveret.producers.doctor.facts import Facts, QueueFacts
from leveret.producers.doctor.finding import Finding, about, fail, quoted, some, warn
from leveret.topology import names
from leveret.topology.access.policies import TAKING_UNREJECTED
from leveret.topology.objects import RECORD, control_streams, objects_of
from leveret.topology.schedules import SCHEDULES

_SICK_STATES = ("down", "minority", "crashed", "stopped")


def is_step(name: str) -> bool:
    """Whether this is a queue of the ladder of delays."""
    return name.startswith(names.DELAY_PREFIX)


def as_it_is(facts: Facts, queue: QueueFacts, work_queue: str) -> Iterator[Finding]:
    """Say what is wrong with one of the broker's queues: its type, its members, what cannot leave it."""
    declared = {one.name: one for one in _declared(facts, work_queue)}
    wanted = declared[queue.name].arguments["x-queue-type"] if queue.name in declared else queue.type
    if queue.type != wanted:
        what = f"{queue.name} is a {queue.type} queue and should be a {wanted} one: it can lose messages"
        yield fail(about(work_queue), what, "see what differs, then have it made anew:", "leveret plan -a MODULE")
    if queue.state in _SICK_STATES and not queue.members:
        yield fail(about(work_queue), f"{queue.name} is {queue.state}", "look into the broker's log")
    if queue.messages_dlx:
        is_tier = names.is_retry_queue(queue.name, work_queue)
        what = (
            f"{queue.messages_dlx} message(s) have left {queue.name} and not arrived; the broker tries every 3 minutes"
        )
        command = f"leveret redrive {quoted(work_queue)} --stranded" if is_tier else ""
        advice = "if they are still there after that, free them:" if is_tier else "look again after that"
        yield warn(about(work_queue), what, advice, command)


def _declared(facts: Facts, work_queue: str) -> Iterator[QueueFacts]:
    known = facts.known_queue(work_queue)
    tables = [objects_of(known)] if known else [RECORD, SCHEDULES, control_streams()]
    for table in tables:
        for one in table.queues:
            yield QueueFacts(one.name, str(one.arguments["x-queue-type"]), one.arguments)


def members(work_queue: str, queues: Iterable[QueueFacts]) -> Iterator[Finding]:
    """Say which queues cannot reach some of their members: one finding for all that miss the same."""
    alike: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for queue in queues:
        away = tuple(sorted(set(queue.members) - set(queue.online)))
        if away:
            has_majority = 2 * len(away) < len(queue.members)
            alike.setdefault((has_majority, away), []).append(queue.name)
    for (has_majority, away), names_ in alike.items():
        unreached = f"{some(away)} cannot be reached"
        if has_majority:
            yield warn(about(work_queue), f"a member is away of {some(names_)}: {unreached}", "start these nodes")
        else:
            yield fail(about(work_queue), f"no majority is left of {some(names_)}: {unreached}", "start these nodes")


def policies(facts: Facts, work_queue: str, queues: Iterable[QueueFacts]) -> Iterator[Finding]:
    """Say which policies drop or expire what lies in these queues: one finding for each policy."""
    harms: dict[tuple[tuple[str, str], ...], dict[str, list[str]]] = {}
    for queue in queues:
        for rule, value in queue.policy.items():
            if harm := _harm(queue, rule):
                harms.setdefault(queue.policies, {}).setdefault(f"{rule}={value} {harm}", []).append(queue.name)
    for named, of_policy in harms.items():
        what = "; ".join(f"{harm} ({some(names_)})" for harm, names_ in of_policy.items())
        shown = " and ".join(f"{kind.replace('_', ' ')} {name}" for kind, name in named) or "a policy"
        command = ""
        if named:
            kind, name = named[0]
            command = f"rabbitmqctl clear_{kind} -p {quoted(facts.vhost)} {quoted(name)}"
        yield fail(about(work_queue), f"{shown}: {what}", "take it away, or change it:", command)


def _harm(queue: QueueFacts, rule: str) -> str:
    """Return what a rule of a policy does to what lies in a queue; empty where it does no harm."""
    is_end = queue.name.endswith(names.dlq_name("")) or queue.name == names.LATER_LOST
    drops = queue.arguments.get("x-overflow", queue.policy.get("overflow", "drop-head")) == "drop-head"
    if rule == "expires":
        return "deletes the queue with what is in it when nobody uses it"
    if rule in TAKING_UNREJECTED:
        if is_end:
            return "takes dead messages away"
        if is_step(queue.name):
            return "sends delayed tasks on before they are due" if rule == "message-ttl" else ""
        return "drops what lies there" if queue.name.startswith("tasks.") else "strands tasks in a retry tier, unrun"
    if rule in ("max-length", "max-length-bytes"):
        if is_end and drops:
            return "drops the oldest dead messages when it is full"
        return "refuses delayed tasks when it is full" if is_step(queue.name) else ""
    return ""
