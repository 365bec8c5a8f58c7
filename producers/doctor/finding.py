"""A finding: how bad it is, what it is about, what was seen, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from leveret.topology.printable import printable

Level = Literal["ok", "warn", "fail", "unknown"]
WHO_MAY, WHO_MAY_COMMAND = "the topology's owner may; to make such a user:", "leveret users -a MODULE --role topology"
"""What to do where a user may not see a queue: the right to read it would be the right to empty it, too."""
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says.

    `level` is `ok`, `warn` (works, and needs a look), `fail` (tasks do not run, or get lost) or `unknown` (this user
    cannot see it). `about` names the object. `advice` is a sentence, `command` can be pasted into a shell; both are
    empty where there is nothing to do.
    """

    level: Level
    about: str
    what: str
    advice: str = ""
    command: str = ""


def ok(about: str, what: str) -> Finding:
    """Return that all is well."""
    return Finding("ok", about, what)


def warn(about: str, what: str, advice: str = "", command: str = "") -> Finding:
    """Return what works, and needs a look."""
    return Finding("warn", about, what, advice, command)


def fail(about: str, what: str, advice: str = "", command: str = "") -> Finding:
    """Return what keeps tasks from running, or loses something."""
    return Finding("fail", about, what, advice, command)


def unknown(about: str, what: str, advice: str = "", command: str = "") -> Finding:
    """Return what cannot be seen."""
    return Finding("unknown", about, what, advice, command)


def about(queue: str) -> str:
    """Return what a finding about a queue is called: a work queue by its kind, too."""
    return queue if queue.startswith("tasks.") else f"queue {queue}"


def some(of_many: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(of_many[:most])
    return f"{shown} and {len(of_many) - most} more" if len(of_many) > most else shown


def quoted(name: str) -> str:
    """Return a name as it stands in a command that is pasted into a shell."""
    return printable(shlex.quote(name))
