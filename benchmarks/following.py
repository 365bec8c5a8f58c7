"""Tasks whose results are waited for: one after another, and many at once."""

from __future__ import annotations

from collections.abc import Callable
from statistics import quantiles

from benchmarks.bench import Cell

_PILOT_TASKS = 500


def result(cell: Cell) -> dict[str, float]:
    """Submit a task, wait for its result, and then the next."""
    cell.start_warm_worker()
    sent = cell.send("result", {"numbers": cell.sizes.result_tasks}, confirm=cell.system.confirms)
    percentiles = quantiles([seconds * 1000 for seconds in sent.times], n=100, method="inclusive")
    return {"result_p50": percentiles[49], "result_p99": percentiles[98]}


def gather(cell: Cell) -> dict[str, float]:
    """Submit many and gather all results; a few before that tell how many take some seconds."""
    cell.start_warm_worker()
    sizes, confirm = cell.sizes, cell.system.confirms
    pilot = cell.send("gather", {"numbers": _PILOT_TASKS}, confirm=confirm)
    count = min(max(int(_PILOT_TASKS / pilot.seconds * sizes.gather_seconds), _PILOT_TASKS), sizes.gather_most)
    sent = cell.send("gather", {"numbers": count}, confirm=confirm)
    return {"gather": sent.count / sent.seconds}


FOLLOWING: dict[str, Callable[[Cell], dict[str, float]]] = {"result": result, "gather": gather}
