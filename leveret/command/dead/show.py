"""Show a dead message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from leveret.command.dead.options import STATUSES, ago, note_copies, note_held, queues_of
from leveret.command.ending import EXIT_PARTLY, tell, tell_json
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.dead import history, written
from leveret.producers.dead.editing import call_of
from leveret.producers.dead.finding import Found, find
from leveret.producers.dead.letters import DeadMessage, holding
from leveret.producers.dead.reason import Reason, reason_of
from leveret.topology import settings
from leveret.topology.errors import MessageError
from leveret.topology.link import default_broker

_MOST_SHOWN_CHARACTERS = 4000
_FIRST_BYTES = 300


@click.command(
    "show",
    cls=Verb,
    help="Show a dead message: why and when it died, its arguments, its traceback and how often it was redriven.\n\n"
    "ID may be the beginning of an id, if of one alone, or a GROUP of `top`: then the last of it is shown.",
    examples="""
leveret dead show 0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1
leveret dead show g4f9a21c
leveret dead show 0197ac2e mail --json
""",
    statuses=STATUSES,
)
@click.argument("named", metavar="ID")
@click.argument("queue", required=False)
@json_option
@quiet_option
def verb(named: str, queue: str | None, as_json: bool, quiet: bool) -> int:
    """Show it."""
    if not named:
        raise click.UsageError("the id is empty")
    configured = default_broker.resolve(settings.load())
    found = asyncio.run(find(configured, queues_of(queue, configured), named))
    note_copies("show", found)
    if as_json:
        line = json.loads(written.write(found.queue, found.dead))
        reason = reason_of(found.dead)
        tell_json({**line, "group": reason.fingerprint, "place": reason.place, "at": reason.at})
    else:
        tell(*_lines(found))
        if found.alike > 1:
            note(f"{found.alike} are dead for the same: leveret dead list {found.queue} --group {named}", quiet)
        note(f"next: leveret dead redrive {found.queue} --id {found.dead.id or '…'}", quiet)
    return EXIT_PARTLY if note_held("show", found.held_by_others) else 0


def _lines(found: Found) -> Iterator[str]:
    dead, reason = found.dead, reason_of(found.dead)
    headers = dead.properties.headers
    yield f"id        {dead.id or '(none)'}"
    yield f"lies in   {holding(found.queue)}"
    yield f"task      {reason.task}"
    yield f"group     {reason.fingerprint}"
    if reason.at is not None:
        first = f"; first failed {_moment(reason.first_at)}" if reason.first_at is not None else ""
        yield f"died      {_moment(reason.at)}, {ago(reason.at)} ago{first}"
    by = f", the last by {reason.worker}" if reason.worker else ""
    if reason.attempts is not None:
        yield f"attempts  {reason.attempts}{by}"
    if times := history.times_of(headers):
        yield f"redriven  {times} time{'s' * (times > 1)}:"
        yield from (f"  {line}" for line in history.lines_of(headers))
    yield f"reason    {reason.kind}: {_cut(reason.message)}" if reason.message else f"reason    {reason.kind}"
    yield from _arguments(dead)
    yield from _headers(dead)
    yield from _trace(reason)


def _arguments(dead: DeadMessage) -> Iterator[str]:
    try:
        call = call_of(dead)
    except MessageError:
        beginning = dead.body[:_FIRST_BYTES].decode(errors="backslashreplace")
        yield f"body      {len(dead.body):,} bytes, no task message; it begins"
        yield f"  {beginning}"
        return
    for position, value in enumerate(call.args):
        yield f"argument  {position}: {_json(value)}"
    for name, value in call.kwargs.items():
        yield f"argument  {name}={_json(value)}"


def _headers(dead: DeadMessage) -> Iterator[str]:
    known = ("failure-", "redriven-", "x-")
    for name, value in (dead.properties.headers or {}).items():
        if not str(name).startswith(known):
            yield f"header    {name}: {_cut(str(value), _FIRST_BYTES)}"


def _trace(reason: Reason) -> Iterator[str]:
    if reason.traceback:
        yield "traceback"
        yield from (f"  {line}" for line in reason.traceback.rstrip().split("\n"))


def _json(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str, most: int = _MOST_SHOWN_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}… (--json has all {len(text):,} characters)"


def _moment(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return "at no time of a calendar"
