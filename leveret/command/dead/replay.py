"""Run a dead message here."""

from __future__ import annotations

import contextlib
import pdb
import sys
from collections.abc import Sequence

import click

from leveret.command.dead.options import one_dead
from leveret.command.ending import EXIT_FAILED
from leveret.command.verb import Verb, note, quiet_option, tasks_option
from leveret.consumers.child.outcome import Ending
from leveret.consumers.child.protocol import Order
from leveret.testing.attempts import Attempts
from leveret.topology.printable import printable_lines


@click.command(
    "replay",
    cls=Verb,
    help="Run the task of a dead message here, in this process, with its arguments. The message stays dead.\n\n"
    "What the task does, it does: mails are sent and rows are written. --pdb opens a debugger where it failed.",
    examples="""
leveret dead replay 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 -a my_app
leveret dead replay g4f9a21c mail -a my_app --pdb
""",
    statuses="Exit status: 0 the task succeeded; 1 not done, and stderr says why; 2 wrong usage; 4 the task failed",
)
@click.argument("named", metavar="ID")
@click.argument("queue", required=False)
@tasks_option("Module that defines tasks; may be repeated")
@click.option("--pdb", "debug", is_flag=True, help="Open Python's debugger where the task failed.")
@quiet_option
def verb(named: str, queue: str | None, tasks: Sequence[str], debug: bool, quiet: bool) -> int:
    """Run it."""
    if debug and not sys.stdin.isatty():
        raise click.UsageError("--pdb needs a terminal")
    configured, found = one_dead("replay", named, queue, tasks)
    dead = found.dead
    kind, encoding = dead.properties.content_type, dead.properties.content_encoding
    with contextlib.closing(Attempts(configured.message_limit_bytes)) as attempts:
        outcome, error = attempts.run(Order(1, found.queue, 1, str(dead.id), kind, encoding, dead.body))
    if outcome.ending is Ending.RETURNED:
        note(f"{outcome.task} succeeded after {outcome.duration_seconds:.3g} s; the message is dead still", quiet)
        return 0
    failure = outcome.failure
    if failure:
        print(printable_lines(failure.traceback.rstrip() or f"{failure.type}: {failure.message}"), file=sys.stderr)
    note(f"leveret dead replay: {outcome.task or 'the message'} failed: {failure.type if failure else outcome.ending}")
    if debug and error is not None:
        pdb.post_mortem(error.__traceback__)
    return EXIT_FAILED
