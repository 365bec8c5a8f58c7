"""Have workers take from a paused queue again."""

from __future__ import annotations

import click

from leveret.command.ending import tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.following.cancelling import resume
from leveret.producers.following.commanding import check_queue
from leveret.topology.names import work_queue_of


@click.command(
    "resume",
    cls=Verb,
    help="Have all workers take from a paused work queue again.\n\n"
    "QUEUE is the work queue; the name of its DLQ, of a retry tier or of a level means the same.",
    examples="""
leveret pause mail --reason 'the relay is down'
leveret resume mail
""",
)
@click.argument("queue")
@click.option("--reason", default="", metavar="TEXT", help="Why; workers log it.")
@json_option
@quiet_option
def verb(queue: str, reason: str, as_json: bool, quiet: bool) -> int:
    """Have it go on, if there is such a queue."""
    queue = check_queue(work_queue_of(queue))
    resume(queue, reason=reason)
    if as_json:
        tell_json({"queue": queue, "paused": False})
    note(f"{queue} goes on: workers take from it again", quiet)
    return 0
