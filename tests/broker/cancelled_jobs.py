"""Tasks that are cancelled while they run: those that clean up, those that go on, and those that end before."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import time
from pathlib import Path

from leveret import Cancelled, WorkQueue, task
from tests.broker.waiting_jobs import note, until_exists

plain = WorkQueue("plain", retry_delays=(0.3,))
looped = WorkQueue("looped", retry_delays=(0.3,))
threaded = WorkQueue("threaded", retry_delays=(0.3,))


def wait_for_cancel(folder: str) -> None:
    """Wait, let no `Exception` pass, and clean up."""
    note(folder)
    try:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
    finally:
        (Path(folder) / "cleaned").touch()


def swallow(folder: str) -> None:
    """Go on whatever is raised."""
    note(folder)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


def finish(folder: str) -> str:
    """Take the cancel for a sign to hurry up."""
    note(folder)
    try:
        while True:
            time.sleep(0.01)
    except Cancelled:
        return "in time"


def fail(folder: str) -> None:
    """Raise something else because of it."""
    note(folder)
    try:
        while True:
            time.sleep(0.01)
    finally:
        raise ValueError("while cleaning up")


def hold(folder: str) -> None:
    """Stay in C, where nothing is raised, and let nobody else run."""
    note(folder)
    ctypes.PyDLL(None).sleep(1000)


async def wait_in_loop(folder: str) -> None:
    """Wait, and clean up."""
    note(folder)
    try:
        await asyncio.sleep(1000)
    finally:
        (Path(folder) / "cleaned").touch()


async def swallow_in_loop(folder: str) -> None:
    """Go on whatever is raised."""
    note(folder)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)


async def finish_in_loop(folder: str) -> str:
    """Take the cancel for a sign to hurry up."""
    note(folder)
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        return "in time"
    return "never"


async def fail_in_loop(folder: str) -> None:
    """Raise something else because of it."""
    note(folder)
    try:
        await asyncio.sleep(1000)
    finally:
        raise ValueError("while cleaning up")


async def wait_for_word(folder: str) -> None:
    """Wait for the word to go on."""
    note(folder)
    await until_exists(Path(folder) / "go")


for _function in (wait_for_cancel, swallow, finish, fail, hold):
    task(f"plain.{_function.__name__}", queue=plain, time_limit=60)(_function)
for _function in (wait_for_cancel, swallow, finish, fail):
    task(f"threaded.{_function.__name__}", queue=threaded, threads=True, time_limit=60)(_function)
for _name, _coroutine in (
    ("wait_for_cancel", wait_in_loop),
    ("swallow", swallow_in_loop),
    ("finish", finish_in_loop),
    ("fail", fail_in_loop),
    ("wait_for_word", wait_for_word),
):
    task(f"looped.{_name}", queue=looped, time_limit=60)(_coroutine)


@task("threaded.wait_for_word", queue=threaded, threads=True)
def wait_for_word_in_thread(folder: str) -> None:
    """Wait for the word to go on."""
    note(folder)
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
