"""What priorities cost, and what they are good for: `python -m benchmarks.priorities`, with `--quick` a tenth of it.

drain      no-op tasks a second off a queue with priorities, all of them normal or a third of each level, beside those
           off a queue without; timed from 95 % to 5 % of the messages left, one after the other in turns
behind     how long an urgent task waits behind 100,000 of low priority that a worker runs, from just before its submit
           to its first line; the low ones do nothing, or take 10 ms; and how long it does with none before it
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.brokers import QueueDepth, RabbitMQ
from benchmarks.environment import CHECKOUT
from benchmarks.priority_tasks import BEGAN, plain, ranked
from benchmarks.processes import Process, wait_until
from benchmarks.systems import PROCESSES
from leveret import Publisher, Route, Settings, TaskMessage, WorkQueue, declare
from leveret.topology import settings
from leveret.topology.link.default_broker import resolve
from leveret.topology.names import LEVELS

_DRAINED = 60_000
_LOW = 100_000
_URGENT = 100
_ENOUGH = 0.4  # of them; a fast machine ends the low ones before all
_BETWEEN_SECONDS = 0.02
_BETWEEN_LOOKS_SECONDS = 0.05
_PATIENCE_SECONDS = 300.0
_FROM, _TO = 0.95, 0.05
_WAYS: dict[str, tuple[WorkQueue, Sequence[str | None]]] = {
    "without priorities": (plain, (None,)),
    "with, all normal": (ranked, (None,)),
    "with, of all levels": (ranked, LEVELS),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.priorities", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks: does it work? Not to compare")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of the drains (default: 3)")
    options = parser.parse_args(arguments)
    part = 10 if options.quick else 1
    broker = RabbitMQ(resolve(settings.load()))
    rates: dict[str, list[float]] = {way: [] for way in _WAYS}
    for number in range(options.rounds):
        for way in list(_WAYS)[:: -1 if number % 2 else 1]:
            with broker.vhost() as url:
                rates[way].append(_drain(url, *_WAYS[way], _DRAINED // part))
    first = statistics.median(rates["without priorities"])
    for way, measured in rates.items():
        rate = statistics.median(measured)
        print(f"drain   {way:<20} {rate:8,.0f} a second, {rate / first:.2f} of without", flush=True)
    low: list[tuple[int, str, dict[str, float]]] = [
        (0, "ranked.nothing", {}),  # an idle worker, to compare with
        (_LOW // part, "ranked.nothing", {}),
        (_LOW // part, "ranked.takes", {"seconds": 0.01}),
    ]
    for count, task, kwargs in low:
        with broker.vhost() as url:
            waits = sorted(_behind(url, TaskMessage.create(task, kwargs=kwargs), count, _URGENT // part))
        last = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
        what = f"{count:,} {task} {kwargs or ''}"
        print(f"behind  {what:<40} p50 {statistics.median(waits):.1f} ms, p99 {last:.1f}, worst {waits[-1]:.1f}")
    return 0


def _drain(url: str, queue: WorkQueue, levels: Sequence[str | None], count: int) -> float:
    """Return how many tasks a second a worker takes off a queue that was filled before."""
    configured = Settings(amqp_url=url)
    _fill(configured, queue, TaskMessage.create(f"{queue.name}.nothing"), levels, count)
    with _ready(url, queue) as ready, _worker(url, queue, os.devnull):
        began, first = _await_most(ready, int(_FROM * count))
        ended, last = _await_most(ready, int(_TO * count))
        return (first - last) / (ended - began)


def _behind(url: str, low: TaskMessage, count: int, urgent: int) -> list[float]:
    """Return how many milliseconds each urgent task waited."""
    configured = Settings(amqp_url=url)
    _fill(configured, ranked, low, ("low",), count)
    with tempfile.TemporaryDirectory() as folder, _ready(url, ranked) as ready, Publisher(configured) as publisher:
        file = Path(folder) / "began"
        file.touch()
        submitted = []
        message = TaskMessage.create("ranked.urgent", headers={"priority": "high"})
        with _worker(url, ranked, str(file)):
            _until(lambda: ready() <= 0.99 * count)
            publisher.publish(message)  # when this has run, the worker is there
            _until(functools.partial(_has_lines, file, 1))
            for number in range(1, urgent + 1):
                submitted.append(time.time_ns())
                publisher.publish(TaskMessage(message.task, message.body, headers=message.headers))
                _until(functools.partial(_has_lines, file, number + 1))
                time.sleep(_BETWEEN_SECONDS)
                if count and not ready():
                    break
            if len(submitted) < _ENOUGH * urgent:
                raise SystemExit(f"the low ones had ended when {len(submitted)} of {urgent} urgent ones had run")
        began = list(map(int, file.read_text().split()))[1:]
        return [(then - before) / 1e6 for before, then in zip(submitted, began, strict=True)]


def _fill(
    configured: Settings, queue: WorkQueue, message: TaskMessage, levels: Sequence[str | None], count: int
) -> None:
    declare(configured, [queue])
    each = itertools.cycle([None if level is None else {"priority": level} for level in levels])
    route = Route.direct(queue.name)
    with Publisher(configured) as publisher:
        messages = (TaskMessage(message.task, message.body, route=route, headers=next(each)) for _ in range(count))
        for _, error in publisher.publish_many(messages):
            if error:
                raise error


def _await_most(ready: Callable[[], int], most: int) -> tuple[float, int]:
    """Wait until no more than so many are ready; returns when, and how many. Seldom asked, it costs little."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (count := ready()) > most:
        if time.monotonic() > deadline:
            raise SystemExit(f"{count} are left after {_PATIENCE_SECONDS:g} s")
        time.sleep(_BETWEEN_LOOKS_SECONDS)
    return time.monotonic(), count


def _has_lines(file: Path, count: int) -> bool:
    return len(file.read_text().splitlines()) == count


@contextlib.contextmanager
def _ready(url: str, queue: WorkQueue) -> Iterator[Callable[[], int]]:
    """Count what no worker has taken, in all levels."""
    depths = [QueueDepth(url, name) for name in queue.waits_in]
    try:
        yield lambda: sum(depth() for depth in depths)
    finally:
        for depth in depths:
            depth.close()


@contextlib.contextmanager
def _worker(url: str, queue: WorkQueue, began: str) -> Iterator[None]:
    command = [sys.executable, "-m", "leveret", "run", queue.name, "-a", "benchmarks.priority_tasks"]
    environment = {**os.environ, "AMQP_URL": url, BEGAN: began, "PYTHONPATH": str(CHECKOUT)}
    with tempfile.TemporaryDirectory() as folder:
        process = Process([*command, "--processes", str(PROCESSES)], environment, Path(folder))
        try:
            yield
        finally:
            process.kill()


def _until(is_so: Callable[[], bool]) -> float:
    """Wait until something is so; returns when it was."""
    wait_until(is_so, _PATIENCE_SECONDS, "the worker")
    return time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
