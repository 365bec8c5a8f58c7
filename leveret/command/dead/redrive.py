"""Send dead messages round again, a few first if wished."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import click

from leveret.command.dead.options import Progress, filters, one_queue, see_some, wanted_of
from leveret.command.ending import EXIT_FAILED, EXIT_NOT_YET
from leveret.command.moments import Span
from leveret.command.redrive import report, teller
from leveret.command.verb import Verb, filled, json_option, note, quiet_option
from leveret.producers.dead.canary import Tried, has_run, try_some
from leveret.producers.dead.letters import DeadMessage, holding
from leveret.producers.dead.redrive import redrive
from leveret.producers.dead.wanted import Wanted
from leveret.topology import settings
from leveret.topology.events import Event, Kind
from leveret.topology.link import default_broker
from leveret.topology.settings import Settings

_TOLD = {Kind.RETRYING: "failed, is tried again", Kind.FAILED: "failed for good", Kind.SUCCEEDED: "succeeded"}


@click.command(
    "redrive",
    cls=Verb,
    help="Send dead messages of QUEUE round again, each confirmed before it leaves the DLQ, as attempt 1.\n\n"
    "With --canary a few go first and are followed to their end; if one of them fails for good again, the others stay. "
    "That needs no recorder. Each message keeps how often it was redriven, when and by whom.",
    examples="""
leveret dead redrive mail --kind ConnectionError --dry-run
leveret dead redrive mail --kind ConnectionError --canary 3
leveret dead redrive mail --older 1h --rate 20
leveret dead redrive mail --group g4f9a21c --to mail-slow
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 some are left; 4 a canary failed "
    "again; 5 a canary has not ended",
)
@click.argument("queue")
@filters
@click.option("--canary", type=click.IntRange(1), metavar="N", help="So many first; the others if these succeed.")
@click.option("--timeout", type=Span(), metavar="TIME", help="How long to wait for these; else until they end.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="No more than N a second.")
@click.option("--to", default=None, metavar="QUEUE", callback=filled, help="Send them to this work queue instead.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and leave it there.")
@json_option
@quiet_option
def verb(
    queue: str,
    canary: int | None,
    timeout: float | None,
    rate: float | None,
    to: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **said: Any,
) -> int:
    """Redrive, telling of each message once it went."""
    if timeout is not None and canary is None:
        raise click.UsageError("--timeout goes with --canary")
    if canary is not None and dry_run:
        raise click.UsageError("--canary does not go with --dry-run")
    configured = default_broker.resolve(settings.load())
    queue, wanted = one_queue(queue, configured), wanted_of(**said)
    target = one_queue(to, configured) if to else ""
    tell_of = teller(queue, as_json, quiet)
    went: set[str] = set()
    if canary is not None:
        tried = _try(configured, queue, wanted, canary, target, timeout, quiet)
        for dead in tried.redriven.messages:
            tell_of(dead)
            went.add(str(dead.id))
        if status := _judge(tried, queue, quiet):
            return status
    progress = Progress(f"went to {target or queue}", quiet or as_json)

    def count_and_tell(dead: DeadMessage) -> None:
        progress.clear()
        tell_of(dead)
        progress.add()

    try:
        redriven = asyncio.run(
            redrive(configured, queue, (), dry_run, count_and_tell, wanted=wanted, per_second=rate, to=target)
        )
    finally:
        progress.clear()
    if not (went or wanted.ids or redriven.messages or redriven.set_aside or redriven.held_by_others):
        see_some([queue], wanted)
    return report("dead redrive", redriven, queue, set(wanted.ids) - went, dry_run, quiet, target)


def _try(
    configured: Settings, queue: str, wanted: Wanted, count: int, to: str, timeout: float | None, quiet: bool
) -> Tried:
    note(f"{count} first, until they end; Ctrl-C leaves the others where they are", quiet)

    def on_event(task_id: str, kind: Kind, event: Event) -> None:
        if what := _TOLD.get(kind):
            failure = event.get("failure", {})
            why = f": {failure.get('type', '')}: {failure.get('message', '')}" if failure else ""
            attempt = f" attempt {event['attempt']} of {event['of']}" if "attempt" in event and "of" in event else ""
            note(f"{task_id}{attempt} {what}{why:.200}", quiet)

    return asyncio.run(try_some(configured, queue, wanted, count, to=to, timeout_seconds=timeout, on_event=on_event))


def _judge(tried: Tried, queue: str, quiet: bool) -> int:
    """Say how they ended; returns the exit status where the others are to stay."""
    for status in tried.ended:
        if has_run(status) and status.failure:
            note(
                f"{status.id} has run to its end, but its result is no JSON, which is looked at where a task is "
                f"followed, and so it is dead: leveret dead discard {queue} --id {status.id} --yes"
            )
    for _dead, error in tried.redriven.set_aside:
        note(f"leveret dead redrive: left in {holding(queue)}, for it cannot be sent again: {error}")
    if tried.failed:
        states = Counter(str(one.state) for one in tried.failed)
        said = ", ".join(f"{count} {state}" for state, count in states.items())
        note(
            f"leveret dead redrive: of {len(tried.redriven.messages)} that went first {said}; the others stay in "
            f"{holding(queue)}. See why: leveret dead top {queue} --newer 1h"
        )
        return EXIT_FAILED
    if tried.under_way:
        note(
            f"leveret dead redrive: not ended yet: {', '.join(tried.under_way)}; the others stay in {holding(queue)}. "
            f"Is a worker there? leveret info {queue}"
        )
        return EXIT_NOT_YET
    note(f"{len(tried.ended)} succeeded", quiet)
    return 0
