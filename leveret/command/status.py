"""Show what is known of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click

from leveret.command.ending import EXIT_ERROR, tell, tell_json
from leveret.command.shown_status import status_lines, status_object
from leveret.command.verb import Verb, json_option, split_commas
from leveret.producers.following.record import open_record
from leveret.producers.following.watching import watch
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.message import check_id
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status


@click.command(
    "status",
    cls=Verb,
    help="Show what the record knows of tasks; a recorder has to run (leveret recorder).\n\n"
    "An id that nobody knows is `unknown`: it never was, was not followed, or was forgotten in time.",
    examples="""
leveret status 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret status --json ID1 ID2
leveret status --follow ID           until all have ended
""",
    statuses="Exit status: 0 done; 1 one is unknown, or not done, and stderr says why; 2 wrong usage",
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=split_commas)
@click.option("--follow", is_flag=True, help="Go on to show what happens, until all have ended.")
@json_option
def verb(ids: Sequence[str], follow: bool, as_json: bool) -> int:
    """Show them."""
    for one in ids:
        check_id(one)
    return asyncio.run(_show(default_broker.resolve(settings.load()), ids, follow, as_json))


async def _show(configured: Settings, ids: Sequence[str], follow: bool, as_json: bool) -> int:
    if follow:
        last: dict[str, State] = {}
        async for status in watch(configured, ids):
            last[status.id] = status.state
            _tell(status, [], as_json)
        return EXIT_ERROR if State.UNKNOWN in last.values() else 0
    async with open_record(configured) as record:
        found = await record.with_attempts(ids)
    for status, attempts in found:
        _tell(status, attempts, as_json)
    return EXIT_ERROR if any(status.state is State.UNKNOWN for status, _ in found) else 0


def _tell(status: Status, attempts: Sequence[object], as_json: bool) -> None:
    rows = [one for one in attempts if isinstance(one, dict)]
    if as_json:
        tell_json(status_object(status, rows))
    else:
        tell(*status_lines(status, rows))
