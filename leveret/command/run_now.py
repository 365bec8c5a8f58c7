"""Have delayed tasks run now."""

from __future__ import annotations

from collections.abc import Sequence

import click

from leveret.command.ending import EXIT_ERROR, EXIT_PARTLY, tell, tell_json
from leveret.command.verb import Verb, json_option, named_ids, note, quiet_option
from leveret.producers.run_now import run_now
from leveret.topology.printable import printable


@click.command(
    "run-now",
    cls=Verb,
    help="Have delayed tasks run now: those of `submit --delay` or --at, and those that asked to be run later. No "
    "recorder is needed. - reads ids from stdin, one a line.",
    examples="""
leveret run-now 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret run-now - < ids.txt
""",
    statuses="Exit status: 0 done; 1 none is delayed, or stderr says why; 2 wrong usage; 3 some are not delayed",
)
@click.argument("ids", nargs=-1, metavar="ID…", required=True)
@json_option
@quiet_option
def verb(ids: Sequence[str], as_json: bool, quiet: bool) -> int:
    """Have them run, then name those that were delayed."""
    chosen = named_ids(ids)
    found = run_now(*chosen)
    for task_id in found:
        if as_json:
            tell_json({"id": task_id, "runs": "now"})
        else:
            tell(task_id)
    missing = [one for one in chosen if one not in found]
    for task_id in missing:
        why = "is not delayed, or too many are before it; leveret status says what is known of it"
        note(f"leveret run-now: {printable(task_id)} {why}")
    note(f"{len(found)} delayed task(s) run now", quiet)
    return 0 if not missing else EXIT_PARTLY if found else EXIT_ERROR
