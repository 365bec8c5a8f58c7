"""List dead messages."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from leveret.command.dead.options import STATUSES, ago, filters, note_held, queues_of, wanted_of
from leveret.command.ending import EXIT_PARTLY, tell, tell_json
from leveret.command.screen import width
from leveret.command.table import Column, table
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.dead import history
from leveret.producers.dead.letters import DeadMessage, holding
from leveret.producers.dead.reading import read
from leveret.producers.dead.reason import Reason, reason_of
from leveret.producers.reading import ALL
from leveret.topology import settings
from leveret.topology.link import default_broker

_COLUMNS = (
    Column("ID", may_cut=True),
    Column("DIED", right=True),
    Column("TASK", may_cut=True),
    Column("KIND", may_cut=True),
    Column("SAYS", may_cut=True),
)


@click.command(
    "list",
    cls=Verb,
    help="List the dead messages of QUEUE, or of all queues, in the order in which they lie. They stay as they are.",
    examples="""
leveret dead list mail
leveret dead list mail --kind KeyError --text tariff
leveret dead list mail --page 2
leveret dead list --json --limit 100000 > dead.jsonl
""",
    statuses=STATUSES,
)
@click.argument("queue", required=False)
@filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="So many of a queue.")
@click.option("--page", type=click.IntRange(1), default=1, metavar="N", help="The first so many, the next, and so on.")
@json_option
@quiet_option
def verb(queue: str | None, limit: int, page: int, as_json: bool, quiet: bool, **said: Any) -> int:
    """List them."""
    configured = default_broker.resolve(settings.load())
    wanted, held = wanted_of(**said), 0
    for one in queues_of(queue, configured):
        rows: list[tuple[str, ...]] = []
        skip, found = (page - 1) * limit, 0

        def look(dead: DeadMessage, one: str = one, rows: list[tuple[str, ...]] = rows, skip: int = skip) -> bool:
            nonlocal found
            if not wanted.takes(dead):
                return True
            found += 1
            if found > skip + limit:
                return False
            if found > skip:
                reason = reason_of(dead)
                if as_json:
                    tell_json(_object(one, dead, reason))
                else:
                    rows.append((str(dead.id) or "(no id)", ago(reason.at), reason.task, reason.kind, reason.message))
            return True

        at_once = skip + limit + 1 if wanted.is_everything else ALL
        held += asyncio.run(read(configured, one, look, min(at_once, ALL))).held_by_others
        if rows:
            tell(*table(_COLUMNS, rows, width()))
        elif queue and not as_json:
            note(f"no such message lies in {holding(one)}" if found <= skip else f"it has only {found} of them", quiet)
        if found > skip + limit:
            note(f"there are more in {holding(one)}: --page {page + 1}", quiet)
    return EXIT_PARTLY if note_held("list", held) else 0


def _object(queue: str, dead: DeadMessage, reason: Reason) -> dict[str, Any]:
    return {
        "id": str(dead.id),
        "queue": queue,
        "group": reason.fingerprint,
        "task": reason.task,
        "kind": reason.kind,
        "message": reason.message,
        "place": reason.place,
        "attempts": reason.attempts,
        "worker": reason.worker,
        "first_at": reason.first_at,
        "at": reason.at,
        "redriven": history.times_of(dead.properties.headers),
        "bytes": len(dead.body),
    }
