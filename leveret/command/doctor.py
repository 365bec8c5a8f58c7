"""Say what is wrong with the broker, the queues and the workers."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_ERROR, tell, tell_json
from leveret.command.screen import PLAIN_WIDTH, may_colour, width
from leveret.command.verb import Verb, json_option, split_commas, tasks_option
from leveret.producers.doctor.diagnosis import doctor
from leveret.producers.doctor.finding import LEVELS, Finding, Level
from leveret.topology import settings
from leveret.topology.printable import printable

_MOST_ABOUT = 20
_SHOWN = {"ok": "ok", "warn": "warn", "fail": "FAIL", "unknown": "?"}
_COLOURS = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m", "unknown": "\x1b[36m"}
_NORMAL = "\x1b[0m"
_LEVEL_WIDTH = 6
_TALLY: dict[Level, str] = {"warn": "{} warning(s)", "fail": "{} failure(s)", "unknown": "{} unknown"}


@click.command(
    "doctor",
    cls=Verb,
    help="Say what is wrong with the broker, the queues and the workers, and what to do about it.\n\n"
    "Without a QUEUE: the queues of the task modules, those that workers take, and those on the broker. FAIL means "
    "that tasks do not run or get lost, warn that it needs a look, ? that this user cannot see it. Nothing is changed.",
    examples="""
leveret doctor -a my_app
leveret doctor mail
leveret doctor --json -a my_app
""",
    statuses="Exit status: 0 nothing fails; 1 something does, or could not be begun; 2 wrong usage",
)
@click.argument("queue_names", metavar="[QUEUE]...", nargs=-1, callback=split_commas)
@tasks_option("Module that defines queues; may be repeated")
@json_option
def verb(queue_names: Sequence[str], tasks: Sequence[str], as_json: bool) -> int:
    """Look, and say what was found."""
    configured = settings.load()
    task_modules.load(task_modules.named(tasks, configured))
    findings = doctor(*queue_names, configured=configured)
    counts = Counter(one.level for one in findings)
    if as_json:
        tell_json({"findings": [asdict(one) for one in findings], "counts": {level: counts[level] for level in LEVELS}})
    else:
        _tell(findings)
        said = [text.format(counts[level]) for level, text in _TALLY.items() if counts[level]]
        tell(", ".join(said) or "all is well")
    return EXIT_ERROR if counts["fail"] else 0


def _tell(findings: Iterable[Finding]) -> None:
    is_coloured = may_colour()
    findings = list(findings)
    indent = max((len(printable(one.about)) for one in findings if len(one.about) <= _MOST_ABOUT), default=0) + 2
    for one in findings:
        lines = lines_of(one, _LEVEL_WIDTH + indent, max(width(), PLAIN_WIDTH))
        if not is_coloured:
            tell(*lines)
            continue
        first = f"{_COLOURS[one.level]}{lines[0][:_LEVEL_WIDTH]}{_NORMAL}{lines[0][_LEVEL_WIDTH:]}"
        print(first, *lines[1:], sep="\n", flush=True)


def lines_of(one: Finding, indent: int, width: int) -> list[str]:
    """Return the lines of a finding. A command that is too long goes on after a backslash, so it can be pasted."""
    room, margin = width - indent, " " * indent
    head = f"{_SHOWN[one.level]:<{_LEVEL_WIDTH}}{printable(one.about)}"
    what = textwrap.wrap(printable(one.what), room, break_on_hyphens=False) or [""]
    lines = [f"{head:<{indent}}{what[0]}"] if len(head) + 2 <= indent else [head[:width], f"{margin}{what[0]}"]
    lines += [f"{margin}{line}" for line in what[1:]]
    arrow = "→ "
    for text, ends in ((one.advice, ""), (one.command, " \\")):
        wrapped = textwrap.wrap(printable(text), room - 2 - len(ends), break_long_words=False, break_on_hyphens=False)
        for number, line in enumerate(wrapped, start=1):
            lines.append(f"{margin}{arrow}{line}{ends if number < len(wrapped) else ''}")
            arrow = "  "
    return lines
