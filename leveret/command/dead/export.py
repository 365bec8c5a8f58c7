"""Write dead messages to a file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from leveret.command.dead.options import STATUSES, filters, note_held, queues_of, see_some, wanted_of
from leveret.command.ending import EXIT_PARTLY
from leveret.command.verb import Verb, note, quiet_option
from leveret.producers.dead.files import export, whole
from leveret.topology import settings
from leveret.topology.link import default_broker


@click.command(
    "export",
    cls=Verb,
    help="Write the dead messages of QUEUE, or of all queues, to FILE; they stay where they are. `-` is stdout.\n\n"
    "The file has a JSON object a line with everything: body, headers and properties. It is there when all is written.",
    examples="""
leveret dead export dead.jsonl
leveret dead export mail.jsonl mail --kind KeyError
leveret dead export - mail | head -1
""",
    statuses=STATUSES,
)
@click.argument("file", metavar="FILE")
@click.argument("queue", required=False)
@filters
@quiet_option
def verb(file: str, queue: str | None, quiet: bool, **said: Any) -> int:
    """Write them."""
    configured = default_broker.resolve(settings.load())
    queues, wanted = queues_of(queue, configured), wanted_of(**said)
    if file == "-":
        done = asyncio.run(export(configured, queues, sys.stdout.buffer, wanted))
        sys.stdout.buffer.flush()
    else:
        with whole(Path(file)) as out:
            done = asyncio.run(export(configured, queues, out, wanted))
            if not (done.count or done.held_by_others):
                see_some(queues, wanted)  # and leave a former file as it was
    note(f"{done.count} message(s) written{'' if file == '-' else f' to {file}'}; they are still dead", quiet)
    return EXIT_PARTLY if note_held("export", done.held_by_others) else 0
