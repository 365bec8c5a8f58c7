"""Show what a task has returned."""

from __future__ import annotations

import asyncio

import click

from leveret.command.ending import EXIT_FAILED, EXIT_NOT_YET, tell
from leveret.command.shown_status import result_text
from leveret.command.verb import Verb, note
from leveret.producers.following.record import open_record
from leveret.topology import settings
from leveret.topology.errors import ResultMissed
from leveret.topology.link import default_broker
from leveret.topology.message import check_id
from leveret.topology.printable import printable
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status


@click.command(
    "result",
    cls=Verb,
    help="Print what a task has returned, as JSON; a recorder has to run (leveret recorder).",
    examples="""
leveret result 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret result ID | jq .
""",
    statuses="Exit status: 0 done; 1 nobody knows the id, or not done, and stderr says why; 2 wrong usage; 4 the task "
    "failed or was cancelled; 5 not yet",
)
@click.argument("task_id", metavar="ID")
def verb(task_id: str) -> int:
    """Show it."""
    check_id(task_id)
    status = asyncio.run(_ask(default_broker.resolve(settings.load()), task_id))
    if status.state is State.SUCCEEDED:
        tell(result_text(status.result))
        return 0
    if status.state is State.UNKNOWN:
        raise ResultMissed(
            f"the record knows nothing of a task {task_id}: it was not followed, is not written yet, or was forgotten "
            "in time",
            task_id,
        )
    note(f"leveret result: {_why_none(status)}")
    return EXIT_FAILED if status.state.is_final else EXIT_NOT_YET


async def _ask(configured: Settings, task_id: str) -> Status:
    async with open_record(configured) as record:
        return await record.result(task_id)


def _why_none(status: Status) -> str:
    if status.state is State.FAILED:
        failure = status.failure or {}
        said = f"{failure.get('type', 'it failed')}: {failure.get('message', '')}".rstrip(": ")
        lies = f"; its message lies in {status.lies_in}" if status.lies_in else ""
        return printable(f"failed in attempt {status.attempt} of {status.of}: {said}{lies}")
    if status.state is State.CANCELLED:
        return printable(f"cancelled: {status.reason or 'no reason was given'}")
    return f"not yet: it is {status.state}"
