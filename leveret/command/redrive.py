"""Send dead messages round again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import click

from leveret.command.ending import EXIT_ERROR, EXIT_PARTLY, tell, tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option, split_commas
from leveret.producers.dead.letters import DeadMessage, holding
from leveret.producers.dead.redrive import Redriven, redrive
from leveret.producers.following.commanding import check_queue
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.names import without_level, work_queue_of


@click.command(
    "redrive",
    cls=Verb,
    help="Send the messages of a work queue's DLQ round again, each confirmed before it leaves the DLQ.\n\n"
    "QUEUE is the work queue; the name of its DLQ, or of a retry tier, means the same. tasks.later.lost has the "
    "delayed tasks that no queue took when they were due.",
    examples="""
leveret redrive words --dry-run
leveret redrive words
leveret redrive words --id 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret redrive words --stranded     takes up to 3 minutes
leveret redrive tasks.later.lost
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 some are left",
)
@click.argument("queue")
@click.option("--id", "ids", multiple=True, metavar="ID", callback=split_commas, help="Only this one; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show what would go, and leave it there.")
@click.option("--stranded", is_flag=True, help="Not the DLQ, but what is stranded in the queue's retry tiers.")
@json_option
@quiet_option
def verb(queue: str, ids: Sequence[str], dry_run: bool, stranded: bool, as_json: bool, quiet: bool) -> int:
    """Redrive, telling of each message once it went."""
    if stranded and (ids or dry_run):
        raise click.UsageError("--stranded goes with neither --id nor --dry-run")
    queue = work_queue_of(queue)
    configured = default_broker.resolve(settings.load())
    if without_level(queue):
        queue = check_queue(queue, configured)
    tell_of = teller(queue, as_json, is_short=quiet or stranded)
    if stranded:
        return _free(configured, queue, tell_of, quiet)
    redriven: Redriven = asyncio.run(redrive(configured, queue, ids, dry_run, tell_of))
    return report("redrive", redriven, queue, ids, dry_run, quiet)


def teller(queue: str, as_json: bool, is_short: bool) -> Callable[[DeadMessage], None]:
    """Return what tells of each message on stdout."""

    def tell_of(dead: DeadMessage) -> None:
        task_id = dead.properties.message_id or ""  # one without an id was given one as it went
        if as_json:
            attempts = int(dead.attempts) if dead.attempts.isdecimal() else None
            row = {"id": task_id, "task": dead.task, "attempts": attempts, "reason": dead.reason, "queue": queue}
            tell_json(row)
        else:
            about = "" if is_short else f"  {dead.task}, {dead.attempts} attempts: {dead.reason}"
            tell(f"{task_id or '(no id)'}{about}")

    return tell_of


def report(
    verb_name: str, redriven: Redriven, queue: str, ids: Collection[str], dry_run: bool, quiet: bool, to: str = ""
) -> int:
    """Say on stderr what went and what did not; returns the exit status."""
    for _dead, error in redriven.set_aside:
        note(f"leveret {verb_name}: left in {holding(queue)}, for it cannot be sent again: {error}")
    found = [*redriven.messages, *(dead for dead, _ in redriven.set_aside)]
    missing = sorted(set(ids) - {str(dead.id) for dead in found})
    for task_id in missing:
        note(f"leveret {verb_name}: no message {task_id} lies in {holding(queue)}")
    verb_ = "would go" if dry_run else "went"
    where = to or ("where they were to go" if queue == holding(queue) else queue)
    note(f"{len(redriven.messages)} message(s) {verb_} from {holding(queue)} to {where}", quiet)
    if redriven.held_by_others:
        note(
            f"leveret {verb_name}: {redriven.held_by_others} more were held by others, who look at them or redrive "
            "them; look again when they have ended"
        )
    return EXIT_ERROR if missing else EXIT_PARTLY if redriven.held_by_others or redriven.set_aside else 0


def _free(configured: settings.Settings, queue: str, tell_of: Callable[[DeadMessage], None], quiet: bool) -> int:
    from leveret.producers.dead.stranded import free_stranded

    went = 0

    def count_and_tell(dead: DeadMessage) -> None:
        nonlocal went
        went += 1
        tell_of(dead)

    note(f"waiting for the broker to try again what is in the retry tiers of {queue}, up to 3 minutes", quiet)
    left = asyncio.run(free_stranded(configured, queue, count_and_tell))
    note(f"{went} message(s) went from the retry tiers of {queue} to {queue}", quiet)
    if left:
        note(f"leveret redrive: {left} are still stranded; do it again")
    return EXIT_PARTLY if left else 0
