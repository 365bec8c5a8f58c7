"""Limits across all workers: do they hold, are they reached, and what do they cost where they are far?

    python -m benchmarks.limits              on the broker of AMQP_URL, in some two minutes

Five workers of four processes each share at_once=10, then a rate of 20 per second. Prints how many ran at the same
time, and how many began in any second, at the most, and how much of what the limit allows was used. Then one worker of
two processes drains no-op tasks off a queue without a limit, and off one whose limit is never reached: by turns, and
the median of the ratios. The rate is that from 95 % to 5 % of the tasks left.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pika

from benchmarks.limits_tasks import AT_ONCE, FAR, PER_SECOND, RUN, RUNS, far, few, free, paced
from leveret import Publisher, Settings, WorkQueue, declare
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import CHECKOUT

_WORKERS, _TASK_SECONDS = 5, 0.1
_PATIENCE_SECONDS = 300.0
_FIRST, _LAST = 0.95, 0.05


def main() -> int:
    """Measure, and print a line for each limit."""
    options = _options()
    configured = default_broker.resolve(settings.load())
    declare(configured, [free, far, few, paced])
    with tempfile.TemporaryDirectory() as folder, Publisher(configured) as publisher:
        runs = _runs(publisher, Path(folder), few, options.tasks, {"seconds": _TASK_SECONDS})
        used = sum(end - begin for begin, end in runs) / _spanned(runs) / AT_ONCE
        print(f"at_once={AT_ONCE}: at most {_most_at_once(runs)} at once, {used:.0%} of what it allows", flush=True)
        runs = _runs(publisher, Path(folder), paced, options.tasks // 2, {})
        most, used = _most_within(runs, 1.0), len(runs) / _spanned(runs) / PER_SECOND
        print(f"rate {PER_SECOND}/s: at most {most} in any second, {used:.0%} of what it allows", flush=True)
        ratios = []
        for _ in range(options.rounds):
            without, within = (_drain(publisher, queue, options.drain) for queue in (free, far))
            ratios.append(within / without)
            print(f"at_once={FAR}: {within:,.0f} tasks/s, without {without:,.0f}, ratio {ratios[-1]:.2f}", flush=True)
        print(f"ratio {statistics.median(ratios):.2f} (median)")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--tasks", type=int, default=400, help="tasks of 0.1 s within the limit of so many at once")
    parser.add_argument("--drain", type=int, default=40_000, help="no-op tasks of each drain")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of drains")
    return parser.parse_args()


def _runs(
    publisher: Publisher, folder: Path, queue: WorkQueue, count: int, kwargs: dict[str, object]
) -> list[tuple[float, float]]:
    """Have so many tasks run by several workers; returns when each began and ended."""
    file = folder / queue.name
    with _workers(publisher.settings, queue, _WORKERS, 4, file):
        publisher.submit_many(f"{queue.name}.run", [kwargs] * count)
        _await(lambda: file.exists() and file.stat().st_size >= count * RUN.size, f"{count} tasks")
    return sorted(RUN.iter_unpack(file.read_bytes()))


def _drain(publisher: Publisher, queue: WorkQueue, count: int) -> float:
    """Return how many no-op tasks a second a worker takes off a queue."""
    publisher.submit_many(f"{queue.name}.noop", [{}] * count)
    moments = []
    with _depth(publisher.settings, queue.name) as depth, _workers(publisher.settings, queue, 1, 2, Path(os.devnull)):
        for left in (count * _FIRST, count * _LAST, 0):
            _await(lambda left=left: depth() <= left, f"{queue.name} to be drained")  # type: ignore[misc]
            moments.append((time.monotonic(), left))
    return (moments[0][1] - moments[1][1]) / (moments[1][0] - moments[0][0])


@contextlib.contextmanager
def _depth(configured: Settings, queue: str) -> Iterator[Callable[[], int]]:
    with pika.BlockingConnection(pika.URLParameters(configured.first_amqp_url)) as connection:
        channel = connection.channel()
        yield lambda: int(channel.queue_declare(queue, passive=True).method.message_count)


@contextlib.contextmanager
def _workers(configured: Settings, queue: WorkQueue, count: int, processes: int, file: Path) -> Iterator[None]:
    command = [
        "run",
        queue.name,
        "-a",
        "benchmarks.limits_tasks",
        "--processes",
        str(processes),
        "--log-level",
        "error",
    ]
    environment = {**os.environ, "AMQP_URL": configured.amqp_url, RUNS: str(file), "PYTHONPATH": str(CHECKOUT)}
    started = [
        subprocess.Popen([sys.executable, "-m", "leveret", *command, "--log-level", "error"], env=environment)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait()


def _await(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {_PATIENCE_SECONDS:g} s in vain for {what}")
        time.sleep(0.005)


def _spanned(runs: list[tuple[float, float]]) -> float:
    return max(end for _, end in runs) - runs[0][0]


def _most_at_once(runs: list[tuple[float, float]]) -> int:
    changes = sorted([(begin, 1) for begin, _ in runs] + [(end, -1) for _, end in runs])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def _most_within(runs: list[tuple[float, float]], seconds: float) -> int:
    begins = [begin for begin, _ in runs]
    return max(bisect.bisect_left(begins, begin + seconds) - at for at, begin in enumerate(begins))


if __name__ == "__main__":
    sys.exit(main())
