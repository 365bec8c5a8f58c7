"""Show what a task logs."""

from __future__ import annotations

import asyncio
from datetime import datetime

import click

from leveret.command.ending import EXIT_FAILED, EXIT_NOT_YET, tell, tell_json
from leveret.command.events import what
from leveret.command.moments import clock
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.following.listener import Listener
from leveret.producers.following.record import open_record
from leveret.topology import events, settings
from leveret.topology.errors import AccessRefused, MessageError, QuestionError
from leveret.topology.events import CLOSING, Event, Kind
from leveret.topology.link import default_broker
from leveret.topology.message import check_id
from leveret.topology.printable import printable
from leveret.topology.status import State, Status

_KINDS = (Kind.LOG, Kind.RETRYING, *sorted(CLOSING))


def _checked_id(_ctx: click.Context, _param: click.Parameter, task_id: str) -> str:
    try:
        return check_id(task_id)
    except MessageError as error:
        raise click.BadParameter(str(error)) from error


@click.command(
    "logs",
    cls=Verb,
    help="Show what a followed task logs and prints, from now on until it ends.\n\n"
    "What it has written before stands in the log of its worker. Where no recorder runs nobody knows whether a task "
    "has ended already, and nothing comes any more: say with --timeout how long to wait.",
    examples="""
leveret logs 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1 --follow
leveret logs order-17 --follow --timeout 600 --json
""",
    statuses="Exit status: 0 the task succeeded; 1 not done, and stderr says why; 2 wrong usage; 4 it failed or was "
    "cancelled; 5 it has not ended in time",
)
@click.argument("task_id", metavar="ID", callback=_checked_id)
@click.option("--follow", is_flag=True, help="From now on until it ends, which is all there is: nothing keeps them.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Wait at most so long.")
@json_option
@quiet_option
def verb(task_id: str, follow: bool, timeout: float | None, as_json: bool, quiet: bool) -> int:
    """Listen until the task ends."""
    if not follow:
        raise click.UsageError(
            "what tasks have logged stands in the logs of their workers alone; --follow shows it while they run"
        )
    configured = default_broker.resolve(settings.load())
    return asyncio.run(_follow(configured, task_id, timeout, as_json, quiet))


async def _follow(
    configured: settings.Settings, task_id: str, timeout: float | None, as_json: bool, quiet: bool
) -> int:
    keys = [events.key(kind, "#") for kind in _KINDS]
    listener = Listener(configured, keys, lambda why: note(f"an event is not believed: {why}"))
    try:
        await listener.open()
        if ended := await _ended_before(configured, task_id):
            note(f"task {task_id} has ended already: it is {ended.state}; leveret status {task_id} shows how")
            return 0 if ended.state is State.SUCCEEDED else EXIT_FAILED
        note(f"listening to what {task_id} logs; Ctrl-C ends it", quiet)
        async with asyncio.timeout(timeout):
            while True:
                told = await listener.next()
                for event in told.events:
                    if event["id"] != task_id:
                        continue
                    if told.kind is Kind.LOG:
                        _show(event, as_json, quiet)
                    else:
                        note(f"{told.kind:<10} {_attempt(event)}  {what(told.kind, event)}".rstrip(), quiet)
                    if told.kind in CLOSING:
                        return 0 if told.kind is Kind.SUCCEEDED else EXIT_FAILED
    except TimeoutError:
        note(f"task {task_id} has not told how it ended within {timeout:g} s; it may have ended before")
        return EXIT_NOT_YET
    finally:
        await listener.close()


async def _ended_before(configured: settings.Settings, task_id: str) -> Status | None:
    """Return how the task has ended, if the record knows; without a recorder nobody does, and it is waited for."""
    try:
        async with open_record(configured) as record:
            (status,) = await record.statuses([task_id])
    except (QuestionError, AccessRefused):
        return None
    return status if status.state.is_final else None


def _show(event: Event, as_json: bool, quiet: bool) -> None:
    for line in event.get("lines", []):
        moment, level, text = (*line.split(" ", 2), "", "")[:3]
        if as_json:
            row = {"id": event["id"], "attempt": event.get("attempt"), "at": moment, "level": level, "text": text}
            tell_json(row)
        else:
            tell(f"{_local(moment)} {level:<7} {printable(text)}")
    if dropped := event.get("dropped", 0):
        note(f"{dropped} more lines were left out; the log of the worker has them", quiet)


def _local(moment: str) -> str:
    try:
        return clock(datetime.fromisoformat(moment).timestamp())
    except (ValueError, OverflowError, OSError):  # whoever may publish events may write anything
        return "--:--:--.---"


def _attempt(event: Event) -> str:
    return f"attempt {event['attempt']} of {event['of']}" if "attempt" in event and "of" in event else ""
