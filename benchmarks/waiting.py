"""Tasks that wait for somebody else, hundreds side by side: how many a second, and what the worker needs for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from benchmarks.bench import START_TIMEOUT_SECONDS, Call, Cell
from benchmarks.environment import CHECKOUT
from benchmarks.processes import Failed, Process, wait_until

_FIRST = 0.05
"""Timed from when so many have run, so that starting is left out, to the last."""
_STOP_TIMEOUT_SECONDS = 60.0


def wait(cell: Cell) -> dict[str, float]:
    """Run tasks that sleep."""
    sizes = cell.sizes
    path = str(cell.folder / "ran")
    calls: list[Call] = [
        ("slow", {"number": number, "path": path, "seconds": sizes.wait_seconds}) for number in range(sizes.wait_tasks)
    ]
    rate, memory = _rate_and_memory(cell, calls)
    return {"wait": rate, "wait_memory": memory}


def fetch(cell: Cell) -> dict[str, float]:
    """Run tasks that GET from a server that takes its time."""
    sizes = cell.sizes
    path = str(cell.folder / "ran")
    told = cell.folder / "port"
    command = [sys.executable, "-m", "benchmarks.server", str(sizes.fetch_milliseconds), str(told)]
    server = Process(command, {"PYTHONPATH": str(CHECKOUT)}, cell.folder)
    try:
        wait_until(told.exists, START_TIMEOUT_SECONDS, "the HTTP server")
        port = int(told.read_text(encoding="utf-8"))
        calls: list[Call] = [
            ("fetch", {"number": number, "path": path, "port": port}) for number in range(sizes.fetch_tasks)
        ]
        rate, memory = _rate_and_memory(cell, calls)
    finally:
        server.kill()
    return {"fetch": rate, "fetch_memory": memory}


def hold(cell: Cell) -> dict[str, float]:
    """Weigh a worker whose tasks all wait, see what it uses of the processor, and stop it amid them."""
    sizes = cell.sizes
    worker = cell.start_warm_worker()
    path = cell.folder / "begun"
    kwargs = {"path": str(path), "seconds": sizes.hold_seconds}
    calls: list[Call] = [("hold", {"number": number, **kwargs}) for number in range(sizes.hold_tasks)]
    sent = cell.send(cell.system.bulk(), {"calls": calls})
    _, last = cell.wait_until_run(sizes.hold_tasks, path)
    if last - sent.began > sizes.hold_seconds:
        raise Failed(f"{sizes.hold_tasks} tasks never waited side by side: the last began when the first had ended")
    memory, used = worker.pss_mib(), worker.cpu_seconds()
    time.sleep(sizes.hold_idle_seconds)
    cpu = (worker.cpu_seconds() - used) / sizes.hold_idle_seconds * 10
    return {"hold_memory": memory, "hold_cpu": cpu, "hold_stop": worker.seconds_to_stop(_STOP_TIMEOUT_SECONDS)}


def _rate_and_memory(cell: Cell, calls: Sequence[Call]) -> tuple[float, float]:
    """Return tasks a second off a queue filled before, and the worker's memory: halfway or last, the larger."""
    path = cell.folder / "ran"
    cell.preload_calls(calls)
    worker = cell.start_worker()
    had, began = cell.wait_until_run(int(len(calls) * _FIRST), path)
    cell.wait_until_run(len(calls) // 2, path)
    memory = worker.pss_mib()
    ran, ended = cell.wait_until_run(len(calls), path)
    return (ran - had) / (ended - began), max(memory, worker.pss_mib())


WAITING: dict[str, Callable[[Cell], dict[str, float]]] = {"wait": wait, "fetch": fetch, "hold": hold}
