"""Tasks that end in every way a task can end, for the tests to run."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from leveret import Reject, WorkQueue, current_attempt, task

jobs = WorkQueue("jobs", topics=("jobs.#",), retry_delays=(0.3, 0.6), fanout=True)


@task("jobs.write", queue=jobs)
def write(path: str) -> None:
    """Append a line with the attempt to a file, in one write."""
    attempt = current_attempt()
    with Path(path).open("a") as file:
        file.write(f"{attempt.id} {attempt.number} {os.getpid()}\n")


@task("jobs.fail", queue=jobs)
def fail(text: str = "boom") -> None:
    """Raise."""
    raise ValueError(text)


@task("jobs.fail_once", queue=jobs)
def fail_once() -> None:
    """Raise on the first attempt only."""
    if current_attempt().number == 1:
        raise ValueError("the first time")


@task("jobs.reject", queue=jobs)
def reject() -> None:
    """Say that trying again cannot help."""
    raise Reject("no use")


@task("jobs.never", queue=jobs, never=(LookupError,))
def never() -> None:
    """Raise what is never worth another attempt."""
    raise KeyError("final")


@task("jobs.exit", queue=jobs)
def exit_process(status: int = 7) -> None:
    """End the process under the worker's feet."""
    os._exit(status)


@task("jobs.crash", queue=jobs)
def crash() -> None:
    """Read address 0: a segmentation fault."""
    ctypes.string_at(0)


@task("jobs.sys_exit", queue=jobs)
def sys_exit() -> None:
    """Leave politely, which a task should not."""
    sys.exit("leaving")


@task("jobs.loop", queue=jobs, time_limit=0.5)
def loop() -> None:
    """Never end."""
    while True:
        pass


@task("jobs.soft", queue=jobs, time_limit=30, soft_time_limit=0.2)
def soft() -> None:
    """Overrun the soft time limit."""
    time.sleep(20)


@task("jobs.hold_gil", queue=jobs)
def hold_gil(seconds: int) -> None:
    """Sleep in C without letting go of the GIL."""
    ctypes.PyDLL(None).sleep(seconds)


@task("jobs.wait_for", queue=jobs)
def wait_for(path: str, started: str) -> None:
    """Say that it has started, then wait until a file appears."""
    Path(started).write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)


@task("jobs.later_write", queue=jobs)
async def later_write(path: str) -> None:
    """Do what `write` does, as a coroutine."""
    await asyncio.sleep(0)
    write(path)


@task("jobs.leave_behind", queue=jobs, time_limit=0.5)
def leave_behind(pid_file: str) -> None:
    """Start a process that outlives the task, and never end."""
    with Path(pid_file).open("a") as file:
        file.write(f"{subprocess.Popen(['sleep', '1000']).pid}\n")
    while True:
        time.sleep(1)
