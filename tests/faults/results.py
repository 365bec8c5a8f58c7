"""What came out: a line per run, results.json, and the table in docs/faults.md that is made from it."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from leveret.topology.settings import CHECKOUT
from tests.faults.row import Result
from tests.faults.rows import ROWS

RESULTS = CHECKOUT / "tests" / "faults" / "results.json"
DOCUMENT = CHECKOUT / "docs" / "faults.md"

_INTRODUCTION = """# Faults survived

What happens to messages when something breaks. Each line was run as often as it says, each time with the fault at
another moment; `make faults` runs them again and writes this file. In every run a producer submits 100 to 300 tasks,
up to 2,000 where they run side by side, workers run them, and the fault comes in between. Afterwards

    lost = confirmed − executed − parked

where *confirmed* are the tasks whose `submit` returned, *executed* those that ran to their end, and *parked* those
whose copy lies in the dead-letter queue. Then all queues must be empty, nothing may be unacknowledged or stuck between
queues, and the workers must leave when told to and leave no process behind.

*Duplicates* are ends beyond the first, of all messages of a run: executions that finished once more, or copies in
the dead-letter queue. *Recovery* is the time from the end of the fault (a single blow ends as it begins) to the next
execution that began and finished, of a task that the fault had interrupted or that was confirmed after it.
Where tasks run side by side (40 to 47), none may begin more than once more for each fault that hit it, and none that is
not to blame may use up an attempt; in 47 one may that runs alone in a child when that is killed.
Where somebody waits for results (48 to 53, 91), each wait has to end with the result of its task, or with an error that
says what may have been missed, and nothing that is told later may contradict it.
Where tasks are delayed (64 to 67), none may come too early, and what no queue takes has to lie in `tasks.later.lost`.
In 69 what lay in the deleted queue is excused. Where there are limits (71 to 73), no more may run at the same time than
they allow, and all tokens have to be there in the end; in 73 what runs while its worker is stopped is not counted.
Where schedules fire (74 to 78), no planned time may be missed, and only the same id may come twice.
Rows run side by side (`--jobs`, several brokers), so these times are those of a busy machine.
"""


def line(result: Result) -> str:
    """Return the line that tells of one run."""
    recovery = "" if result.recovery_seconds is None else f"  recovery {result.recovery_seconds:.2f} s"
    verdict = "ok  " if result.is_good else "FAIL"
    problems = "".join(f"\n       {problem}" for problem in result.problems)
    kept = "" if result.is_good else f"\n       lost: {result.lost[:10]}\n       see {result.folder}"
    return (
        f"{verdict} {result.row:<24} {result.version:<8} seed {result.seed}  confirmed {result.confirmed}"
        f"  lost {len(result.lost)}  dup {result.duplicates}/{result.bound}  parked {result.parked}"
        f"  unknown {result.unknown}{recovery}  ({result.seconds:.1f} s){problems}{kept}"
    )


def merge(path: Path, results: Iterable[Result]) -> dict[str, Any]:
    """Put new results in the place of older ones of the same row and version, and return all."""
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.row, result.version].append(result)
    for (row, version), group in groups.items():
        known.setdefault(row, {})[version] = _summary(group)
    order = [row.name for row in ROWS]
    known = {name: dict(sorted(known[name].items())) for name in order if name in known}
    path.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return known


def document(known: dict[str, Any]) -> str:
    """Return docs/faults.md."""
    head = "| # | fault | RabbitMQ | runs | lost | duplicates, most | bound | recovery, median / most | problem |"
    lines = [head, "|" + "---|" * head.count(" | ") + "---|"]
    for row in ROWS:
        for version, found in known.get(row.name, {}).items():
            recovery = "–"
            if found["recovery_median_seconds"] is not None:
                recovery = f"{found['recovery_median_seconds']:.2f} / {found['recovery_most_seconds']:.2f} s"
            problem = found["worst_problem"].replace("|", "\\|").replace("\n", " ")[:200] or "–"
            lines.append(
                f"| {row.number} | {row.injected} (`{row.name}`) | {version} | {found['runs']} | {found['lost']} "
                f"| {found['duplicates_most']} | {row.bound} | {recovery} | {problem} |"
            )
    return _INTRODUCTION + "\n" + "\n".join(lines) + "\n"


def _summary(group: Sequence[Result]) -> dict[str, Any]:
    recoveries = [result.recovery_seconds for result in group if result.recovery_seconds is not None]
    bad = [result for result in group if not result.is_good]
    worst = max(bad, key=lambda result: (len(result.lost), len(result.problems)), default=None)
    problem = "; ".join(worst.problems).replace(f"{CHECKOUT}/", "") or "lost" if worst else ""
    return {
        "runs": len(group),
        "good": len(group) - len(bad),
        "confirmed": sum(result.confirmed for result in group),
        "lost": sum(len(result.lost) for result in group),
        "parked": sum(result.parked for result in group),
        "duplicates_most": max(result.duplicates for result in group),
        "bound_then": max(group, key=lambda result: result.duplicates).bound,
        "recovery_median_seconds": round(statistics.median(recoveries), 3) if recoveries else None,
        "recovery_most_seconds": round(max(recoveries), 3) if recoveries else None,
        "worst_problem": f"{len(bad)} of {len(group)} runs: {problem}" if worst else "",
    }
