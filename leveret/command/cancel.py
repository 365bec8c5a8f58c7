"""Cancel tasks."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from leveret.command.ending import EXIT_ERROR, tell, tell_json
from leveret.command.verb import Verb, filled, json_option, named_ids, note, quiet_option, split_commas
from leveret.producers.following.cancelling import cancel
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.link.connection import check_any
from leveret.topology.printable import printable
from leveret.topology.settings import Settings
from leveret.topology.status import State

_STATES = [str(state) for state in State if state is not State.UNKNOWN and not state.is_final]


@click.command(
    "cancel",
    cls=Verb,
    help="Cancel tasks: what waits, or waits to be tried again, will not run; what runs is told to end, and its "
    "process is killed when it has not after 2 seconds.\n\n"
    "- reads ids from stdin, one a line. What has ended already stays as it is; nobody is asked whether a task is "
    "there. It may be done again.\n\n"
    "--task and --state cancel what is in the record; a recorder has to run for that (leveret recorder).",
    examples="""
leveret cancel 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 --reason 'wrong list'
leveret submit mail.send to=a@example.org | leveret cancel -
leveret cancel --task 'mail.*' --state started,retrying --yes
""",
)
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--task", metavar="NAME", default=None, callback=filled, help="In which * and ? stand for anything.")
@click.option(
    "--state", "states", multiple=True, metavar="STATE", callback=split_commas, help=f"Of {', '.join(_STATES)}."
)
@click.option("--reason", default="", metavar="TEXT", help="Why; workers log it.")
@click.option("--yes", is_flag=True, help="Do not ask before a list of the record is cancelled.")
@json_option
@quiet_option
def verb(
    ids: Sequence[str], task: str | None, states: Sequence[str], reason: str, yes: bool, as_json: bool, quiet: bool
) -> int:
    """Cancel, then name what was cancelled."""
    is_list = task is not None or bool(states)
    if bool(ids) == is_list:
        raise click.UsageError("name tasks by id, or a list of the record by --task or --state")
    for one in states:
        if one not in _STATES:
            raise click.BadParameter(
                f"no task is cancelled in state {printable(one)!r}; there are: {', '.join(_STATES)}",
                param_hint="--state",
            )
    configured = default_broker.resolve(settings.load())
    chosen = _listed(configured, task, states or _STATES) if is_list else named_ids(ids)
    if is_list and not (chosen and _is_meant(len(chosen), yes)):
        note("no task was cancelled", quiet)
        return EXIT_ERROR
    check_any(configured)  # fail fast, where publishing would wait for the broker
    cancel(*chosen, reason=reason, configured=configured)
    for task_id in chosen:
        if as_json:
            tell_json({"id": task_id, "cancel": "sent"})
        else:
            tell(task_id)
    note(f"cancel sent for {len(chosen)} task(s); what has ended before it arrives stays as it is", quiet)
    return 0


def _listed(configured: Settings, task: str | None, states: Sequence[str]) -> list[str]:
    from leveret.producers.following.record import recorded  # msgspec; who names ids does without

    return [status.id for status in recorded(state=states, task=task or "", configured=configured)]


def _is_meant(count: int, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"{count} task(s) would be cancelled; say --yes where nobody can be asked")
    return click.confirm(f"cancel {count} task(s)?", err=True)
