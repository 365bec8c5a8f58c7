"""Tasks that are to run some seconds later: how late they are."""

from __future__ import annotations

from collections.abc import Callable
from statistics import quantiles

from benchmarks.bench import START_TIMEOUT_SECONDS, Call, Cell
from benchmarks.processes import wait_until
from benchmarks.work import DELAY_SECONDS


def delayed(cell: Cell) -> dict[str, float]:
    """Submit one task after another, each for some seconds later; each tells how long ago it was sent."""
    cell.start_warm_worker()
    path = cell.folder / "delayed"
    count = cell.sizes.delayed_tasks
    calls: list[Call] = [("stamp", {"path": str(path)}) for _ in range(count)]
    job = {"calls": calls, "interval": cell.sizes.delayed_interval_seconds, "stay": DELAY_SECONDS + 1.0}
    cell.send("delayed", job, confirm=cell.system.confirms)

    def stamps() -> list[str] | None:
        cell.check_worker()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return lines if len(lines) >= count else None

    lines = wait_until(stamps, DELAY_SECONDS + START_TIMEOUT_SECONDS, f"{count} tasks to start")
    late = [(float(line) - DELAY_SECONDS) * 1000 for line in lines]
    percentiles = quantiles(late, n=100, method="inclusive")
    return {"late_p50": percentiles[49], "late_p99": percentiles[98]}


DELAYED: dict[str, Callable[[Cell], dict[str, float]]] = {"delayed": delayed}
