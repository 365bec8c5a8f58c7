"""What delays cost the broker: `python -m benchmarks.ladder`, with `--quick` a tenth of it; the broker runs here.

cost       the broker's processor time a message: without a delay, and with one of 5 s; from the submit until a bare
           consumer has acknowledged it
back       100,000 messages with a delay of 5 s, as fast as they can be submitted: how long after the last was due all
           are in their work queue
pending    10,000 messages with delays from 1 s to a day, and a worker that waits for them: the memory of both at the
           beginning and after an hour (`--pending-seconds 3600`)
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pika

from benchmarks.brokers import QueueDepth, RabbitMQ
from benchmarks.environment import CHECKOUT
from benchmarks.priority_tasks import BEGAN, plain
from benchmarks.processes import Process, cpu_seconds_of, pss_mib_of, wait_until
from benchmarks.systems import PROCESSES
from leveret import Publisher, Settings, TaskMessage, declare
from leveret.topology import settings
from leveret.topology.access.management import Management
from leveret.topology.apply.declare import declare_ladder
from leveret.topology.link.default_broker import resolve

_COST, _BACK, _PENDING = 20_000, 100_000, 10_000
_DELAY_SECONDS = 5.0
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 86_400.0
_PATIENCE_SECONDS = 600.0
_SETTLE_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks: does it work? Not to compare")
    parser.add_argument("--only", nargs="+", choices=("cost", "back", "pending"), help="only these")
    parser.add_argument("--pending-seconds", type=float, default=60.0, metavar="S", help="how long (default: 60)")
    options = parser.parse_args(arguments)
    part = 10 if options.quick else 1
    configured = resolve(settings.load())
    broker = RabbitMQ(configured)
    pid = wait_until(lambda: _pid(configured), _PATIENCE_SECONDS, "the broker's statistics")
    wanted = options.only or ["cost", "back", "pending"]
    if "cost" in wanted:
        with broker.vhost() as url:
            bare = _cost(url, pid, _COST // part, 0.0)
        with broker.vhost() as url:
            delayed = _cost(url, pid, _COST // part, _DELAY_SECONDS)
        print(
            f"cost     {bare * 1e6:,.0f} µs of the broker a message, {delayed * 1e6:,.0f} with a delay: "
            f"{delayed / bare:.1f} times",
            flush=True,
        )
    if "back" in wanted:
        with broker.vhost() as url:
            count = _BACK // part
            seconds = _back(url, count)
        print(f"back     {count:,} of {_DELAY_SECONDS:g} s are back {seconds:.1f} s after the last was due", flush=True)
    if "pending" in wanted:
        with broker.vhost() as url:
            _pending(url, pid, _PENDING // part, options.pending_seconds)
    return 0


def _pid(configured: Settings) -> int | None:
    """Return the broker's process, which it tells with its first statistics."""
    (node,) = Management(configured, 20.0).call("GET", "nodes")
    return int(node["os_pid"]) if "os_pid" in node else None


def _cost(url: str, pid: int, count: int, delay: float) -> float:
    """Return how many seconds of the broker's processor a message took."""
    configured = _prepared(url)
    time.sleep(_SETTLE_SECONDS)  # what declaring left to do is no cost of a message
    before = cpu_seconds_of(pid)
    _publish(configured, (delay for _ in range(count)))
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=500)
        for took, (method, _, _) in enumerate(channel.consume(plain.name), 1):
            if took % 100 == 0 or took == count:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if took == count:
                break
    return (cpu_seconds_of(pid) - before) / count


def _back(url: str, count: int) -> float:
    """Return how many seconds after the last was due all were in the work queue."""
    configured = _prepared(url)
    depth = QueueDepth(url, plain.name)
    _publish(configured, (_DELAY_SECONDS for _ in range(count)))
    last_due = time.monotonic() + _DELAY_SECONDS
    wait_until(lambda: depth() == count, _PATIENCE_SECONDS, "all to be back")
    seconds = time.monotonic() - last_due
    depth.close()
    return seconds


def _pending(url: str, pid: int, count: int, seconds: float) -> None:
    """Print the memory of the broker and of a worker, once everything waits and after so many seconds."""
    configured = _prepared(url)
    draw = random.Random(1)  # noqa: S311 - the same delays each time
    spread = _LONGEST_SECONDS / _SHORTEST_SECONDS
    command = [sys.executable, "-m", "leveret", "run", plain.name, "-a", "benchmarks.priority_tasks"]
    environment = {**os.environ, "AMQP_URL": url, BEGAN: os.devnull, "PYTHONPATH": str(CHECKOUT)}
    with tempfile.TemporaryDirectory() as folder:
        worker = Process([*command, "--processes", str(PROCESSES)], environment, Path(folder))
        _publish(configured, (_SHORTEST_SECONDS * spread ** draw.random() for _ in range(count)))
        time.sleep(_SETTLE_SECONDS)
        began = pss_mib_of(pid), worker.pss_mib()
        time.sleep(seconds)
        ended = pss_mib_of(pid), worker.pss_mib()
        worker.kill()
    said = [
        f"{what} {first:.1f} and {last:.1f} MiB"
        for what, first, last in zip(("broker", "worker"), began, ended, strict=True)
    ]
    print(f"pending  {count:,} from {_SHORTEST_SECONDS:g} s to a day, {seconds:,.0f} s: {', '.join(said)}", flush=True)


def _prepared(url: str) -> Settings:
    configured = Settings(amqp_url=url)
    declare(configured, [plain])
    declare_ladder(configured)
    return configured


def _publish(configured: Settings, delays: Iterable[float]) -> None:
    task = f"{plain.name}.nothing"
    with Publisher(configured) as publisher:
        messages = (TaskMessage.create(task, due=time.time() + delay if delay else None) for delay in delays)
        for _, error in publisher.publish_many(messages):
            if error:
                raise error


if __name__ == "__main__":
    sys.exit(main())
