"""Fire schedules, look at them, check, pause and fire them by hand."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import re
from collections.abc import Sequence

import click

from leveret.command import streams, task_modules
from leveret.command.ending import tell, tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option, tasks_option
from leveret.consumers import log
from leveret.consumers.worker import signals
from leveret.producers.scheduling import definition
from leveret.producers.scheduling.book import Book
from leveret.producers.scheduling.definition import Schedule
from leveret.producers.scheduling.from_file import merge, read_schedules
from leveret.producers.scheduling.looking import pause
from leveret.producers.scheduling.scheduler import Scheduler
from leveret.topology import settings
from leveret.topology.errors import SettingsError
from leveret.topology.link import default_broker
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, mask

_ACTIONS = ("run", "list", "check", "pause", "resume", "fire")
_LEAST_HEARTBEAT_SECONDS = 10
_HEARTBEAT = re.compile(r"[?&]heartbeat=([^&;]*)")


@click.command(
    "schedule",
    cls=Verb,
    help="Fire the schedules of leveret.toml and of the task modules, any number of these side by side: one fires, the "
    "others wait for it to end. Changes in the file need no restart.\n\n"
    "`list` shows when each fires next, and how the last fire ended; `check` says what each will do, and what can "
    "never fire; `pause` and `resume` hold for all schedulers, also those that start later; `fire` submits one now.",
    examples="""
leveret schedule -a my_app
leveret schedule list
leveret schedule check
leveret schedule pause digest --reason holidays
leveret schedule resume digest
leveret schedule fire digest
""",
    statuses="Exit status: 0 done, or stopped; 1 not done, or something never fires (check); 2 wrong usage",
)
@click.argument("action", type=click.Choice(_ACTIONS), default="run", metavar=f"[{'|'.join(_ACTIONS)}]")
@click.argument("name", default="", metavar="[NAME]")
@tasks_option("Module that defines tasks and schedules; may be repeated")
@click.option("--reason", default="", metavar="TEXT", help="Why it is paused or goes on; schedulers log it.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@json_option
@quiet_option
def verb(
    action: str,
    name: str,
    tasks: Sequence[str],
    reason: str,
    log_format: str,
    log_level: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Do one of these."""
    _check_usage(action, name, reason, as_json)
    if action == "run":
        return _run(tasks, log_format, log_level)
    configured = settings.load()
    task_modules.load(task_modules.named(tasks, configured))
    if action == "check":
        from leveret.command.schedule_check import check

        return check(as_json)
    schedules = _read()
    if action == "list":
        from leveret.command.schedule_list import show

        return show(schedules, default_broker.resolve(configured), as_json, quiet)
    schedule = _find(schedules, name)
    if action == "fire":
        task_id = schedule.fire()
        tell_json({"schedule": name, "task": schedule.message.task, "id": task_id}) if as_json else tell(task_id)
        return 0
    return _pause(name, action == "pause", reason, default_broker.resolve(configured), as_json, quiet)


def _check_usage(action: str, name: str, reason: str, as_json: bool) -> None:
    names_one = action in ("pause", "resume", "fire")
    if names_one and not name:
        raise click.UsageError(f"{action} takes the name of a schedule; leveret schedule list shows them")
    if name and not names_one:
        raise click.UsageError(f"{action} takes no name; leave {printable(name)!r} out")
    if reason and action not in ("pause", "resume"):
        raise click.UsageError(f"--reason goes with pause and resume, and not with {action}")
    if as_json and action == "run":
        raise click.UsageError("--json goes with what is looked at; schedulers log with --log-format json")


def _run(tasks: Sequence[str], log_format: str, log_level: str) -> int:
    streams.open_closed()
    signals.take_over()
    log.configure(log_format == "json", log_level)
    configured = settings.load()
    task_modules.load(task_modules.named(tasks, configured))
    signals.take_over()
    book = Book(log.event)
    configured = _with_heartbeat(default_broker.resolve(configured))

    async def run() -> int:
        return await Scheduler(configured, book, log.event).run(signals.stopping())

    try:
        return asyncio.run(run())
    finally:
        log.flush()


def _with_heartbeat(configured: Settings) -> Settings:
    """Have a heartbeat at which a scheduler that is cut off knows before another one begins.

    Raises `SettingsError` where the URL says otherwise.
    """
    for url in configured.amqp_urls:
        if (found := _HEARTBEAT.search(url)) and not (found[1].isdigit() and int(found[1]) >= _LEAST_HEARTBEAT_SECONDS):
            raise SettingsError(
                f"AMQP_URL {mask(url)!r} has a heartbeat of {found[1]} s; a scheduler needs {_LEAST_HEARTBEAT_SECONDS} "
                "or more, for with less it may go on firing when another one has begun; leave heartbeat out"
            )
    return dataclasses.replace(
        configured, heartbeat_seconds=max(_LEAST_HEARTBEAT_SECONDS, configured.heartbeat_seconds)
    )


def _read() -> dict[str, Schedule]:
    of_file, errors = read_schedules()
    for error in errors:
        note(f"leveret schedule: {error}")
    return merge(definition.known(), of_file)


def _find(schedules: dict[str, Schedule], name: str) -> Schedule:
    if (found := schedules.get(name)) is not None:
        return found
    near = difflib.get_close_matches(name, schedules, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(schedules)) or 'none'}"
    raise SettingsError(f"there is no schedule {name!r} in the settings file and the modules; {hint}")


def _pause(name: str, is_paused: bool, reason: str, configured: Settings, as_json: bool, quiet: bool) -> int:
    is_heard = pause(name, is_paused, reason, configured)
    if as_json:
        tell(json.dumps({"schedule": name, "paused": is_paused, "heard": is_heard}))
    what = (
        f"{name} is paused: it fires no more until leveret schedule resume {name}" if is_paused else f"{name} goes on"
    )
    note(what if is_heard else f"{what}; no scheduler has said so yet, and the next one to fire will hold to it", quiet)
    return 0
