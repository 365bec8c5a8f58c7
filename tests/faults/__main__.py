"""The command of the fault matrix: `python -m tests.faults`. See --help."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from leveret import LeveretError
from tests.faults import results
from tests.faults.brokers import PRIVATE, Place, opened
from tests.faults.row import Result, Row
from tests.faults.rows import ROWS, find
from tests.faults.running import run_side_by_side


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 when a run lost something or had a problem, 2 for wrong usage or no broker."""
    options = _parser().parse_args(arguments)
    if options.list:
        for row in ROWS:
            print(f"{row.number:>3}  {row.name:<24} {row.injected}")
        return 0
    try:
        rows = find(options.row)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left behind
    print(f"seed {seed}", flush=True)
    try:
        ended = _run(options, rows, seed)
    except LeveretError as error:  # no broker to run them on
        print(f"error: {error}", file=sys.stderr)
        return 2
    known = results.merge(options.results, ended)
    if options.results == results.RESULTS:
        results.DOCUMENT.write_text(results.document(known), encoding="utf-8")
    bad = [result for result in ended if not result.is_good]
    for result in bad:  # once more, where whoever reads only the end finds them
        print(results.line(result))
    lost = sum(len(result.lost) for result in ended)
    print(f"{len(ended)} runs, {lost} lost, {len(bad)} not as promised")
    return 1 if bad or not ended else 0


def _run(options: argparse.Namespace, rows: Sequence[Row], seed: int) -> list[Result]:
    """Run the rows on each broker."""
    ended: list[Result] = []
    say = lambda result: print(results.line(result), flush=True)  # noqa: E731
    brokers = options.broker or [PRIVATE]
    for turn, which in enumerate(brokers):
        mine = [row for row in rows if not options.spread or (row.number + seed) % len(brokers) == turn]
        if not mine:
            continue
        with contextlib.ExitStack() as stack:

            def open_next(number: int, which: str = which, stack: contextlib.ExitStack = stack) -> Place:
                return stack.enter_context(opened(which, options.management_url, options.first_node + number))

            place = open_next(0)
            fitting = [row for row in mine if place.nodes or not row.needs]
            for row in mine:
                if row not in fitting:
                    needs = ", ".join(need.value for need in row.needs)
                    print(f"skip {row.name:<24} {place.version:<8} needs {needs}")
            groups = (_groups(fitting) if place.nodes and options.jobs > 1 else []) or [fitting]
            places = [place, *(open_next(number) for number in range(1, len(groups)))]
            placed = list(zip(groups, places, strict=True))
            ended += run_side_by_side(placed, seed, options.repeat, options.jobs, say)
    return ended


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Return those that run side by side, those that need a node for themselves, and those that need a cluster.

    The second take longest, for they run one after the other; so they are dealt to two nodes.
    """
    alone = [row for row in rows if row.is_alone and not row.is_clustered]
    groups = [
        [row for row in rows if not row.is_alone],
        alone[::2],
        alone[1::2],
        [row for row in rows if row.is_clustered],  # the last, for a command's cluster takes the numbers that follow
    ]
    return [group for group in groups if group]


def _parser() -> argparse.ArgumentParser:
    command = "python -m tests.faults"
    parser = argparse.ArgumentParser(
        prog=command,
        description="Break something while tasks are submitted and run, then count what became of every message.",
        epilog=f"examples:\n  {command} --list\n  {command} --row kill-child --repeat 20\n"
        f"  {command} --row 1 --seed 4711             the same run again\n"
        f"  {command} --broker private --broker amqp://guest:guest@host:5672/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="print the rows")
    parser.add_argument("--row", nargs="+", default=[], metavar="N|NAME", help="only these rows")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each row (default: 1)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the first run of each row; later ones count on")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs side by side, of rows that allow it; with more than one, others on nodes of their own meanwhile",
    )
    parser.add_argument(
        "--broker",
        action="append",
        metavar="WHICH",
        help="private: a node of the installed rabbitmq-server (default); a command with the verbs start, stop, kill "
        "and ctl N; or an amqp:// URL, for the rows that only use it. May be repeated",
    )
    parser.add_argument(
        "--spread", action="store_true", help="each row on one of the brokers only; which one follows from the seed"
    )
    parser.add_argument("--management-url", default=os.environ.get("MANAGEMENT_URL", ""), help="of that URL's broker")
    parser.add_argument("--first-node", type=int, default=1, metavar="N", help="the command's first node (default: 1)")
    parser.add_argument(
        "--results",
        type=Path,
        default=results.RESULTS,
        metavar="FILE",
        help="where results are merged into; with the default, docs/faults.md is written, too",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
