"""Tasks that log and print, one of each kind."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from leveret import WorkQueue, task

logging_jobs = WorkQueue("logging", topics=["logging.#"], retry_delays=(0.3,))
_log = logging.getLogger("shop")


def _write(name: str) -> None:
    print(name, "begins")
    _log.warning("%s warns", name)
    print(name, "on stderr", file=sys.stderr)


@task("logging.plain", queue=logging_jobs)
def plain(name: str, path: str) -> None:
    """Write, wait for a file, and write again."""
    _write(name)
    while not Path(path).exists():
        time.sleep(0.01)
    print(name, "ends")


@task("logging.threaded", queue=logging_jobs, threads=True)
def threaded(name: str, path: str) -> None:
    """Do the same beside others in a thread."""
    plain(name, path)


@task("logging.side_by_side", queue=logging_jobs)
async def side_by_side(name: str, path: str) -> None:
    """Do the same beside others in a loop, and in one of its threads."""
    _write(name)
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    await asyncio.to_thread(print, name, "ends")


@task("logging.always", queue=logging_jobs, follow=True)
def always(text: str) -> None:
    """Be followed whatever the message says."""
    print(text)


@task("logging.fails", queue=logging_jobs)
def fails() -> None:
    """Print half a line, and fail."""
    print("before it fails", end="")
    raise ValueError("no such shop")


@task("logging.much", queue=logging_jobs)
def much(lines: int) -> None:
    """Print more than is told of one attempt."""
    for number in range(lines):
        print(f"{number} ", "x" * 1000)


@task("logging.wild", queue=logging_jobs)
def wild(frame: str) -> None:
    """Write to the parent itself, as what has gone wild may."""
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        if descriptor.is_socket():
            os.write(int(descriptor.name), bytes.fromhex(frame))
    time.sleep(5)


@task("logging.late", queue=logging_jobs, soft_time_limit=0.2, time_limit=20)
def late() -> None:
    """Print until the soft time limit ends it."""
    while True:
        print("x" * 50)
