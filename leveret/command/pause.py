"""Have workers take nothing more from a queue."""

from __future__ import annotations

import click

from leveret.command.ending import tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.following.cancelling import pause
from leveret.producers.following.commanding import check_queue
from leveret.topology.names import work_queue_of


@click.command(
    "pause",
    cls=Verb,
    help="Have all workers take nothing more from a work queue, also those that start later. What runs ends; what "
    "waits stays in the queue, and tasks may still be submitted to it.\n\n"
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
    """Pause it, if there is such a queue."""
    queue = check_queue(work_queue_of(queue))
    pause(queue, reason=reason)
    if as_json:
        tell_json({"queue": queue, "paused": True})
    note(f"{queue} is paused: workers finish what runs, and take again after leveret resume {queue}", quiet)
    return 0
