"""Cancel tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from leveret.command.ending import tell, tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option, split_commas
from leveret.producers.following.cancelling import cancel


@click.command(
    "cancel",
    cls=Verb,
    help="Cancel tasks: what waits, or waits to be tried again, will not run; what runs is told to end, and its "
    "process is killed when it has not after 2 seconds.\n\n"
    "- reads ids from stdin, one a line. What has ended already stays as it is; nobody is asked whether a task is "
    "there. It may be done again.",
    examples="""
leveret cancel 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 --reason 'wrong list'
leveret submit mail.send to=a@example.org | leveret cancel -
""",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID…", callback=split_commas)
@click.option("--reason", default="", metavar="TEXT", help="Why; workers log it.")
@json_option
@quiet_option
def verb(ids: Sequence[str], reason: str, as_json: bool, quiet: bool) -> int:
    """Cancel, then name what was cancelled."""
    chosen: dict[str, None] = {}
    for one in ids:
        if one == "-":
            chosen.update(dict.fromkeys(line.strip() for line in sys.stdin if line.strip()))
        else:
            chosen[one] = None
    if not chosen:
        raise click.UsageError("stdin has no ids")
    cancel(*chosen, reason=reason)
    for task_id in chosen:
        if as_json:
            tell_json({"id": task_id, "cancel": "sent"})
        else:
            tell(task_id)
    note(f"cancel sent for {len(chosen)} task(s); what has ended before it arrives stays as it is", quiet)
    return 0
