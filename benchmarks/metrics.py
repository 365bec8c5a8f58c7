"""What numbers for Prometheus cost a worker: `python -m benchmarks.metrics`, with `--quick` a tenth of it.

worker     processor time of the main process a no-op task, with --metrics and --health, beside that without; from 95 %
           to 5 % of the messages left, one after the other in turns. The main process is what limits a worker whose
           tasks are tiny. The lowest of the rounds are compared, for who else is at work on the machine only adds. The
           page is fetched twice a second meanwhile, thirty times as often as Prometheus does
counting   what a message costs in the counting itself, without a broker, where those that settle together are 1 or 64
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import tempfile
import time
import timeit
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.brokers import QueueDepth, RabbitMQ
from benchmarks.environment import CHECKOUT
from benchmarks.processes import Process
from benchmarks.tasks import bench, noop
from leveret import Publisher, Route, Settings, TaskMessage, declare
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.measuring.counting import Counting
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import settings
from leveret.topology.link.default_broker import resolve

_TASKS = 60_000
_FROM, _TO = 0.95, 0.05
_LOOK_SECONDS, _FETCH_SECONDS = 0.02, 0.5
_PATIENCE_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks: does it work? Not to compare")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each way (default: 5)")
    options = parser.parse_args(arguments)
    broker = RabbitMQ(resolve(settings.load()))
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds):
        for is_served in (False, True) if number % 2 else (True, False):
            with broker.vhost() as url:
                found[is_served].append(_microseconds(url, is_served, _TASKS // (10 if options.quick else 1)))
    without, served = min(found[False]), min(found[True])
    print(f"worker    without {without:.1f} us a task, with {served:.1f} us, {served / without:.3f} of without")
    print(f"          without {_spread(found[False])}, with {_spread(found[True])}")
    for together in (1, 64):
        print(f"counting  {_counting_microseconds(together):.2f} us a message, {together} at a time")
    return 0


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _microseconds(url: str, is_served: bool, count: int) -> float:
    """Return what a task costs the main process of a worker that drains a full queue."""
    configured = Settings(amqp_url=url)
    declare(configured, [bench])
    with Publisher(configured) as publisher:
        route = Route.direct(bench.name)
        for _, error in publisher.publish_many(TaskMessage.create(noop.name, route=route) for _ in range(count)):
            if error:
                raise error
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["run", bench.name, "-a", "benchmarks.tasks", "--processes", "1", "--log-level", "warning"]
    if is_served:
        command += ["--metrics", f"127.0.0.1:{port}", "--health", f"127.0.0.1:{port}"]
    environment = {**os.environ, "AMQP_URL": url, "PYTHONPATH": str(CHECKOUT)}
    ready = QueueDepth(url, bench.name)
    with tempfile.TemporaryDirectory() as folder:
        worker = Process([sys.executable, "-m", "leveret", *command], environment, Path(folder))
        try:
            first, began = _await_most(worker, ready, int(_FROM * count), None)
            last, ended = _await_most(worker, ready, int(_TO * count), port if is_served else None)
        finally:
            worker.stop()
            ready.close()
    return 1e6 * (ended - began) / (first - last)


def _await_most(worker: Process, ready: QueueDepth, most: int, port: int | None) -> tuple[int, float]:
    """Wait until no more than so many are ready; returns how many, and the seconds of processor the worker has had."""
    deadline, fetch_at = time.monotonic() + _PATIENCE_SECONDS, 0.0
    while (count := ready()) > most:
        worker.check()
        if time.monotonic() > deadline:
            raise SystemExit(f"{count} are left after {_PATIENCE_SECONDS:g} s")
        if port and time.monotonic() >= fetch_at:
            fetch_at = time.monotonic() + _FETCH_SECONDS
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/metrics").read()
        time.sleep(_LOOK_SECONDS)
    fields = re.sub(r"^.*\) ", "", Path(f"/proc/{worker.pid}/stat").read_text()).split()
    return count, (int(fields[11]) + int(fields[12])) / _TICKS


def _counting_microseconds(together: int) -> float:
    counting = Counting([bench])
    delivery: Any = SimpleNamespace(queue=bench)
    batch = [Settled(delivery, Outcome(Ending.RETURNED, noop.name, 0.0123), Verdict.DONE)] * together
    seconds = min(timeit.repeat(lambda: counting.observe(batch), number=20_000 // together, repeat=7))
    return 1e6 * seconds / (20_000 // together * together)


if __name__ == "__main__":
    sys.exit(main())
