"""Mend the arguments of a dead message, and send it round again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click

from leveret.command.dead.options import one_dead
from leveret.command.ending import EXIT_ERROR, tell
from leveret.command.redrive import report
from leveret.command.verb import Verb, note, quiet_option, tasks_option
from leveret.producers.dead.editing import call_of, edited, send_edited, text_of
from leveret.topology import registry
from leveret.topology.errors import MessageError, SettingsError


@click.command(
    "edit",
    cls=Verb,
    help="Open the arguments of a dead message in $EDITOR, and send it round again with what was made of them, under "
    "the same id, as attempt 1.\n\n"
    "They are checked against the task, where its module is loaded. It leaves the DLQ when the broker has confirmed "
    "the other; a file that is left as it was changes nothing.",
    examples="""
leveret dead edit 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 -a my_app
EDITOR=nano leveret dead edit 0197ac2e mail -a my_app
""",
)
@click.argument("named", metavar="ID")
@click.argument("queue", required=False)
@tasks_option("Module that defines tasks; may be repeated")
@quiet_option
def verb(named: str, queue: str | None, tasks: Sequence[str], quiet: bool) -> int:
    """Edit it."""
    configured, found = one_dead("edit", named, queue, tasks)
    if not found.dead.id:
        raise MessageError("this message has no id, so it cannot be found again; export it, and edit the file")
    call = call_of(found.dead)
    if registry.get(call.task) is None:
        note(
            f"task {call.task} is not loaded, so that the arguments cannot be checked against it; -a MODULE does", quiet
        )
    text = before = text_of(call)
    while True:
        try:
            text = click.edit(text, extension=".json") or text
        except click.ClickException as error:
            raise SettingsError(f"the editor failed: {error.message}; set EDITOR to another") from error
        if text == before:
            note("nothing was changed, and nothing sent", quiet)
            return EXIT_ERROR
        try:
            body = edited(found.dead, text, configured)
            break
        except MessageError as error:
            if not _edits_again(error):
                raise
    redriven = asyncio.run(send_edited(configured, found.queue, found.dead, body))
    for dead in redriven.messages:
        tell(str(dead.properties.message_id))
    return report("dead edit", redriven, found.queue, {str(found.dead.id)}, dry_run=False, quiet=quiet)


def _edits_again(error: MessageError) -> bool:
    if not sys.stdin.isatty():
        return False
    note(f"leveret dead edit: {error}")
    return click.confirm("edit it again?", default=True, err=True)
