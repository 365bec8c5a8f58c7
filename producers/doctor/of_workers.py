"""Checks of who works: time limits, what runs long, workers of different versions, schedulers, recorders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leveret.producers.doctor.facts import Facts, TimeLimit
from leveret.producers.doctor.finding import WHO_MAY, WHO_MAY_COMMAND, Finding, fail, ok, quoted, unknown, warn
from leveret.producers.watching.look import what_runs
from leveret.topology.names import RECORD_QUEUE, SCHEDULES_QUEUE

_TIMEOUTS = ("x-consumer-timeout", "consumer-timeout")
"""The argument of a queue, and the rule of a policy, by which RabbitMQ 4.3 has a timeout for each queue."""


def time_limits(facts: Facts) -> Iterator[Finding]:
    """Say which tasks may run longer than the broker waits: it gives them to another worker meanwhile."""
    running = [
        TimeLimit(one.task.task, one.task.queue, one.task.limit or 0.0) for one in what_runs(facts.workers or ())
    ]
    limits = {one.task: one for one in (*running, *facts.time_limits) if one.queue in facts.names}
    bad = []
    for one in sorted(limits.values()):
        timeout = _timeout(facts, one.queue)
        if one.seconds >= timeout:
            what = f"{one.task} may run {one.seconds:g} s; the broker gives it to another worker after {timeout:g} s"
            advice = "lower its time_limit, or raise the broker's consumer_timeout and CONSUMER_TIMEOUT_SECONDS here"
            bad.append(warn("time limit", what, advice))
    yield from bad
    if limits and not bad:
        shortest = min(_timeout(facts, one.queue) for one in limits.values())
        yield ok("time limit", f"{len(limits)} task(s) below the consumer_timeout of {shortest:g} s, as it is set here")


def _timeout(facts: Facts, queue: str) -> float:
    """Return the seconds of a queue's own timeout, or what the settings say of the broker's, which nobody can read."""
    described = (facts.management.queues or {}).get(queue)
    argument, rule = _TIMEOUTS
    milliseconds: Any = described and (described.policy.get(rule) or described.arguments.get(argument))
    return milliseconds / 1000 if isinstance(milliseconds, int) and milliseconds else facts.consumer_timeout_seconds


def running(facts: Facts) -> Iterator[Finding]:
    """Say what will soon have run as long as it may."""
    for one in what_runs(facts.workers or ()):
        if one.is_near_limit and one.task.queue in facts.names:
            what = f"has run {one.task.seconds:.0f} of the {one.task.limit:g} s it may, on {one.worker}: {one.task.id}"
            command = f"leveret cancel {quoted(one.task.id)}"
            yield warn(f"task {one.task.task}", what, "it is killed then, and tried again; to end it at once:", command)


def workers(facts: Facts) -> Iterator[Finding]:
    """Say who is there, and whether all are of one version."""
    if facts.cannot_connect:
        return
    if facts.workers is None:
        yield unknown("workers", f"they cannot be asked: {facts.cannot_ask}")
        return
    if facts.unreadable:
        what = f"{facts.unreadable} answer(s) that no worker of this version gives"
        yield warn("workers", what, "see who is bound:", f"rabbitmqctl list_bindings -p {quoted(facts.vhost)}")
    versions: dict[str, list[str]] = {}
    for info in facts.workers:
        versions.setdefault(info.leveret, []).append(info.worker)
    if len(versions) > 1:
        what = "of different versions: " + "; ".join(
            f"{version} at {len(at)}, as {min(at)}" for version, at in sorted(versions.items())
        )
        yield warn("workers", what, "end the upgrade: restart those of the older version")
    elif facts.workers:
        processes = sum(info.processes.now for info in facts.workers)
        yield ok("workers", f"{len(facts.workers)} with {processes} process(es), all of version {min(versions)}")


def schedulers(facts: Facts) -> Iterator[Finding]:
    """Say whether somebody fires the schedules, where there have ever been any."""
    yield from _served(facts, "schedules", SCHEDULES_QUEUE, "nobody fires them", "leveret schedule -a MODULE")


def recorders(facts: Facts) -> Iterator[Finding]:
    """Say whether somebody keeps the record, where there has ever been one."""
    yield from _served(
        facts, "recorder", RECORD_QUEUE, "none runs: results and statuses cannot be had", "leveret recorder"
    )


def _served(facts: Facts, about: str, queue: str, absent: str, command: str) -> Iterator[Finding]:
    seen = facts.waiting(queue)
    if seen is None:
        if facts.is_refused(queue):
            yield unknown(about, f"user {facts.user!r} may not see {queue}", WHO_MAY, WHO_MAY_COMMAND)
    elif not seen.consumers:
        yield fail(about, f"{absent} ({seen.ready} message(s) in {queue})", command=command)
    else:
        yield ok(about, f"{seen.consumers} serve(s), {seen.ready} message(s) wait")


CHECKS = (time_limits, running, workers, schedulers, recorders)
"""In the order in which their findings are shown."""
