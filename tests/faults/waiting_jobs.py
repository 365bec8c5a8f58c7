"""Tasks of the fault matrix that wait, side by side with others of their process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import time
from pathlib import Path

from leveret import task
from tests.faults.logged import faults, logged

_LOOK_SECONDS = 0.25


async def _until_exists(path: str) -> None:
    while not Path(path).exists():
        await asyncio.sleep(_LOOK_SECONDS)


@task("faults.wait", queue=faults)
async def wait(until: str) -> None:
    """Wait for a file."""
    with logged(synced=False):
        await _until_exists(until)


@task("faults.wait_briefly", queue=faults)
async def wait_briefly(seconds: float) -> None:
    """Wait so long."""
    with logged(synced=False):
        await asyncio.sleep(seconds)


@task("faults.crash_beside", queue=faults)
async def crash_beside(once: str) -> None:
    """Read address 0 once a file is there."""
    with logged(synced=False):
        await _until_exists(once)
        ctypes.string_at(0)


@task("faults.block", queue=faults, time_limit=2.0)
async def block(after_seconds: float) -> None:
    """Keep the loop from turning for ever, with a time limit of two seconds."""
    with logged(synced=False):
        await asyncio.sleep(after_seconds)
        time.sleep(3600)


@task("faults.swallow", queue=faults, time_limit=2.0)
async def swallow() -> None:
    """End for nobody who cancels it, with a time limit of two seconds."""
    with logged(synced=False):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
