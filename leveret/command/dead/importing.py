"""Put dead messages of a file back into their DLQs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from leveret.command.dead.options import Progress, note_held, one_queue
from leveret.command.ending import EXIT_PARTLY
from leveret.command.verb import Verb, note, quiet_option
from leveret.producers.dead.files import put_back
from leveret.topology import settings
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker


@click.command(
    "import",
    cls=Verb,
    help="Put the messages of FILE, as export and discard write it, back into the DLQs in which they lay; with QUEUE "
    "all into that of QUEUE.\n\n"
    "The whole file is checked first. What lies there already, with the same id and body, is left out: do it again "
    "after an interruption.",
    examples="""
leveret dead import dead.jsonl
leveret dead import mail.dlq-discarded-20261201T090000Z.jsonl
leveret dead import dead.jsonl mail-again
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 some could not be put back",
)
@click.argument("file", metavar="FILE")
@click.argument("queue", required=False)
@quiet_option
def verb(file: str, queue: str | None, quiet: bool) -> int:
    """Put them back."""
    configured = default_broker.resolve(settings.load())
    progress = Progress("put back", quiet)
    try:
        done = asyncio.run(
            put_back(
                configured, Path(file), one_queue(queue, configured) if queue else "", lambda _line: progress.add()
            )
        )
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror or error}") from error
    finally:
        progress.clear()
    for why in done.set_aside:
        note(f"leveret dead import: left in the file, for it cannot be sent: {why}")
    there = f"; {done.already_there} lay there already" if done.already_there else ""
    note(f"{done.count} message(s) put back{there}", quiet)
    return EXIT_PARTLY if note_held("import", done.held_by_others) or done.set_aside else 0
