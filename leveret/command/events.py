"""Show what happens to tasks, as it passes."""

from __future__ import annotations

import asyncio
import difflib
import json
import shutil
import sys
from typing import Any

import click

from leveret.command.ending import tell, tell_json
from leveret.command.moments import clock
from leveret.command.verb import Verb, json_option, note, quiet_option
from leveret.producers.following.listener import Listener
from leveret.topology import settings
from leveret.topology.events import Event, Kind, Told
from leveret.topology.link import default_broker
from leveret.topology.names import LONGEST_NAME_BYTES
from leveret.topology.printable import printable

_WIDE = 120
_PLAIN_WIDTH = 80
_SHORT_ID = 8
_KINDS = [str(kind) for kind in Kind]


def _pattern(_ctx: click.Context, _param: click.Parameter, pattern: str) -> str:
    """Refuse what no key of an event can match, for nothing would ever be shown."""
    if problem := problem_of(pattern):
        raise click.BadParameter(f"{printable(pattern)!r}: {problem}; write it as task.KIND.TASK, as in task.failed.#")
    return pattern


def problem_of(pattern: str) -> str:
    """Say why a pattern can match no key of an event; empty when it can."""
    words = pattern.split(".")
    if not pattern.isprintable() or len(pattern.encode(errors="replace")) > LONGEST_NAME_BYTES:
        return f"a pattern is printable text of at most {LONGEST_NAME_BYTES} bytes"
    if any(len(word) > 1 and ("*" in word or "#" in word) for word in words):
        return "* stands for a whole word between dots, and # for any number of them"
    if "" in words:
        return "a word is missing between dots"
    if words[0] == "#":
        return ""
    if words[0] not in ("task", "*"):
        return "events have keys that begin with task"
    if len(words) == 1:
        return "it ends before the kind"
    if words[1] not in (*_KINDS, "*", "#"):
        near = difflib.get_close_matches(words[1], _KINDS, n=1)
        return f"there is no kind {words[1]!r}; " + (f"did you mean {near[0]}?" if near else f"there are {_KINDS}")
    if len(words) == 2 and words[1] != "#":
        return "it ends before the task"
    return ""


@click.command(
    "events",
    cls=Verb,
    help="Show what happens to tasks as it passes, one line each, until Ctrl-C.\n\n"
    "PATTERN is a topic of RabbitMQ, compared with task.KIND.TASK (default: task.#, which is all of it). KIND is one "
    f"of {', '.join(_KINDS)}. Told is how each task ends that is followed, every failure, and of followed ones what "
    "happens meanwhile.",
    examples="""
leveret events
leveret events 'task.failed.#'
leveret events 'task.*.mail.#' --json
leveret events --count 1
""",
)
@click.argument("pattern", metavar="[PATTERN]", default="task.#", callback=_pattern)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@json_option
@quiet_option
def verb(pattern: str, count: int | None, as_json: bool, quiet: bool) -> int:
    """Listen, and show each event."""
    configured = default_broker.resolve(settings.load())
    asyncio.run(_show(configured, pattern, count, as_json, quiet))
    return 0


async def _show(configured: settings.Settings, pattern: str, count: int | None, as_json: bool, quiet: bool) -> None:
    listener = Listener(configured, [pattern], lambda why: note(f"an event is not believed: {why}"))
    try:
        await listener.open()
        note(f"listening to {pattern}; Ctrl-C ends it", quiet)
        shown = 0
        while count is None or shown < count:
            told = await listener.next()
            for event in told.events[: None if count is None else count - shown]:
                shown += 1
                if as_json:
                    tell_json(row(told, event))
                else:
                    tell(line(told, event, _width()))
    finally:
        await listener.close()


def row(told: Told, event: Event) -> dict[str, Any]:
    """Return an event as an object; a result in it is JSON text."""
    return {"at": event["at"], "kind": str(told.kind), "task": told.task, "worker": told.worker, **event}


def line(told: Told, event: Event, width: int | None) -> str:
    """Return an event as a line, of at most so many characters; None for any number."""
    task_id = event["id"]
    if width is not None and width < _WIDE and len(task_id) > _SHORT_ID:
        task_id = f"…{task_id[-_SHORT_ID:]}"  # ids of one moment begin alike
    attempt = f"{event.get('attempt', '-')}/{event.get('of', '-')}"
    parts = (clock(event["at"])[:8], f"{told.kind:<9}", told.task or "?", task_id, attempt, told.worker or "-")
    shown = printable(" ".join([*parts, what(told.kind, event)]).rstrip())
    return shown if width is None or len(shown) <= width else f"{shown[: width - 1]}…"


def what(kind: Kind, event: Event) -> str:
    """Return in words what an event of this kind tells."""
    took = f"{event['seconds']:.2f} s" if "seconds" in event else ""
    failure = event.get("failure", {})
    why = ": ".join(failure[name] for name in ("type", "message") if failure.get(name))
    match kind:
        case Kind.SUBMITTED:
            told = [event.get("exchange", ""), event.get("routing_key", "")]
        case Kind.DELAYED:
            told = [f"until {clock(event['until'])}" if "until" in event else ""]
        case Kind.BLOCKED | Kind.CANCELLED:
            told = [f"by {event['by']}" if event.get("by") else "", event.get("reason", "")]
        case Kind.STARTED:
            told = [f"in process {event['child']}" if "child" in event else ""]
        case Kind.PROGRESS:
            of = f" of {event['total']:g}" if "total" in event else ""
            told = [f"{event['done']:g}{of}" if "done" in event else "", event.get("note", "")]
        case Kind.LOG:
            told = [_lines(event)]
        case Kind.RETRYING:
            told = [why, f"again in {event['next_at'] - event['at']:.3g} s" if "next_at" in event else ""]
        case Kind.SUCCEEDED:
            told = [took, event.get("result", "")]
        case Kind.FAILED:
            told = [took, why, f"lies in {event['lies_in']}" if event.get("lies_in") else ""]
    return "  ".join(filter(None, told))


def _lines(event: Event) -> str:
    lines = event.get("lines", [])
    first = json.dumps(lines[0].split(" ", 2)[-1], ensure_ascii=False) if lines else ""
    more = len(lines) - 1 + event.get("dropped", 0)
    return f"{first} and {more} more" if first and more else first or f"{more + 1} lines left out"


def _width() -> int | None:
    if not sys.stdout.isatty():
        return None
    return max(_PLAIN_WIDTH, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns)
