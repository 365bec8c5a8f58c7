"""The measurements. Each takes a system to numbers; one that fails raises, and its cell shows why."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from benchmarks.bench import START_TIMEOUT_SECONDS, TIMEOUT_SECONDS, Bench, Call, Cell, wait_for_files
from benchmarks.delayed import DELAYED
from benchmarks.faults import FAULTS
from benchmarks.following import FOLLOWING
from benchmarks.processes import Failed, Process, wait_until
from benchmarks.systems import System
from benchmarks.waiting import WAITING

Numbers = dict[str, float]
_PILOT_MESSAGES = 3_000
_FIRST, _LAST = 0.95, 0.05
_SEED = 7
_SAND = "sand and more sand, and nothing but sand\n" * 20


class Metric(NamedTuple):
    """A number of the report: how it is called, its unit, and whether more of it is better."""

    title: str
    unit: str
    more_is_better: bool = False


METRICS: dict[str, Metric] = {
    "submit_many": Metric("submit many, confirmed", "tasks/s", more_is_better=True),
    "submit_one": Metric("submit one by one, confirmed", "tasks/s", more_is_better=True),
    "submit_unconfirmed": Metric("submit, its default without confirms", "tasks/s", more_is_better=True),
    "drain": Metric("drain no-op tasks", "tasks/s", more_is_better=True),
    "latency_p50": Metric("submit to start, median", "ms"),
    "latency_p99": Metric("submit to start, 99th percentile", "ms"),
    "books": Metric("count the books", "s"),
    "hunt": Metric("treasure hunt", "s"),
    "mix": Metric("slow among tiny tasks", "s"),
    "mix_ratio": Metric("… over the ideal", "times"),
    "memory_idle": Metric("memory, idle", "MiB"),
    "memory_after": Metric("memory after many tasks", "MiB"),
    "idle_cpu": Metric("processor when idle", "s in 10 s"),
    "wait": Metric("tasks that wait 0.1 s", "tasks/s", more_is_better=True),
    "fetch": Metric("GETs of 20 ms", "tasks/s", more_is_better=True),
    "wait_memory": Metric("memory while tasks wait 0.1 s", "MiB"),
    "fetch_memory": Metric("memory during GETs", "MiB"),
    "hold_memory": Metric("memory of 1,000 that wait", "MiB"),
    "hold_cpu": Metric("processor of 1,000 that wait", "s in 10 s"),
    "hold_stop": Metric("to stop with 1,000 that wait", "s"),
    "result_p50": Metric("submit to result, median", "ms"),
    "result_p99": Metric("submit to result, 99th percentile", "ms"),
    "late_p50": Metric("late after a delay of 5 s, median", "ms"),
    "late_p99": Metric("late after a delay of 5 s, 99th percentile", "ms"),
    "gather": Metric("submit and gather results", "tasks/s", more_is_better=True),
    "drain_followed": Metric("drain followed no-op tasks", "tasks/s", more_is_better=True),
    "follow_ratio": Metric("… over that of tasks nobody follows", "times", more_is_better=True),
    "drain_recorded": Metric("drain followed no-op tasks, recorded beside", "tasks/s", more_is_better=True),
    "record_ratio": Metric("… over that of tasks nobody follows", "times", more_is_better=True),
    "recorded": Metric("… until the last is recorded", "tasks/s", more_is_better=True),
}


def submit(cell: Cell) -> Numbers:
    """Submit no-op tasks that nobody takes: confirmed, and without confirms where that is the default."""
    job = {"task": "noop", "seconds": cell.sizes.submit_seconds}
    ways = cell.system.ways
    rates: Numbers = {}
    for way in ways:
        sent = cell.send(way, job)
        rates[{"one_by_one": "submit_one", "many": "submit_many"}[way]] = sent.count / sent.seconds
    rates.setdefault("submit_many", rates.get("submit_one", 0.0))  # without another way, a loop has to do
    if not cell.system.confirms_by_default:
        sent = cell.send(ways[0], job, confirm=False)
        rates["submit_unconfirmed"] = sent.count / sent.seconds
    return rates


def drain(bench: Bench, system: System) -> Numbers:
    """Drain preloaded no-op tasks; the first round finds out how many take a few seconds."""
    sizes = bench.sizes
    if system.name not in bench.settled:
        count = sizes.drain_fewest
        if sizes.drain_seconds:
            with bench.cell(system) as cell:
                count = int(_drain_rate(cell, _PILOT_MESSAGES) * sizes.drain_seconds)
        bench.settled[system.name] = min(max(count, sizes.drain_fewest), sizes.drain_most)
    with bench.cell(system) as cell:
        return {"drain": _drain_rate(cell, bench.settled[system.name])}


def follow(bench: Bench, system: System) -> Numbers:
    """Drain no-op tasks that are followed, and once more beside a recorder, and as many that nobody follows."""
    count = 2 * bench.sizes.drain_fewest
    with bench.cell(system) as cell:
        unfollowed = _drain_rate(cell, count)
    with bench.cell(system) as cell:
        followed = _drain_rate(cell, count, "many_followed")
    with bench.cell(system) as cell:
        record = cell.start_recorder()
        cell.preload(count, "many_followed")
        cell.start_worker()
        drained, began = _rate_and_begin(cell, count * _FIRST, count * _LAST)
        wait_until(lambda: _recorded(record) >= count, TIMEOUT_SECONDS, "the record of all tasks")
        seconds = time.perf_counter() - began
    return {
        "drain_followed": followed,
        "follow_ratio": followed / unfollowed,
        "drain_recorded": drained,
        "record_ratio": drained / unfollowed,
        "recorded": count * _FIRST / seconds,
    }


def _recorded(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as record:
        found: int = record.execute("SELECT count(*) FROM leveret_tasks").fetchone()[0]
        return found


def _drain_rate(cell: Cell, count: int, way: str = "") -> float:
    cell.preload(count, way)
    cell.start_worker()
    return _rate_between(cell, count * _FIRST, count * _LAST)


def _rate_between(cell: Cell, first_depth: float, last_depth: float) -> float:
    return _rate_and_begin(cell, first_depth, last_depth)[0]


def _rate_and_begin(cell: Cell, first_depth: float, last_depth: float) -> tuple[float, float]:
    """Return tasks a second between two depths of the queue, and when the first was reached.

    So starting and stopping are left out.
    """

    def reached(depth: float) -> tuple[float, int] | None:
        cell.check_worker()
        now = cell.depth()
        return (time.perf_counter(), now) if now <= depth else None

    began, had = wait_until(lambda: reached(first_depth), START_TIMEOUT_SECONDS, "the worker to take tasks")
    ended, left = wait_until(lambda: reached(last_depth), TIMEOUT_SECONDS, "the queue to empty")
    if had == left:
        raise Failed("the queue emptied between two looks at it")
    return (had - left) / (ended - began), began


def latency(cell: Cell) -> Numbers:
    """Submit one task after another to an idle worker; each tells how long ago it was sent."""
    path = cell.folder / "stamps"
    count = cell.sizes.latency_tasks
    calls: list[Call] = [("stamp", {"path": str(path)}) for _ in range(count)]
    cell.send("one_by_one", {"calls": calls, "interval": cell.sizes.latency_interval_seconds})

    def stamps() -> list[str] | None:
        cell.check_worker()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return lines if len(lines) >= count else None

    lines = wait_until(stamps, START_TIMEOUT_SECONDS, f"{count} tasks to start")
    percentiles = quantiles([float(line) * 1000 for line in lines], n=100, method="inclusive")
    return {"latency_p50": percentiles[49], "latency_p99": percentiles[98]}


def books(cell: Cell) -> Numbers:
    """Count every book several times; the median of doing that again and again, for it is short."""
    return {
        "books": median(_books(cell, cell.folder / f"results-{number}") for number in range(cell.sizes.book_repeats))
    }


def _books(cell: Cell, results: Path) -> float:
    results.mkdir()
    rounds = range(cell.sizes.book_rounds)
    calls: list[Call] = [
        ("count", {"book": str(book), "result": str(results / f"{book.stem}-{number}.json")})
        for number in rounds
        for book in cell.bench.books
    ]
    sent = (
        cell.run_pool(calls)
        if cell.system.app == "pool"
        else cell.send(cell.system.bulk(), {"calls": calls, "stay": 1.0})
    )
    return wait_for_files(results, len(calls), cell.check_worker) - sent.began


def hunt(cell: Cell) -> Numbers:
    """Look into every file of a folder, one task a file, to the last."""
    folder, path = cell.folder / "beach", cell.folder / "searched"
    folder.mkdir()
    files = cell.sizes.hunt_files
    for number in range(files):
        treasure = "treasure\n" if number == files * 2 // 3 else ""
        (folder / f"{number:06d}.txt").write_text(_SAND + treasure + _SAND, encoding="utf-8")
    calls: list[Call] = [
        ("hunt", {"number": number, "folder": str(folder), "path": str(path)}) for number in range(files)
    ]
    seconds = cell.seconds_until_run(calls, path)
    if not (folder / "found").exists():
        raise Failed("every file was searched, but the treasure was not found")
    return {"hunt": seconds}


def footprint(cell: Cell, worker: Process) -> Numbers:
    """Weigh the idle worker, see what it uses of the processor, and weigh it again after many tasks."""
    idle = worker.pss_mib()
    used = worker.cpu_seconds()
    time.sleep(cell.sizes.idle_seconds)
    idle_cpu = (worker.cpu_seconds() - used) / cell.sizes.idle_seconds * 10
    job = {"task": "noop", "count": cell.sizes.memory_tasks}
    cell.send(cell.system.bulk(), job, confirm=cell.system.confirms_by_default)
    cell.seconds_until_run([("tick", {"number": 0, "path": str(cell.folder / "last")})], cell.folder / "last")
    return {"memory_idle": idle, "idle_cpu": idle_cpu, "memory_after": worker.pss_mib()}


def mix(cell: Cell) -> Numbers:
    """Run slow tasks shuffled among tiny ones; the ideal is the tiny ones alone plus half of the slow time."""
    sizes = cell.sizes
    tiny = cell.seconds_until_run(_ticks(sizes.mix_tiny, cell.folder / "tiny"), cell.folder / "tiny")
    path = cell.folder / "mixed"
    calls = _ticks(sizes.mix_tiny + sizes.mix_slow, path)
    for task in calls[: sizes.mix_slow]:
        task[1]["seconds"] = sizes.mix_slow_seconds
    calls = [("slow" if "seconds" in kwargs else "tick", kwargs) for _, kwargs in calls]
    random.Random(_SEED).shuffle(calls)  # noqa: S311 - the same order for all
    total = cell.seconds_until_run(calls, path)
    ideal = sizes.mix_slow * sizes.mix_slow_seconds / cell.system.workers + tiny
    return {"mix": total, "mix_ratio": total / ideal}


def _ticks(count: int, path: Path) -> list[Call]:
    return [("tick", {"number": number, "path": str(path)}) for number in range(count)]


def backlog(bench: Bench, system: System) -> Numbers:
    """Drain the same number of tasks off a small and off a huge backlog."""
    numbers: Numbers = {}
    for size in bench.sizes.backlogs:
        with bench.cell(system) as cell:
            cell.preload(size)
            worker = cell.start_worker()
            tasks = bench.sizes.backlog_tasks
            rate = _rate_between(cell, size - tasks * (1 - _FIRST), size - tasks * (1 - _LAST))
            numbers[f"backlog_rate_{size}"] = rate
            numbers[f"backlog_memory_{size}"] = worker.pss_mib()
    return numbers


ON_A_RUNNING_WORKER: dict[str, Callable[[Cell, Process], Numbers]] = {
    "footprint": footprint,
    "latency": lambda cell, _worker: latency(cell),
    "books": lambda cell, _worker: books(cell),
    "hunt": lambda cell, _worker: hunt(cell),
}
NAMES = ("submit", "drain", *ON_A_RUNNING_WORKER, *FOLLOWING, "follow", *WAITING, *DELAYED, "mix", "backlog", *FAULTS)
SLOW = (*FOLLOWING, "follow", *WAITING, *DELAYED, "mix", "backlog", *FAULTS)
"""Left out by --quick."""
