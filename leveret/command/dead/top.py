"""Count the dead by why they are dead."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from leveret.command.dead.options import STATUSES, ago, filters, note_held, queues_of, wanted_of
from leveret.command.ending import EXIT_PARTLY, tell, tell_json
from leveret.command.screen import width
from leveret.command.table import Column, table
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.dead.groups import Groups, top
from leveret.producers.dead.letters import holding
from leveret.topology import settings
from leveret.topology.link import default_broker

_COLUMNS = (
    Column("GROUP"),
    Column("COUNT", right=True),
    Column("TASK", may_cut=True),
    Column("KIND", may_cut=True),
    Column("WHERE", may_cut=True),
    Column("LAST", right=True),
    Column("EXAMPLE"),
)
_SHOWN_ID_CHARACTERS = 13
_MOST_SHOWN = 30


@click.command(
    "top",
    cls=Verb,
    help="Count the dead messages of QUEUE, or of all queues, by task, exception and place. They stay as they are.\n\n"
    "A GROUP is named alike as long as those three are the same; `show`, and --group of the other verbs, take it.",
    examples="""
leveret dead top
leveret dead top mail --newer 1h
leveret dead top mail --json
""",
    statuses=STATUSES,
)
@click.argument("queue", required=False)
@filters
@json_option
@quiet_option
def verb(queue: str | None, as_json: bool, quiet: bool, **said: Any) -> int:
    """Count them."""
    configured = default_broker.resolve(settings.load())
    held = 0
    for one in queues_of(queue, configured):
        found = asyncio.run(top(configured, one, wanted_of(**said)))
        held += found.held_by_others
        if as_json:
            _tell_json(found)
        elif found.count or queue:
            _tell(found, quiet)
    return EXIT_PARTLY if note_held("top", held) else 0


def _tell_json(found: Groups) -> None:
    for group in found.groups:
        tell_json(
            {
                "queue": found.queue,
                "group": group.fingerprint,
                "count": group.count,
                "task": group.task,
                "kind": group.kind,
                "place": group.place,
                "message": group.message,
                "oldest": group.oldest,
                "newest": group.newest,
                "example": group.example,
            }
        )


def _tell(found: Groups, quiet: bool) -> None:
    shown = found.groups[:_MOST_SHOWN]
    oldest = min((group.oldest for group in found.groups if group.oldest is not None), default=None)
    newest = max((group.newest for group in found.groups if group.newest is not None), default=None)
    span = "" if oldest is None else f"  newest {ago(newest)} ago, oldest {ago(oldest)} ago"
    tell(f"{found.count} dead in {holding(found.queue)}{span}")
    if not shown:
        return
    rows = [
        (
            group.fingerprint,
            str(group.count),
            group.task,
            group.kind,
            group.place or "-",
            ago(group.newest),
            _shortened(group.example),
        )
        for group in shown
    ]
    tell(*table(_COLUMNS, rows, width()))
    if rest := sum(group.count for group in found.groups[_MOST_SHOWN:]) + found.others:
        note(f"{rest} more are of other groups; --json has up to 1000 of these", quiet)
    note(f"next: leveret dead show {shown[0].fingerprint}", quiet)
    note(f"      leveret dead redrive {found.queue} --group {shown[0].fingerprint} --canary 3", quiet)


def _shortened(task_id: str) -> str:
    return task_id if len(task_id) <= _SHOWN_ID_CHARACTERS else f"{task_id[:_SHOWN_ID_CHARACTERS]}…"
