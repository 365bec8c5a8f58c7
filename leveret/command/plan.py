"""Show what differs between the code's queues and the broker's."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_ERROR, EXIT_USAGE, tell, tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option, tasks_option
from leveret.topology import queues, settings
from leveret.topology.link import default_broker
from leveret.topology.plan.difference import Difference, Kind
from leveret.topology.plan.planning import plan

DIFFERS = EXIT_USAGE
"""The exit status where something differs, as of diff and of others that plan."""
_WIDTH, _INDENT = 80, " " * 11


@click.command(
    "plan",
    cls=Verb,
    help="Show what differs between the queues in the code and the broker: exchanges, queues, arguments, bindings, "
    "policies, and what is left over. It changes nothing; leveret apply does.",
    examples="""
leveret plan -a my_app
leveret plan -a my_app --json
leveret plan -a my_app && echo as it should be
""",
    statuses="Exit status: 0 nothing differs; 1 not known, and stderr says why; 2 something differs, or wrong usage",
)
@tasks_option("Module whose queues to compare; may be repeated")
@json_option
@quiet_option
def verb(tasks: Sequence[str], as_json: bool, quiet: bool) -> int:
    """Compare, and show what differs."""
    configured = settings.load()
    task_modules.load_own(tasks, configured, "plan")
    configured = default_broker.resolve(configured)
    made = plan(configured, queues.known())
    show(made.differences, as_json)
    if made.unseen:
        note(f"leveret plan: {made.unseen}")
    elif not made.differences:
        note("nothing differs", quiet)
    else:
        is_only_left_over = all(one.kind is Kind.LEFT_OVER for one in made.differences)
        next_step = (
            "leveret apply --prune takes away what holds nothing" if is_only_left_over else "leveret apply changes it"
        )
        note(f"{summary(made.differences)}; {next_step}", quiet)
    return DIFFERS if made.differences else EXIT_ERROR if made.unseen else 0


def show(differences: Sequence[Difference], as_json: bool) -> None:
    """Print differences on stdout: a table whose long texts stand on lines of their own, or JSON."""
    if as_json:
        for one in differences:
            tell_json(one._asdict() | {"kind": one.kind.value, "work_queue": one.work_queue or None})
        return
    for kind in Kind:
        rows = [one for one in differences if one.kind is kind]
        if rows:
            tell(kind.value)
        for one in rows:
            tell(f"  {one.object:<8} {one.name}")
            if one.why != "missing":
                tell(
                    *textwrap.wrap(
                        one.why, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
                    )
                )


def summary(differences: Sequence[Difference]) -> str:
    """Return how many there are of each kind."""
    counts = {kind: sum(one.kind is kind for one in differences) for kind in Kind}
    return ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count)
