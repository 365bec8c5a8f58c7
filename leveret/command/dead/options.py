"""What the verbs about dead letters have in common: which messages and queues are meant, and how they are shown."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from leveret.command import task_modules
from leveret.command.moments import Span
from leveret.command.table import spell
from leveret.command.verb import filled, note, split_commas
from leveret.producers.dead.finding import Found, find, queues_with_dlq
from leveret.producers.dead.letters import holding
from leveret.producers.dead.wanted import Wanted
from leveret.producers.following.commanding import check_queue
from leveret.topology import settings
from leveret.topology.errors import TopologyError
from leveret.topology.link import default_broker
from leveret.topology.names import without_level, work_queue_of
from leveret.topology.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
STATUSES = "Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 others held some of them"

_FILTERS = (
    click.option("--id", "ids", multiple=True, metavar="ID", callback=split_commas, help="Only this one; repeatable."),
    click.option(
        "--task", "tasks", multiple=True, metavar="NAME", callback=split_commas, help="Of this task; * and ? fit any."
    ),
    click.option(
        "--kind",
        "kinds",
        multiple=True,
        metavar="KIND",
        callback=split_commas,
        help="Dead for this: an exception's type, or another KIND of `top`.",
    ),
    click.option("--group", default="", metavar="GROUP", help="Of this group of `top`."),
    click.option("--older", type=Span(), metavar="TIME", help="Dead for longer than that: 90s, 15m, 1h, 2d."),
    click.option("--newer", type=Span(), metavar="TIME", help="Dead for no longer than that."),
    click.option("--text", default=None, metavar="TEXT", callback=filled, help="In its error, traceback or body."),
)


def filters(function: F) -> F:
    """Take what says which messages are meant."""
    for option in reversed(_FILTERS):
        function = option(function)
    return function


def wanted_of(
    ids: Sequence[str] = (),
    tasks: Sequence[str] = (),
    kinds: Sequence[str] = (),
    group: str = "",
    older: float | None = None,
    newer: float | None = None,
    text: str | None = None,
) -> Wanted:
    """Return what these options say."""
    return Wanted(frozenset(ids), tasks, kinds, group, older, newer, text or "")


def one_queue(name: str, configured: Settings) -> str:
    """Return the work queue of this name, of its DLQ, of a retry tier or of a level.

    Raises `TopologyError` naming the nearest where it has no DLQ.
    """
    queue = work_queue_of(name)
    if without_level(queue):
        queue = check_queue(queue, configured)
    check_queue(holding(queue), configured)
    return queue


def queues_of(name: str | None, configured: Settings) -> list[str]:
    """Return the one work queue that is named, or all that have a DLQ."""
    return [one_queue(name, configured)] if name else queues_with_dlq(configured)


def one_dead(verb: str, named: str, queue: str | None, tasks: Sequence[str]) -> tuple[Settings, Found]:
    """Return the dead message that is named by its id, with the settings; the tasks' modules are loaded."""
    if not named:
        raise click.UsageError("the id is empty")
    configured = settings.load()
    task_modules.load(task_modules.named(tasks, configured))
    configured = default_broker.resolve(configured)
    found = asyncio.run(find(configured, queues_of(queue, configured), named))
    note_copies(verb, found)
    return configured, found


def note_held(verb: str, held: int) -> bool:
    """Say how many messages others held meanwhile; returns whether there were any."""
    if held:
        note(f"leveret dead {verb}: {held} more were held by others, who look at them or redrive them; look again soon")
    return bool(held)


def see_some(queues: Sequence[str], wanted: Wanted) -> None:
    """Raise `TopologyError` saying that no dead message of these queues is meant, unless all are: none is no error."""
    if not wanted.is_everything:
        where, see = (holding(queues[0]), f" {queues[0]}") if len(queues) == 1 else ("any DLQ", "")
        raise TopologyError(f"no such message lies in {where}; see what does: leveret dead top{see}")


def note_copies(verb: str, found: Found) -> None:
    """Say that there are others of the same id."""
    if found.copies > 1:
        note(
            f"leveret dead {verb}: {found.copies} messages in {holding(found.queue)} have the id {found.dead.id}, as "
            "after an interrupted redrive or import; this is the first"
        )


def ago(at: float | None) -> str:
    """Say how long ago a moment was."""
    return spell(None if at is None else max(0.0, time.time() - at))


def is_meant(question: str, yes: bool) -> bool:
    """Ask, unless it was answered before. Raises `click.UsageError` where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked here; say --yes to {question}")
    return click.confirm(f"{question}?", err=True)


class Progress:
    """A line on a terminal that says how many are done; nothing elsewhere."""

    def __init__(self, what: str, quiet: bool = False) -> None:
        self._what = what
        self._is_shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._shown_at = 0.0
        self.count = 0

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        if self._is_shown and (now := time.monotonic()) - self._shown_at >= 0.1:
            self._shown_at = now
            print(f"\r{self.count} {self._what}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown_at:
            print(f"\r{'':<{len(self._what) + 12}}\r", end="", file=sys.stderr, flush=True)
            self._shown_at = 0.0
