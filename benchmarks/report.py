"""The report: Markdown tables with medians and spread, the raw numbers as JSON, and the picture."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.faults import FAULTS
from benchmarks.measure import METRICS, NAMES, Metric
from benchmarks.picture import draw
from benchmarks.systems import System

TABLES = (
    ("Tasks a second, more is better", ("submit_many", "submit_one", "submit_unconfirmed", "drain")),
    ("Milliseconds and seconds, less is better", ("latency_p50", "latency_p99", "books", "hunt", "mix", "mix_ratio")),
    ("Results: tasks a second, more is better", ("gather", "drain_followed", "follow_ratio")),
    ("Followed and recorded, more is better", ("drain_recorded", "record_ratio", "recorded")),
    ("Results: milliseconds, less is better", ("result_p50", "result_p99")),
    ("Delayed tasks: milliseconds, less is better", ("late_p50", "late_p99")),
    ("What the worker needs, less is better", ("memory_idle", "memory_after", "idle_cpu")),
    ("Tasks that wait, side by side: tasks a second, more is better", ("wait", "fetch")),
    (
        "Tasks that wait, side by side: what the worker needs, less is better",
        ("wait_memory", "fetch_memory", "hold_memory", "hold_cpu", "hold_stop"),
    ),
)
PICTURED = (
    "submit_many",
    "submit_one",
    "drain",
    "latency_p50",
    "books",
    "hunt",
    "result_p50",
    "gather",
    "memory_after",
    "idle_cpu",
    "wait",
    "fetch",
    "wait_memory",
    "hold_stop",
)
_NAMED_PEERS = frozenset(
    (
        "aiohttp",
        "amqp",
        "aio-pika",
        "arq",
        "celery",
        "dramatiq",
        "faststream",
        "gevent",
        "huey",
        "redis",
        "rq",
        "taskiq",
        "taskiq-aio-pika",
        "taskiq-redis",
    )
)
MEASURED_BY = {
    "submit": ("submit_many", "submit_one", "submit_unconfirmed"),
    "drain": ("drain",),
    "footprint": ("memory_idle", "memory_after", "idle_cpu"),
    "latency": ("latency_p50", "latency_p99"),
    "books": ("books",),
    "hunt": ("hunt",),
    "result": ("result_p50", "result_p99"),
    "gather": ("gather",),
    "follow": ("drain_followed", "follow_ratio", "drain_recorded", "record_ratio", "recorded"),
    "delayed": ("late_p50", "late_p99"),
    "mix": ("mix", "mix_ratio"),
    "wait": ("wait", "wait_memory"),
    "fetch": ("fetch", "fetch_memory"),
    "hold": ("hold_memory", "hold_cpu", "hold_stop"),
}


@dataclass
class Results:
    """Every number of every round, and what failed."""

    numbers: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """By system and metric."""
    errors: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """By system and measurement."""
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, system: str, numbers: dict[str, float]) -> None:
        """Keep the numbers of one round."""
        for metric, number in numbers.items():
            self.numbers[system][metric].append(number)

    def of(self, system: System, metric: str) -> list[float]:
        """Return the numbers of all rounds, none where there are none."""
        return self.numbers.get(system.name, {}).get(metric, [])

    def fail(self, system: str, measurement: str, error: str) -> None:
        """Keep why there is no number."""
        self.errors[system][measurement].append(error)


def write(results: Results, systems: Sequence[System], about: dict[str, Any], folder: Path) -> str:
    """Write the three files and return the Markdown."""
    text = markdown(results, systems, about)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(text, encoding="utf-8")
    raw = {"about": about, "numbers": results.numbers, "errors": results.errors, "skipped": results.skipped}
    (folder / "results.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    charts = [
        (METRICS[metric], [(system.name, results.of(system, metric)) for system in systems]) for metric in PICTURED
    ]
    (folder / "results.svg").write_text(draw(charts, _subtitle(about)), encoding="utf-8")
    return text


def markdown(results: Results, systems: Sequence[System], about: dict[str, Any]) -> str:
    """Return the tables with their notes."""
    lines = ["# leveret and its peers, side by side", "", _subtitle(about), ""]
    if about["quick"]:
        lines += ["**A quick run: little work, good to see that everything works, not to compare.**", ""]
    lines += [f"Each cell: the median of {about['rounds']} round(s) (lowest–highest). –: does not apply.", ""]
    if about["stopped"]:
        lines += ["The run was stopped: what it had not come to is of fewer rounds, or –.", ""]
    for title, metrics in TABLES:
        lines += _table(title, metrics, results, systems)
    lines += _backlog(results, systems)
    lines += _faults(results, systems)
    lines += ["## Configurations", ""]
    lines += [f"- **{system.name}**: {system.notes}." for system in systems]
    lines += _problems(results)
    lines += ["", "## Versions", "", _versions(about), ""]
    return "\n".join(lines)


def _table(title: str, metrics: Sequence[str], results: Results, systems: Sequence[System]) -> list[str]:
    metrics = [metric for metric in metrics if any(_cell(results, system, metric) != "–" for system in systems)]
    if not metrics:
        return []
    heads = [f"{METRICS[metric].title} [{METRICS[metric].unit}]" for metric in metrics]
    lines = [f"## {title}", "", f"| | {' | '.join(heads)} |", f"|---|{'---:|' * len(metrics)}"]
    for system in systems:
        cells = [_cell(results, system, metric) for metric in metrics]
        if any(cell != "–" for cell in cells):
            lines.append(f"| {system.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(results: Results, system: System, metric: str) -> str:
    if numbers := results.of(system, metric):
        return shown(numbers, METRICS[metric])
    measurement = next(name for name, metrics in MEASURED_BY.items() if metric in metrics)
    return "error" if results.errors.get(system.name, {}).get(measurement) else "–"


def shown(numbers: Sequence[float], metric: Metric | None = None) -> str:
    """Return the median, and the spread of several."""
    middle = number_shown(median(numbers))
    spread = f" ({number_shown(min(numbers))}–{number_shown(max(numbers))})" if len(numbers) > 1 else ""
    return f"{middle}{spread}"


def number_shown(number: float) -> str:
    """Return a number with about three digits that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _backlog(results: Results, systems: Sequence[System]) -> list[str]:
    lines = []
    for system in systems:
        numbers = results.numbers.get(system.name, {})
        for metric in [metric for metric in numbers if metric.startswith("backlog_rate_")]:
            size = metric.rpartition("_")[2]
            memory = shown(numbers[f"backlog_memory_{size}"])
            lines.append(f"| {system.name} | {int(size):,} | {shown(numbers[metric])} | {memory} |")
    if not lines:
        return []
    heads = ["| | messages waiting | drain [tasks/s] | memory [MiB] |", "|---|---:|---:|---:|"]
    return ["## Off a backlog", "", *heads, *lines, ""]


def _faults(results: Results, systems: Sequence[System]) -> list[str]:
    rows = []
    for system in systems:
        cells = [_fault_cell(results, system, name) for name in FAULTS]
        if any(cell != "–" for cell in cells):
            rows.append(f"| {system.name} | {' | '.join(cells)} |")
    if not rows:
        return []
    heads = [f"| | {' | '.join(fault.title for fault in FAULTS.values())} |", f"|---|{'---|' * len(FAULTS)}"]
    told = (
        "Tasks lost and runs too many, of all rounds together, and the longest time after a fault until work was as "
        "before: all that was sent earlier had run, and something sent later. *Itself*: until the task that was killed "
        "in the middle had run again; leveret waits for the first retry delay of the queue, 5 s by default.\n"
    )
    return ["## What faults cost", "", told, *heads, *rows, ""]


def _fault_cell(results: Results, system: System, name: str) -> str:
    lost = results.of(system, f"{name}_lost")
    if not lost:
        return "error" if results.errors.get(system.name, {}).get(name) else "–"
    twice = sum(results.of(system, f"{name}_twice"))
    recovery = shown(results.of(system, f"{name}_recovery"))
    again = results.of(system, f"{name}_again")
    return f"{sum(lost):.0f} lost, {twice:.0f} twice, {recovery} s" + (f"; itself {shown(again)} s" if again else "")


def _problems(results: Results) -> list[str]:
    lines = [f"- **{system}** was left out: {reason}" for system, reason in results.skipped.items()]
    for system, measurements in results.errors.items():
        for measurement in NAMES:
            lines += [f"- **{system}**, {measurement}: {error}" for error in measurements.get(measurement, ())]
    return ["", "## What did not work", "", *lines] if lines else []


def _subtitle(about: dict[str, Any]) -> str:
    brokers = ", ".join(f"{name} {version}" for name, version in about["brokers"].items())
    return (
        f"{about['cores']} cores, {about['memory_gib']} GiB, Python {about['python']}, {brokers}; {about['taken'][:10]}"
    )


def _versions(about: dict[str, Any]) -> str:
    peers = {name: version for name, version in about["peers"].items() if name.lower() in _NAMED_PEERS}
    named = sorted({**about["ours"], **peers}.items(), key=lambda one: one[0].lower())
    commit = f"commit {about['commit']}; " if about["commit"] else ""
    return commit + ", ".join(f"{name} {version}" for name, version in named)
