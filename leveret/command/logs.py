"""Show what a task logs."""

from __future__ import annotations

import asyncio
from datetime import datetime

import click

from leveret.command.ending import EXIT_ERROR, EXIT_FAILED, EXIT_NOT_YET, tell, tell_json
from leveret.command.events import what
from leveret.command.moments import clock
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.following.listener import Listener
from leveret.producers.following.logs import lines_of
from leveret.producers.following.record import open_record
from leveret.topology import events, settings
from leveret.topology.errors import AccessRefused, MessageError, QuestionError
from leveret.topology.events import CLOSING, Event, Kind
from leveret.topology.link import default_broker
from leveret.topology.message import check_id
from leveret.topology.record import Logged
from leveret.topology.settings import Settings
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
    help="Show what a followed task has logged and printed, as the record has it; a recorder has to run (leveret "
    "recorder).\n\n"
    "With --follow it goes on to show what the task logs until it ends. That works without a recorder, too, but begins "
    "then with what comes from now on, and nobody knows whether the task has ended already: say with --timeout how "
    "long to wait.",
    examples="""
leveret logs 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret logs order-17 --follow --timeout 600 --json
""",
    statuses="Exit status: 0 the task succeeded; 1 nobody knows the id, or not done, and stderr says why; 2 wrong "
    "usage; 4 it failed or was cancelled; 5 it has not ended yet",
)
@click.argument("task_id", metavar="ID", callback=_checked_id)
@click.option("--follow", is_flag=True, help="Go on until it ends.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Follow it at most so long."
)
@json_option
@quiet_option
def verb(task_id: str, follow: bool, timeout: float | None, as_json: bool, quiet: bool) -> int:
    """Show them."""
    if timeout is not None and not follow:
        raise click.UsageError("--timeout says how long to --follow, and without that nothing is waited for")
    configured = default_broker.resolve(settings.load())
    view = _View(task_id, as_json, quiet)
    return asyncio.run(_follow(configured, view, timeout) if follow else _show(configured, view))


class _View:
    """Shows what one task logs, each event of it once."""

    def __init__(self, task_id: str, as_json: bool, quiet: bool) -> None:
        self.task_id, self.quiet = task_id, quiet
        self._as_json = as_json
        self._attempt = 1
        self._recorded: set[tuple[int, float]] = set()

    async def show_recorded(self, configured: Settings) -> Status:
        """Show what the record has, and return what is known of the task. Raises as asking the record does."""
        status = Status(self.task_id)
        async with open_record(configured) as record:
            async for now, page in record.logs(self.task_id):
                status = now
                for logged in page:
                    self._recorded.add((logged.attempt, logged.at))
                    if logged.attempt != self._attempt:
                        self._attempt = logged.attempt
                        note(f"attempt {logged.attempt}", self.quiet)
                    self._show(logged)
        return status

    def show_told(self, kind: Kind, event: Event) -> None:
        """Show an event that has come, unless the record had it."""
        if kind is Kind.LOG:
            logged = Logged(event.get("attempt", 0), event["at"], event.get("lines", []), event.get("dropped", 0))
            if (logged.attempt, logged.at) not in self._recorded:
                self._show(logged)
        else:
            of = f"attempt {event['attempt']} of {event['of']}" if "attempt" in event and "of" in event else ""
            note(f"{kind:<10} {of}  {what(kind, event)}".rstrip(), self.quiet)

    def _show(self, logged: Logged) -> None:
        for line in lines_of(logged):
            if self._as_json:
                tell_json({"id": self.task_id, **line._asdict()})
            else:
                tell(f"{_local(line.at)} {line.level:<7} {line.text}")
        if logged.dropped:
            note(f"{logged.dropped} more lines were left out; the log of the worker has them", self.quiet)


async def _show(configured: Settings, view: _View) -> int:
    status = await view.show_recorded(configured)
    if status.state is State.UNKNOWN:
        note(
            f"leveret logs: the record knows nothing of a task {view.task_id}: it was not followed, is not written "
            "yet, or was forgotten in time"
        )
        return EXIT_ERROR
    if status.state.is_final:
        return _exit_status(status.state)
    note(f"task {view.task_id} is {status.state} and may log more; --follow goes on to show it", view.quiet)
    return EXIT_NOT_YET


async def _follow(configured: Settings, view: _View, timeout: float | None) -> int:
    keys = [events.key(kind, "#") for kind in _KINDS]
    listener = Listener(configured, keys, lambda why: note(f"an event is not believed: {why}"))
    try:
        await listener.open()  # first, so that nothing is missed between the record and what comes
        if ended := await _ended_before(configured, view):
            note(f"task {view.task_id} has ended: it is {ended.state}; leveret status {view.task_id} shows how")
            return _exit_status(ended.state)
        note(f"listening to what {view.task_id} logs; Ctrl-C ends it", view.quiet)
        async with asyncio.timeout(timeout):
            while True:
                told = await listener.next()
                for event in told.events:
                    if event["id"] != view.task_id:
                        continue
                    view.show_told(told.kind, event)
                    if told.kind in CLOSING:
                        return _exit_status(State(told.kind))
    except TimeoutError:
        note(f"task {view.task_id} has not told how it ended within {timeout:g} s; it may have ended before")
        return EXIT_NOT_YET
    finally:
        await listener.close()


async def _ended_before(configured: Settings, view: _View) -> Status | None:
    """Show what the record has, and return how the task has ended, if it has.

    Without a recorder nobody knows that, and the task is waited for.
    """
    try:
        status = await view.show_recorded(configured)
    except (QuestionError, AccessRefused):
        return None
    return status if status.state.is_final else None


def _exit_status(state: State) -> int:
    return 0 if state is State.SUCCEEDED else EXIT_FAILED


def _local(moment: str) -> str:
    try:
        return clock(datetime.fromisoformat(moment).timestamp())
    except (ValueError, OverflowError, OSError):  # whoever may publish events may write anything
        return "--:--:--.---"
