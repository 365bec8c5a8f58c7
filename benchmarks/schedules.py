"""How late schedules fire: many of one second each, for a while, beside other schedulers.

    python -m benchmarks.schedules                         200 schedules for 60 s, in virtual hosts of their own
    python -m benchmarks.schedules --only leveret celery   these of them

Each system's own scheduler runs in a process of its own; this one takes what it sends, and notes when. How late a fire
is counts from where it belongs: whole seconds for leveret, which promises them; for the others from the part of the
second at which a schedule's fires begin, so that its first one is not held against it. Who drifts fires less often.
Peers are installed into .venv-bench.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pika

from benchmarks import environment
from benchmarks.brokers import RabbitMQ
from leveret import Route, Settings
from leveret.topology import settings
from leveret.topology.link import default_broker
from leveret.topology.settings import CHECKOUT

QUEUE = "bench-schedules"
_WARM_SECONDS = 10.0
_NUMBER = re.compile(rb"number-(\d+)")
Arrivals = Mapping[int, list[float]]
Take = Callable[[Settings, float, float], Arrivals]


def main() -> int:
    """Measure, and print a line for each system."""
    options = _options()
    resolved = default_broker.resolve(settings.load())
    rabbitmq = RabbitMQ(resolved)
    for name in options.only or _SYSTEMS:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, contextlib.ExitStack() as stack:
            configured = dataclasses.replace(resolved, amqp_url=stack.enter_context(rabbitmq.vhost()))
            try:
                command, take, promised = _SYSTEMS[name](configured, Path(folder), options.schedules, stack)
            except _LeftOut as why:
                print(f"{name:<12} left out: {why}", flush=True)
                continue
            told = {**os.environ, "AMQP_URL": configured.amqp_url, "PYTHONPATH": str(CHECKOUT)}
            told |= {"BENCH_SCHEDULES": str(options.schedules), "BENCH_QUEUE": QUEUE}
            with (Path(folder) / "log").open("wb") as log:
                process = subprocess.Popen(command, cwd=folder, env=told, stdout=log, stderr=log)
            try:
                arrivals = take(configured, _WARM_SECONDS, options.seconds)
            finally:
                process.terminate()
                process.wait()
            _tell(name, arrivals, promised, options)
    return 0


class _LeftOut(Exception):
    """A system cannot be measured here."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    parser.add_argument("--schedules", type=int, default=200, help="how many, of one second each")
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long")
    parser.add_argument("--only", nargs="+", choices=list(_SYSTEMS), help="these systems")
    return parser.parse_args()


def _leveret(configured: Settings, folder: Path, count: int, _stack: contextlib.ExitStack) -> tuple[Any, ...]:
    _declare(configured)
    lines = ((f"[schedules.number-{number}]", f'task = "bench"\nargs = ["number-{number}"]') for number in range(count))
    text = "".join(f'{head}\n{task}\nqueue = "{QUEUE}"\nevery = "1s"\n' for head, task in lines)
    (folder / "leveret.toml").write_text(text, encoding="utf-8")
    return [sys.executable, "-m", "leveret", "schedule", "--log-level", "warning"], _from_queue, True


def _celery(configured: Settings, folder: Path, _count: int, _stack: contextlib.ExitStack) -> tuple[Any, ...]:
    _declare(configured)
    command = "-m celery -A benchmarks.peers.schedules_celery beat --loglevel WARNING --schedule"
    return [_python("celery"), *command.split(), str(folder / "beat")], _from_queue, False


def _apscheduler(configured: Settings, _folder: Path, _count: int, _stack: contextlib.ExitStack) -> tuple[Any, ...]:
    _declare(configured)
    return [_python("apscheduler>=3.10,<4", "pika"), "-m", "benchmarks.peers.schedules_apscheduler"], _from_queue, False


def _rq(_configured: Settings, folder: Path, _count: int, stack: contextlib.ExitStack) -> tuple[Any, ...]:
    if not (server := shutil.which("redis-server")):
        raise _LeftOut("no redis-server is installed")
    python = _python("rq", "redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    redis = subprocess.Popen(
        [server, "--port", str(port), "--dir", str(folder), "--save", ""], stdout=subprocess.DEVNULL
    )
    stack.callback(redis.wait)
    stack.callback(redis.terminate)
    url = f"redis://127.0.0.1:{port}"
    command = [str(Path(python).parent / "rq"), "cron", "benchmarks.peers.schedules_rq", "--url", url]

    def take(_settings: Settings, warm: float, seconds: float) -> Arrivals:
        said = subprocess.run(
            [python, "-m", "benchmarks.peers.schedules_rq", url, str(warm), str(seconds)],
            cwd=CHECKOUT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        arrivals: defaultdict[int, list[float]] = defaultdict(list)
        for number, at in (line.split() for line in said.splitlines()):
            arrivals[int(number)].append(float(at))
        return arrivals

    return [*command, "--logging-level", "WARNING"], take, False


_SYSTEMS: dict[str, Callable[[Settings, Path, int, contextlib.ExitStack], tuple[Any, ...]]] = {
    "leveret": _leveret,
    "celery": _celery,
    "apscheduler": _apscheduler,
    "rq": _rq,
}


def _python(*requirements: str) -> str:
    try:
        environment.make(_say)
        environment.install(requirements, _say)
    except environment.CannotInstall as error:
        raise _LeftOut(str(error)) from error
    return str(environment.python())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _channel(configured: Settings) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(configured.first_amqp_url)) as connection:
        yield connection.channel()


def _declare(configured: Settings) -> None:
    """Have a queue, as a work queue is."""
    with _channel(configured) as channel:
        channel.exchange_declare(Route.direct(QUEUE).exchange, "direct", durable=True)
        channel.queue_declare(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(QUEUE, *Route.direct(QUEUE))


def _from_queue(configured: Settings, warm: float, seconds: float) -> Arrivals:
    """Take what comes, and return when each came, but for the first seconds."""
    arrivals: defaultdict[int, list[float]] = defaultdict(list)
    begin = time.time() + warm
    with pika.BlockingConnection(pika.URLParameters(configured.first_amqp_url)) as connection:
        channel = connection.channel()

        def on_message(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
            now = time.time()
            if begin <= now < begin + seconds and (found := _NUMBER.search(body)):
                arrivals[int(found[1])].append(now)

        channel.basic_consume(QUEUE, on_message, auto_ack=True)
        while time.time() < begin + seconds + 1.0:
            connection.process_data_events(0.1)
    return arrivals


def late(arrivals: list[float], is_promised: bool) -> list[float]:
    """Return how late each of a schedule's fires was, in seconds."""
    place = 0.0
    if not is_promised:
        parts = sorted(at % 1.0 for at in arrivals)
        gaps = [(part - before) % 1.0 for before, part in zip([parts[-1], *parts], parts, strict=False)]
        place = parts[max(range(len(gaps)), key=gaps.__getitem__)]  # after the widest gap
    return [(at - place) % 1.0 for at in arrivals]


def _tell(name: str, arrivals: Arrivals, is_promised: bool, options: argparse.Namespace) -> None:
    seconds = [one for each in arrivals.values() for one in late(each, is_promised)]
    if len(seconds) < 2:
        print(f"{name:<12} fired nothing", flush=True)
        return
    parts = statistics.quantiles([one * 1000 for one in seconds], n=100, method="inclusive")
    wanted = options.schedules * options.seconds
    print(
        f"{name:<12} {len(seconds):>6} of {wanted:.0f} fires  late p50 {parts[49]:.1f} ms  p99 {parts[98]:.1f} ms  "
        f"most {max(seconds) * 1000:.1f} ms",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
