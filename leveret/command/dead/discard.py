"""Take dead messages out of a DLQ, into a file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from leveret.command.dead.options import Progress, filters, is_meant, note_held, one_queue, see_some, wanted_of
from leveret.command.ending import EXIT_PARTLY, tell
from leveret.command.verb import Verb, filled, note, quiet_option
from leveret.producers.dead.discard import discard
from leveret.producers.dead.files import creating, keep_in
from leveret.producers.dead.letters import DeadMessage, holding
from leveret.producers.dead.reading import read
from leveret.topology import settings
from leveret.topology.link import default_broker


@click.command(
    "discard",
    cls=Verb,
    help="Take dead messages out of the DLQ of QUEUE. Each is written to a file before, from which `import` puts it "
    "back; the file's name goes to stdout.",
    examples="""
leveret dead discard mail --older 30d
leveret dead discard mail --group g4f9a21c --to gone.jsonl
leveret dead discard mail --id 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 --yes
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 others held some of them",
)
@click.argument("queue")
@filters
@click.option("--to", "file", default=None, metavar="FILE", callback=filled, help="Write them there; not yet there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@quiet_option
def verb(queue: str, file: str | None, yes: bool, quiet: bool, **said: Any) -> int:
    """Take them out."""
    configured = default_broker.resolve(settings.load())
    queue, wanted = one_queue(queue, configured), wanted_of(**said)
    count = 0

    def look(dead: DeadMessage) -> None:
        nonlocal count
        count += wanted.takes(dead)

    seen = asyncio.run(read(configured, queue, look))
    if not count:
        if note_held("discard", seen.held_by_others):
            return EXIT_PARTLY
        see_some([queue], wanted)
        note(f"{holding(queue)} is empty", quiet)
        return 0
    path = Path(file or f"{holding(queue)}-discarded-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl".replace("/", "_"))
    if not is_meant(f"discard {count} message(s) of {holding(queue)}, into {path}", yes):
        note("nothing was discarded", quiet)
        return 0
    progress = Progress(f"of {count} discarded", quiet)
    with creating(path) as out:
        tell(str(path))
        try:
            done = asyncio.run(
                discard(configured, queue, wanted, keep_in(out, path, queue), lambda _dead: progress.add(), count)
            )
        finally:
            progress.clear()
    note(f"{done.count} message(s) discarded; leveret dead import {path} puts them back", quiet)
    return EXIT_PARTLY if note_held("discard", done.held_by_others) else 0
