"""Tasks that run side by side: in one event loop, in threads, and beside plain ones."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import sys
import time
from pathlib import Path

from leveret import WorkQueue, current_attempt, task

waiting = WorkQueue("waiting", topics=["waiting.#"], retry_delays=(0.3, 0.6))
threads = WorkQueue("threads", topics=["threads.#"], retry_delays=(0.3, 0.6))
mixed = WorkQueue("mixed", topics=["mixed.#"], retry_delays=(0.3, 0.6))


def note(folder: str) -> None:
    """Leave a file that tells which attempt began in which process."""
    attempt = current_attempt()
    with (Path(folder) / "began").open("a") as file:
        file.write(f"{attempt.id} {attempt.number} {os.getpid()}\n")


async def until_exists(path: Path) -> None:
    """Wait for a file."""
    while not path.exists():
        await asyncio.sleep(0.01)


@task("waiting.wait", queue=waiting)
async def wait(folder: str) -> None:
    """Say that it has begun, and wait for the word to go on."""
    note(folder)
    await until_exists(Path(folder) / "go")


@task("waiting.few", queue=waiting, concurrency=3)
async def few(folder: str) -> None:
    """Do the same, a few at a time."""
    note(folder)
    await until_exists(Path(folder) / "go")


@task("waiting.brief", queue=waiting)
async def brief(folder: str) -> None:
    """Say that it ran."""
    note(folder)


@task("waiting.crash", queue=waiting)
async def crash(folder: str) -> None:
    """Read address 0 when told to."""
    note(folder)
    await until_exists(Path(folder) / "crash")
    ctypes.string_at(0)


@task("waiting.block", queue=waiting, time_limit=1)
async def block(folder: str) -> None:
    """Keep the loop for ever."""
    note(folder)
    time.sleep(1000)


@task("waiting.hog", queue=waiting)
async def hog(folder: str) -> None:
    """Keep the loop until told otherwise."""
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)


@task("waiting.swallow", queue=waiting, time_limit=0.5)
async def swallow(folder: str) -> None:
    """End for nothing."""
    note(folder)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


@task("waiting.overrun", queue=waiting, time_limit=0.5)
async def overrun(folder: str) -> None:
    """Take too long, and clean up when it is over."""
    note(folder)
    try:
        await asyncio.sleep(1000)
    finally:
        (Path(folder) / "cleaned").touch()


@task("waiting.soft", queue=waiting, time_limit=30, soft_time_limit=0.2)
async def soft(folder: str) -> None:
    """Overrun the soft limit."""
    await asyncio.sleep(1000)


@task("waiting.run", queue=waiting)
async def run() -> None:
    """Start a loop in the loop."""
    asyncio.run(asyncio.sleep(0))


@task("waiting.fork", queue=waiting)
async def fork(folder: str) -> None:
    """Leave the task in a copy of its process, too."""
    note(folder)
    os.fork()


@task("waiting.cancel_all", queue=waiting)
async def cancel_all() -> None:
    """Cancel whatever is in the loop."""
    for one in asyncio.all_tasks() - {asyncio.current_task()}:
        one.cancel()


@task("waiting.exit", queue=waiting)
async def exit_politely() -> None:
    """Raise what ends a program, in a task of the loop."""

    async def leave_program() -> None:
        sys.exit("leaving")

    await asyncio.create_task(leave_program())


@task("waiting.leave", queue=waiting)
async def leave(folder: str) -> None:
    """Leave something behind in the loop."""

    async def linger() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            (Path(folder) / "ended").touch()

    leave.lingering = asyncio.create_task(linger())  # type: ignore[attr-defined]
    await asyncio.sleep(0)


@task("waiting.say", queue=waiting)
async def say(folder: str, word: str) -> None:
    """Print in pieces, and log, in the loop and in a thread that it starts."""

    def in_thread() -> None:
        print(f"{current_attempt().id} again", end=" ")
        logging.getLogger("jobs").warning("in a thread")

    print(f"{word} {current_attempt().id}", end=" ")
    note(folder)
    await until_exists(Path(folder) / "go")
    await asyncio.to_thread(in_thread)
    logging.getLogger("jobs").warning("in the loop")
    print("and that is", end=" ")
    await asyncio.sleep(0.01)
    print("all", end="")


@task("threads.wait", queue=threads, threads=True)
def wait_in_thread(folder: str) -> None:
    """Do what `wait` does, in a thread."""
    note(folder)
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)


@task("threads.soft", queue=threads, threads=True, time_limit=30, soft_time_limit=0.2)
def soft_in_thread(folder: str) -> None:
    """Overrun the soft limit in a thread."""
    note(folder)
    while True:
        time.sleep(0.01)


@task("threads.overrun", queue=threads, threads=True, time_limit=0.3)
def overrun_in_thread(folder: str) -> None:
    """Overrun the limit in a thread, and clean up."""
    note(folder)
    try:
        while True:
            time.sleep(0.01)
    finally:
        (Path(folder) / "cleaned").touch()


@task("threads.hold", queue=threads, threads=True, time_limit=0.3)
def hold_in_thread(folder: str) -> None:
    """Overrun it in C, where no exception comes."""
    note(folder)
    time.sleep(1000)


@task("mixed.compute", queue=mixed, time_limit=60)
def compute(folder: str) -> None:
    """Keep the process busy until told otherwise."""
    note(folder)
    while not (Path(folder) / "go").exists():
        pass


@task("mixed.wait", queue=mixed)
async def wait_beside(folder: str) -> None:
    """Wait until all ten of it have begun."""
    note(folder)
    while (Path(folder) / "began").read_text().count("wait-") < 10:
        await asyncio.sleep(0.01)


@task("mixed.thread", queue=mixed, threads=True)
def thread_beside(folder: str) -> None:
    """Wait until all ten of it have begun."""
    note(folder)
    while (Path(folder) / "began").read_text().count("thread-") < 10:
        time.sleep(0.01)
