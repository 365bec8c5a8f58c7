"""Bring the broker to the code's queues."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from leveret.command import task_modules
from leveret.command.ending import EXIT_ERROR, EXIT_PARTLY, tell, tell_json
from leveret.command.plan import show, summary
from leveret.command.verb import Verb, json_option, note, quiet_option, tasks_option
from leveret.topology import queues, settings
from leveret.topology.errors import LeveretError, TopologyError
from leveret.topology.link import default_broker
from leveret.topology.names import holding_queue
from leveret.topology.plan.applying import Applied, apply
from leveret.topology.plan.difference import Difference, Kind
from leveret.topology.plan.planning import plan
from leveret.topology.printable import printable


@click.command(
    "apply",
    cls=Verb,
    help="Bring the broker to the queues in the code, while producers and workers run. Queues whose "
    "arguments differ are made anew, and their messages go through a holding queue. Interrupted, run it again: it ends "
    "what it began.",
    examples="""
leveret plan -a my_app
leveret apply -a my_app
leveret apply -a my_app --prune --yes
leveret apply -a my_app --delete mail.retry.1.after.5s
""",
    statuses="Exit status: 0 done; 1 not done, and stderr says why; 2 wrong usage; 3 what is left over holds messages",
)
@tasks_option("Module whose queues to apply; may be repeated")
@click.option("--prune", is_flag=True, help="Also take away what is left over and holds no message.")
@click.option(
    "--delete", multiple=True, metavar="NAME", help="Delete this left-over queue with what it holds; may be repeated."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@quiet_option
def verb(tasks: Sequence[str], prune: bool, delete: Sequence[str], yes: bool, as_json: bool, quiet: bool) -> int:
    """Show the plan, ask, and do it."""
    configured = settings.load()
    task_modules.load_own(tasks, configured, "apply")
    configured = default_broker.resolve(configured)
    made = plan(configured, queues.known())
    if made.unseen:
        raise TopologyError(f"nothing was changed, for {made.unseen}")
    if not made.differences:
        note("nothing differs", quiet)
        return 0
    if not as_json:
        show(made.differences, as_json=False)
    _ask(made.differences, prune, delete, yes)
    line = _Line()
    try:
        applied = apply(configured, queues.known(), prune, delete, line.tell)
    except (LeveretError, KeyboardInterrupt):
        line.end()
        if line.begun:
            note(
                f"leveret apply: {line.begun} is not made anew yet; nothing is lost, and some may wait in "
                f"{holding_queue(line.begun)}. Run leveret apply again"
            )
        raise
    line.end()
    return _show(applied, prune, as_json, quiet)


def _ask(differences: Sequence[Difference], prune: bool, delete: Sequence[str], yes: bool) -> None:
    """Ask before a queue is deleted, be it to be made anew. Raises `TopologyError` where the answer is no."""
    does = [kind for kind in (Kind.RECREATE, Kind.LEFT_OVER) if any(one.kind is kind for one in differences)]
    if yes or not (Kind.RECREATE in does or (Kind.LEFT_OVER in does and prune) or delete):
        return
    if not sys.stdin.isatty():
        raise TopologyError(
            "nothing was changed: this makes queues anew or deletes them, and nobody can be asked; --yes"
        )
    question = f"with what they hold, delete {', '.join(delete)}; " if delete else ""
    if not click.confirm(printable(f"{question}{summary(differences)}: go on?"), err=True):
        raise TopologyError("nothing was changed")


def _show(applied: Applied, prune: bool, as_json: bool, quiet: bool) -> int:
    if as_json:
        tell_json(
            {
                "declared": [one.name for one in applied.declared],
                "made_anew": [one._asdict() for one in applied.moved],
                "removed": list(applied.removed),
                "kept": applied.kept,
                "left": [one._asdict() | {"kind": one.kind.value} for one in applied.left],
            }
        )
    else:
        for one in applied.moved:
            tell(f"made anew {one.queue}: {one.out} message(s) moved out of it, {one.back} into it")
            if one.maybe_twice:
                tell(
                    f"  {one.maybe_twice} of them had been given to somebody before; what an interrupted apply had "
                    "moved may be there twice"
                )
        tell(*(f"removed {name}" for name in applied.removed))
        tell(*(f"kept {name}, for it holds {count} message(s)" for name, count in applied.kept.items()))
    for text in applied.notes:
        note(f"leveret apply: {text}")
    note(
        f"{len(applied.declared)} declared or bound, {len(applied.moved)} made anew, {len(applied.removed)} removed",
        quiet,
    )
    rest = [one for one in applied.left if one.kind is not Kind.LEFT_OVER]
    if rest:
        note(f"leveret apply: left are {summary(rest)}; see leveret plan")
        return EXIT_ERROR
    if left_over := len(applied.left) - len(rest):
        how = "see leveret plan" if prune else "take away what holds nothing by --prune"
        note(f"{left_over} left over; {how}", quiet)
    return EXIT_PARTLY if applied.kept else 0


class _Line:
    """Live progress, on a terminal."""

    def __init__(self) -> None:
        self.begun = ""
        self._is_shown = sys.stderr.isatty()

    def tell(self, stage: str, figures: dict[str, Any]) -> None:
        queue = str(figures.get("queue", ""))
        self.begun = "" if stage in ("made anew", "removed") else queue
        if self._is_shown:
            held = figures.get("held")
            waiting = f", waiting for up to {held} held by workers" if held else ""
            moved = f", {figures['moved']} moved" if "moved" in figures else ""
            sys.stderr.write(f"\r\x1b[K{printable(f'{queue}: {stage}{moved}{waiting}')[:79]}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
