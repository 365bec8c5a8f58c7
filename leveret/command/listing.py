"""List tasks that are in the record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import click

from leveret.command.ending import tell, tell_json
from leveret.command.moments import Span
from leveret.command.shown_status import status_object, table_lines
from leveret.command.verb import Verb, filled, json_option, note, split_commas
from leveret.producers.following.record import recorded
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.printable import printable
from leveret.topology.status import State

_STATES = [str(state) for state in State if state is not State.UNKNOWN]


@click.command(
    "list",
    cls=Verb,
    help="List the tasks in the record, those that changed last first; a recorder has to run (leveret recorder).",
    examples="""
leveret list
leveret list --state failed --task 'mail.*' --since 1h
leveret list --state started,retrying --json
""",
)
@click.option(
    "--state", "states", multiple=True, metavar="STATE", callback=split_commas, help=f"Of {', '.join(_STATES)}."
)
@click.option("--task", metavar="NAME", default=None, callback=filled, help="In which * and ? stand for anything.")
@click.option("--queue", metavar="QUEUE", default=None, callback=filled, help="Only what was taken from there.")
@click.option("--since", type=Span(), metavar="TIME", help="What has changed since then: 90s, 15m, 1h, 2d.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="No more than that.")
@json_option
def verb(
    states: Sequence[str], task: str | None, queue: str | None, since: float | None, limit: int, as_json: bool
) -> int:
    """List them."""
    for one in states:
        if one not in _STATES:
            raise click.BadParameter(
                f"there is no state {printable(one)!r}; there are: {', '.join(_STATES)}", param_hint="--state"
            )
    configured = default_broker.resolve(settings.load())
    found = recorded(state=states, task=task or "", queue=queue or "", since=since, configured=configured)
    if as_json:
        for status in islice(found, limit):
            tell_json(status_object(status))
        return 0
    shown = list(islice(found, limit + 1))
    tell(*table_lines(shown[:limit]))
    if len(shown) > limit:
        note(f"there are more than these {limit}; --limit shows more")
    return 0
