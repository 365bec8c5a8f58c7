"""How long a look at many workers takes: `python -m benchmarks.info`, or with `--workers 200`.

The workers are answers only: each has the queue, the connection and the room that a worker answers by, and tells of
some processes and tasks, but runs none. So many real ones would keep the machine from looking.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import RabbitMQ
from benchmarks.environment import CHECKOUT
from benchmarks.processes import Process, wait_until
from leveret import Settings, declare
from leveret.consumers.answering.answering import Answering
from leveret.producers.watching.watch import Watch
from leveret.topology import settings
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import connect
from leveret.topology.link.default_broker import resolve
from leveret.topology.queues import WorkQueue

_EACH = 10
"""Workers of one process."""
_LOOKS = 20
_START_TIMEOUT_SECONDS = 60.0
_NO_MANAGEMENT = "http://127.0.0.1:9/"
_QUEUE = "measured"
_CHILDREN = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print one line for each way of looking."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.info", description=__doc__)
    parser.add_argument("--workers", type=int, default=50, metavar="N", help="how many answer (default: 50)")
    parser.add_argument("--answer", nargs=2, metavar=("FIRST", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.answer:
        first, url = options.answer
        asyncio.run(_answer(Settings(amqp_url=url), range(int(first), options.workers)))
        return 0
    configured = resolve(settings.load())
    with RabbitMQ(configured).vhost() as url, tempfile.TemporaryDirectory() as folder:
        queue = WorkQueue(_QUEUE)
        declare(Settings(amqp_url=url), [queue])
        processes = [
            _start(url, first, min(first + _EACH, options.workers), Path(folder))
            for first in range(0, options.workers, _EACH)
        ]
        try:
            _measure(url, configured.management_url, options.workers)
        finally:
            for process in processes:
                process.kill()
    return 0


def _start(url: str, first: int, end: int, folder: Path) -> Process:
    command = [sys.executable, "-m", "benchmarks.info", "--workers", str(end), "--answer", str(first), url]
    return Process(command, {**os.environ, "PYTHONPATH": str(CHECKOUT)}, folder)


def _measure(url: str, management_url: str, workers: int) -> None:
    with_api = Settings(amqp_url=url, management_url=management_url)
    without = Settings(amqp_url=url, management_url=_NO_MANAGEMENT)
    wait_until(lambda: len(_looks(without, 1)[0][1]) == workers or None, _START_TIMEOUT_SECONDS, "all to answer")
    for what, configured in (("with the management API", with_api), ("over AMQP alone", without)):
        looks = _looks(configured, _LOOKS)
        seconds = sorted(one for one, _ in looks)
        seen = {len(found) for _, found in looks}
        print(
            f"{workers} workers, {what}: p50 {statistics.median(seconds):.3f} s, worst {seconds[-1]:.3f} s; "
            f"seen {'/'.join(map(str, sorted(seen)))}"
        )
    environment = {**os.environ, "AMQP_URL": url, "MANAGEMENT_URL": management_url, "PYTHONPATH": str(CHECKOUT)}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "leveret", "info", "--json"], env=environment, capture_output=True, check=True
    )
    seen = {len(json.loads(ended.stdout)["workers"])}
    print(f"leveret info --json, from start to end: {time.monotonic() - began:.3f} s; seen {seen.pop()}")


def _looks(configured: Settings, count: int) -> list[tuple[float, Any]]:
    async def look() -> list[tuple[float, Any]]:
        watch = Watch(configured, ())
        await watch.open()
        found = []
        for _ in range(count):
            began = time.monotonic()
            workers = (await watch.look()).workers
            found.append((time.monotonic() - began, workers))
        await watch.close()
        return found

    return asyncio.run(look())


async def _answer(configured: Settings, numbers: range) -> None:
    """Answer as these workers, for ever."""
    for number in numbers:
        connection = await connect(configured, "leveret benchmark", lambda *_: None)
        name = f"host-{number}:{number}"
        Answering(name, functools.partial(_tell, _told(name, number))).serve(
            functools.partial(open_channel, connection)
        )
    await asyncio.Event().wait()


def _tell(told: dict[str, Any], _most: int) -> dict[str, Any]:
    return told


def _told(name: str, number: int) -> dict[str, Any]:
    """Return what a worker of four busy processes tells."""
    running = [
        {
            "id": f"0198f2c4-1111-7222-8333-{number:06}{child:06}",
            "task": "measured.task",
            "queue": _QUEUE,
            "attempt": 1,
            "of": 5,
            "seconds": 0.5,
            "limit": 1500.0,
            "pid": child,
            "progress": None,
        }
        for child in range(_CHILDREN)
    ]
    queue = {
        "name": _QUEUE,
        "retry_delays": [5.0, 30.0, 120.0, 600.0],
        "prefetch": 8,
        "waiting": 4,
        "running": _CHILDREN,
        "finished": 100,
        "failed": 1,
        "retried": 2,
        "oldest_seconds": 3.0,
        "seconds_each": 0.5,
        "places": 1,
        "paused": None,
    }
    return {
        "version": 1,
        "worker": name,
        "host": f"host-{number}",
        "pid": number,
        "since": time.time(),
        "leveret": "0.1.0",
        "is_stopping": False,
        "processes": {"least": _CHILDREN, "most": _CHILDREN, "now": _CHILDREN, "desired": _CHILDREN},
        "memory_bytes": 90_000_000,
        "window_seconds": 60.0,
        "queues": [queue],
        "queue_count": 1,
        "children": [{"pid": child, "kind": "plain", "running": 1} for child in range(_CHILDREN)],
        "running": running,
        "running_count": _CHILDREN,
    }


if __name__ == "__main__":
    sys.exit(main())
