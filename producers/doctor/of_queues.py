"""Checks of work queues, and of what is around them: does somebody take them, what is dead, what waits?"""

from __future__ import annotations

from collections.abc import Iterator

from leveret.producers.doctor.facts import Facts
from leveret.producers.doctor.finding import WHO_MAY, WHO_MAY_COMMAND, Finding, about, fail, ok, quoted, unknown, warn
from leveret.producers.doctor.of_condition import as_it_is, is_step, members, policies
from leveret.producers.doctor.of_objects import family, left_over, there, ways
from leveret.topology import names
from leveret.topology.objects import RECORD, control_streams
from leveret.topology.schedules import SCHEDULES

_MANY = 100
"""Fewer that wait are no backlog, however they grow."""


def queues(facts: Facts) -> Iterator[Finding]:
    """Say what is wrong with each work queue and all that belongs to it."""
    if facts.cannot_count:
        yield unknown("queues", f"what waits in them is not known: {facts.cannot_count}")
    if not facts.names and not facts.cannot_connect:
        yield unknown("queues", "no work queue is known", "name the module that defines them: -a MODULE")
    for name in facts.names:
        found = [*there(facts, name)]
        if not facts.is_missing(name):
            found += _of_queue(facts, name)
        yield from [finding for finding in found if finding.level != "ok"] or found


def _of_queue(facts: Facts, name: str) -> Iterator[Finding]:
    yield from ways(facts, name)
    for one in family(facts, name).values():
        yield from as_it_is(facts, one, name)
    yield from members(name, family(facts, name).values())
    yield from policies(facts, name, family(facts, name).values())
    yield from left_over(facts, name)
    yield from _work(facts, name)


def around(facts: Facts) -> Iterator[Finding]:
    """Say what is wrong with the queues that are nobody's own: delays, commands, the record, the schedules."""
    there = facts.management.queues or {}
    fixed = [queue.name for table in (RECORD, SCHEDULES, control_streams()) for queue in table.queues]
    ours = [one for name, one in there.items() if name in (*fixed, names.LATER_LOST) or is_step(name)]
    for one in ours:
        yield from as_it_is(facts, one, one.name)
    yield from members("tasks.*", ours)
    yield from policies(facts, "tasks.*", ours)
    if (lost := facts.waiting(names.LATER_LOST)) and lost.ready:
        what = f"{lost.ready} delayed task(s) came due, and no queue was there to take them"
        command = f"leveret redrive {names.LATER_LOST}"
        yield fail(names.LATER_LOST, what, "declare the queue they are for, then send them round again:", command)
    delayed = sum(one.messages for one in ours if is_step(one.name))
    if delayed:
        yield ok("delays", f"{delayed} task(s) wait until they are due")


def _work(facts: Facts, name: str) -> Iterator[Finding]:
    """Say whether somebody takes it, whether it grows, whether it is paused, and what is dead."""
    told = facts.at_workers(name)
    waits_in = list(names.level_queues(name).values()) if _has_levels(facts, name) else [name]
    seen = [waiting for one in waits_in if (waiting := facts.waiting(one))]
    if len(seen) < len(waits_in):
        if facts.cannot_connect or facts.cannot_count:
            return
        yield unknown(about(name), f"user {facts.user!r} may not see what waits", WHO_MAY, WHO_MAY_COMMAND)
        return
    ready, consumers = sum(one.ready for one in seen), max(one.consumers for one in seen)
    found = [*_taken(facts, name, ready, consumers), *_growing(facts, name, waits_in, ready)]
    paused = next((at.paused for _, at in told if at.paused), None)
    if paused:
        why = f": {paused.reason}" if paused.reason else ""
        what = f"{ready} wait, and it is paused by {paused.by}{why}"
        found.append(warn(about(name), what, command=f"leveret resume {quoted(name)}"))
    dlq = names.dlq_name(name)
    dead = facts.waiting(dlq)
    if dead is None and facts.is_refused(dlq):
        found.append(unknown(about(name), f"user {facts.user!r} may not see what is dead", WHO_MAY, WHO_MAY_COMMAND))
    if dead and dead.ready:
        what = f"{dead.ready} dead in {dlq}"
        found.append(warn(about(name), what, "see why:", f"leveret dead top {quoted(name)}"))
    yield from found
    if not found:
        takers = f"{len(told)} worker(s)" if told else f"{consumers} consumer(s)"
        yield ok(about(name), f"{ready} wait, {takers}")


def _has_levels(facts: Facts, name: str) -> bool:
    """Whether it has priorities: by its task module, by a worker, or else by the queues that are there."""
    if known := facts.known_queue(name):
        return known.priorities
    if told := facts.at_workers(name):
        return any(at.priorities for _, at in told)
    return all(facts.waiting(one) for one in names.level_queues(name).values())


def _taken(facts: Facts, name: str, ready: int, consumers: int) -> Iterator[Finding]:
    if facts.at_workers(name):
        return
    run = f"leveret run {quoted(name)} -a MODULE"
    if not consumers:
        say = fail if ready else warn
        yield say(about(name), f"{ready} wait and no worker takes them" if ready else "no worker takes it", command=run)
    elif facts.tells_all:
        what = f"{ready} wait; {consumers} consumer(s) take it, and none of them answers as a worker does"
        advice = "one that hangs, or no leveret worker; see who:"
        command = f"rabbitmqctl list_consumers -p {quoted(facts.vhost)}"
        yield warn(about(name), what, advice, command)


def _growing(facts: Facts, name: str, waits_in: list[str], ready: int) -> Iterator[Finding]:
    there, told = facts.management.queues, facts.at_workers(name)
    if there is None or not told or ready < _MANY or any(at.paused for _, at in told):
        return
    comes = sum(there[one].in_per_second for one in waits_in if one in there)
    ends = sum((at.finished + at.failed) / info.window_seconds for info, at in told)
    if comes > ends:
        what = f"{ready} wait, and it grows: {comes:.1f} come and {ends:.1f} end in a second"
        yield warn(
            about(name), what, "start more workers, or give them more processes:", f"leveret info {quoted(name)}"
        )


CHECKS = (queues, around)
"""In the order in which their findings are shown."""
