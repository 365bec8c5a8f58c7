"""What traces cost: without the library, with it but not set up, and with spans that are made and go nowhere.

    python -m benchmarks.traces              on the broker of AMQP_URL, in some three minutes

By turns, in processes of their own: submits one by one, a submit of many, and no-op tasks that a worker of two
processes drains off a queue. Prints the processor time of each in microseconds, which the load of the machine changes
less than it does a rate, and the medians of the ratios to what is measured without the library in the same round. The
worker's is the difference between a long drain and a short one, so that its start is not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.traces_tasks import MODE, MODES, noop, set_up, traced
from leveret import Publisher, Settings, declare
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import CHECKOUT

_HERE = "--here"


def main() -> int:
    """Measure in each mode, and print a line for each."""
    options = _options()
    configured = default_broker.resolve(settings.load())
    declare(configured, [traced])
    if options.here:
        print(json.dumps(_submits(configured, options.one_by_one, options.drain)))
        return 0
    ratios: dict[tuple[str, str], list[float]] = {}
    for number in range(options.rounds):
        modes = MODES if number % 2 == 0 else MODES[::-1]
        measured = {mode: _measured(configured, mode, options) for mode in modes}
        for mode in MODES:
            shown = ", ".join(f"{name} {value:.1f} µs" for name, value in measured[mode].items())
            print(f"{mode}: {shown}", flush=True)
            for name, value in measured[mode].items():
                ratios.setdefault((mode, name), []).append(value / measured["off"][name])
    for (mode, name), found in ratios.items():
        if mode != "off":
            print(f"{mode}: {name}, ratio {statistics.median(found):.3f} (median)")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--one-by-one", type=int, default=1000, help="submits that are waited for one by one")
    parser.add_argument("--drain", type=int, default=20_000, help="no-op tasks of each drain")
    parser.add_argument("--rounds", type=int, default=3, help="how often each mode is measured")
    parser.add_argument(_HERE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measured(configured: Settings, mode: str, options: argparse.Namespace) -> dict[str, float]:
    environment = {**os.environ, "AMQP_URL": configured.amqp_url, MODE: mode, "PYTHONPATH": str(CHECKOUT)}
    counts = ["--one-by-one", str(options.one_by_one), "--drain", str(options.drain)]
    submitting = [sys.executable, "-m", "benchmarks.traces", _HERE, *counts]
    found: dict[str, float] = json.loads(
        subprocess.run(submitting, env=environment, capture_output=True, check=True).stdout
    )
    long = _drain(environment)
    few = options.drain // 10
    subprocess.run([*submitting[:-3], "0", "--drain", str(few)], env=environment, capture_output=True, check=True)
    return {**found, "task": (long - _drain(environment)) / (options.drain - few) * 1e6}


def _submits(configured: Settings, one_by_one: int, many: int) -> dict[str, float]:
    set_up()
    with Publisher(configured) as publisher:
        began = time.process_time()
        for _ in range(one_by_one):
            publisher.submit(noop)
        between = time.process_time()
        publisher.submit_many("traces.noop", [{}] * (many - one_by_one))
        ended = time.process_time()
    return {
        "submit": (between - began) / max(1, one_by_one) * 1e6,
        "submit of many": (ended - between) / (many - one_by_one) * 1e6,
    }


def _drain(environment: dict[str, str]) -> float:
    """Return the processor seconds that a worker and its children take until the queue is empty."""
    words = ["run", traced.name, "-a", "benchmarks.traces_tasks", "--processes", "2", "--log-level", "error"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "leveret", *words, "--until-empty"], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    sys.exit(main())
