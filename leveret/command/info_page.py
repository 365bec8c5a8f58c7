"""What `leveret info` shows: lines for people, and rows for machines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from leveret.command.table import Column, spell, table
from leveret.producers.watching.look import Look, QueueLook, Running
from leveret.topology.printable import printable
from leveret.topology.workers import LimitAtWorker, Progress, WorkerInfo, as_json, limits_of

_MOST_RUNNING = 20
_WIDE = 96
_MEBIBYTE = 1024 * 1024
_QUEUES = (
    Column("QUEUE", may_cut=True),
    *(
        Column(title, right=True)
        for title in ("READY", "OLDEST", "RUNNING", "RETRYING", "DEAD", "IN/s", "OUT/s", "EMPTY IN")
    ),
    Column(""),
)
_WORKERS = (
    Column("WORKER", may_cut=True),
    *(Column(title, right=True) for title in ("UP", "PROCESSES", "MEMORY", "RUNNING")),
    Column("QUEUES", may_cut=True),
)
_LIMITS = (
    Column("LIMIT", may_cut=True),
    *(Column(title, right=True) for title in ("TOKENS", "IN USE", "WAITING")),
)
_RUNNING = (
    Column(""),
    Column("RUNNING", may_cut=True),
    Column("FOR", right=True),
    Column("LIMIT", right=True),
    Column("DONE", right=True),
    Column("WORKER", may_cut=True),
    Column("PID", right=True),
    Column("ID", may_cut=True),
)
_DONE, _PID = 4, 6


def page(look: Look, width: int) -> list[str]:
    """Return the lines that show it, no wider than this. Those that need a look begin with `!`."""
    processes = sum(info.processes.now for info in look.workers)
    head = f"{look.broker}  RabbitMQ {look.version}"
    counts = f"{len(look.workers)} worker(s), {processes} process(es)"
    if any(queue.workers is None for queue in look.queues):
        counts = "workers not known"
    warned = {warned.about for warned in look.warnings}
    room = width - len(head)
    lines = [f"{head}{counts.rjust(room)}"] if len(counts) + 2 <= room else [head, counts]
    lines += table(_QUEUES, [row for queue in look.queues for row in _queue_rows(queue, queue.name in warned)], width)
    if look.workers:
        lines += ["", *table(_WORKERS, [_worker_row(info, look.at) for info in look.workers], width)]
    if limits := limits_of(look.workers):
        lines += ["", *table(_LIMITS, [_limit_row(limit) for limit in limits], width)]
    if look.running:
        lines += ["", *_running_table(look, width)]
    said = [f"! {warned.about}: {warned.text}" for warned in look.warnings] + [f"({note})" for note in look.notes]
    if said:
        lines += ["", *(line for text in said for line in _wrapped(text, width))]
    return lines


def row(look: Look) -> dict[str, Any]:
    """Return it as one object of JSON: times are seconds, and what is not known is null."""
    return {
        "at": look.at,
        "broker": look.broker,
        "rabbitmq": look.version,
        "desired_processes": look.desired_processes,
        "processes": sum(info.processes.now for info in look.workers),
        "workers": [as_json(info) for info in look.workers],
        "queues": [
            {**asdict(queue), "paused": as_json(queue.paused), "backlog": queue.backlog} for queue in look.queues
        ],
        "limits": [as_json(limit) for limit in limits_of(look.workers)],
        "running": [{"worker": one.worker, **as_json(one.task)} for one in look.running],
        "running_count": look.running_count,
        "warnings": [asdict(warned) for warned in look.warnings],
        "notes": list(look.notes),
    }


def _queue_rows(queue: QueueLook, is_warned: bool) -> list[Sequence[str]]:
    """Return its row, and below it one for each level with what is ready there."""
    rest = [""] * (len(_QUEUES) - 2)
    levels = [(f"  {level}", _count(ready), *rest) for level, ready in (queue.ready_by_level or {}).items()]
    return [_queue_row(queue, is_warned), *levels]


def _queue_row(queue: QueueLook, is_warned: bool) -> Sequence[str]:
    return (
        queue.name,
        _count(queue.ready),
        spell(queue.oldest_seconds),
        _count(queue.running if queue.workers is not None else None),
        _count(queue.retrying),
        _count(queue.dead),
        "-" if queue.in_per_second is None else f"{queue.in_per_second:.1f}",
        "-" if queue.workers is None else f"{queue.out_per_second:.1f}",
        _empty_in(queue),
        "!" if is_warned else "",
    )


def _empty_in(queue: QueueLook) -> str:
    if not queue.backlog or queue.workers is None:
        return "-"
    return "never" if queue.empty_in_seconds is None else f"~{spell(queue.empty_in_seconds)}"


def _worker_row(info: WorkerInfo, now: float) -> Sequence[str]:
    processes = info.processes
    return (
        info.worker,
        spell(max(0.0, now - info.since)),
        f"{processes.now}" if processes.least == processes.most else f"{processes.now} of {processes.most}",
        "-" if info.memory_bytes is None else f"{info.memory_bytes / _MEBIBYTE:.0f} MiB",
        str(info.running_count),
        ("leaving: " if info.is_stopping else "") + ",".join(at.name for at in info.queues),
    )


def _limit_row(limit: LimitAtWorker) -> Sequence[str]:
    per = "" if limit.per_seconds is None else f" per {spell(limit.per_seconds)}"
    return (
        limit.name,
        f"{limit.tokens}{per}{' a key' if limit.has_key else ''}",
        "-" if per else str(limit.in_use),
        str(limit.waiting),
    )


def _running_table(look: Look, width: int) -> list[str]:
    shown = look.running[:_MOST_RUNNING]
    rows = [_running_row(one) for one in shown]
    left_out = set() if any(row[_DONE] for row in rows) else {_DONE}
    if width < _WIDE:  # the whole id is worth more than the process
        left_out.add(_PID)
    kept = [at for at in range(len(_RUNNING)) if at not in left_out]
    rows = [[row[at] for at in kept] for row in rows]
    columns = [_RUNNING[at] for at in kept]
    more = look.running_count - len(shown)
    return table(columns, rows, width) + ([f"  and {more} more"] if more > 0 else [])


def _running_row(one: Running) -> Sequence[str]:
    task = one.task
    return (
        "!" if one.is_near_limit else "",
        task.task,
        spell(task.seconds),
        spell(task.limit),
        _done(task.progress),
        one.worker,
        str(task.pid),
        task.id,
    )


def _done(progress: Progress | None) -> str:
    if progress is None:
        return ""
    return f"{progress.done:.6g}" if not progress.total else f"{min(max(progress.done / progress.total, 0), 1):.0%}"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(printable(text), width, subsequent_indent="  ", break_on_hyphens=False)


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)
