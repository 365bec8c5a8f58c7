"""How long a cancelled task keeps its process: from the call of `cancel` until the next task begins there.

    python -m benchmarks.cancelling              100 tasks that end, 20 that do not, on the broker of AMQP_URL

A worker of one process runs a task, and another one waits behind it. The first is cancelled, and the other one says
when it began. One that does not end has a grace, which is taken off. Prints the median and the 99th percentile.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cancelling_tasks import BEGAN, QUEUE
from leveret import Publisher, Route, TaskMessage, cancel, declare
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import CHECKOUT

_GRACE_SECONDS = 2.0
_PATIENCE_SECONDS = 30.0


def main() -> int:
    """Measure, and print a line for each kind of task."""
    options = _options()
    configured = default_broker.resolve(settings.load())
    declare(configured, [QUEUE])
    with tempfile.TemporaryDirectory() as folder, Publisher(configured) as publisher:
        command = ["run", QUEUE.name, "-a", "benchmarks.cancelling_tasks", "--processes", "1", "--prefetch", "2"]
        environment = {**os.environ, "AMQP_URL": configured.amqp_url, BEGAN: folder, "PYTHONPATH": str(CHECKOUT)}
        worker = subprocess.Popen([sys.executable, "-m", "leveret", *command], env=environment, stderr=subprocess.PIPE)
        try:
            for task, count, grace in (("ends", options.ends, 0.0), ("goes_on", options.goes_on, _GRACE_SECONDS)):
                seconds = [_once(publisher, Path(folder), f"cancelling.{task}") - grace for _ in range(count)]
                _tell(task, seconds)
        finally:
            worker.terminate()
            worker.communicate()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancelling", description=__doc__)
    parser.add_argument("--ends", type=int, default=100, help="runs of a task that ends when it is cancelled")
    parser.add_argument("--goes-on", type=int, default=20, help="runs of one that does not")
    return parser.parse_args()


def _once(publisher: Publisher, folder: Path, task: str) -> float:
    first, second = (
        publisher.publish(TaskMessage.create(name, route=Route.direct(QUEUE.name)))
        for name in (task, "cancelling.follows")
    )
    _await(folder / first)
    began = time.monotonic()
    cancel(first, configured=publisher.settings)
    return _await(folder / second) - began


def _await(file: Path) -> float:
    """Wait for the file in which a task writes when it began, by the clock that all processes share."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()):
            return float(text)
        time.sleep(0.005)
    raise SystemExit(f"{file.name} did not begin within {_PATIENCE_SECONDS:g} s")


def _tell(task: str, seconds: list[float]) -> None:
    if len(seconds) > 1:
        last = statistics.quantiles(seconds, n=100, method="inclusive")[-1]
        print(f"{task:<8} {len(seconds):>4} runs  p50 {statistics.median(seconds):.3f} s  p99 {last:.3f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
