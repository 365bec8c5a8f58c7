"""Tasks that tell how far they have come, and wait for a word to go on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from leveret import WorkQueue, current_attempt, progress, task, track

steps = WorkQueue("steps", topics=["steps.#"], retry_delays=(0.3,))


@task("steps.plain", queue=steps)
def plain(folder: str) -> None:
    """Tell of half, wait, and tell of the end."""
    progress(1, 2, f"attempt {current_attempt().number}\x1b[2J")
    while not Path(folder, "go").exists():
        time.sleep(0.01)
    progress(2, 2)


@task("steps.async", queue=steps)
async def side_by_side(folder: str, part: int) -> None:
    """Tell of a part from a thread, and wait."""
    await asyncio.to_thread(progress, part, 10)
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)


@task("steps.threads", queue=steps, threads=True)
def in_thread(folder: str, part: int) -> None:
    """Tell of a part, and wait."""
    progress(part, 10)
    while not Path(folder, "go").exists():
        time.sleep(0.01)


@task("steps.many", queue=steps)
def many(count: int) -> int:
    """Go through so many things."""
    return sum(1 for _ in track(range(count)))


@task("steps.kill", queue=steps)
async def kill(folder: str) -> None:
    """Kill the process, when told to."""
    while not Path(folder, "kill").exists():
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
