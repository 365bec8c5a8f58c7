"""Tasks that take many calls at once. Each batch leaves a line that tells of it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

from leveret import Batch, BatchFailed, Reject, WorkQueue, current_attempts, progress, task

batches = WorkQueue("batches", topics=["batches.#"], retry_delays=(0.3, 0.6))
few = WorkQueue("few-batches", topics=["few.#"], retry_delays=(0.3,), at_once=3)
ranked = WorkQueue("ranked-batches", topics=["ranked-batches.#"], retry_delays=(), priorities=True)


@dataclass
class Row:
    """What a call brings."""

    number: int
    folder: str


def note(rows: list[Row]) -> Path:
    """Leave a line that tells of the batch: its process, then number and attempt of each call."""
    folder = Path(rows[0].folder)
    calls = " ".join(f"{row.number}/{its.number}" for row, its in zip(rows, current_attempts(), strict=True))
    with (folder / "batches").open("a") as file:
        file.write(f"{os.getpid()} {calls}\n")
    return folder


@task("batches.load", queue=batches, batch=Batch(10, within_seconds=0.5))
def load(rows: list[Row]) -> list[int]:
    """Return what each call brought."""
    note(rows)
    return [row.number for row in rows]


@task("batches.slowly", queue=batches, batch=Batch(10, within_seconds=30))
def slowly(rows: list[Row]) -> None:
    """Be gathered for long."""
    note(rows)


@task("batches.later", queue=batches, batch=Batch(5, within_seconds=0.5))
async def later(rows: list[Row]) -> list[int]:
    """Do the same in a loop."""
    note(rows)
    await asyncio.sleep(0)
    return [row.number for row in rows]


@task("batches.fail", queue=batches, batch=Batch(10, within_seconds=0.5))
def fail(rows: list[Row]) -> None:
    """Raise for all."""
    note(rows)
    raise ValueError("none of them")


@task("batches.odd", queue=batches, batch=Batch(10, within_seconds=0.5))
def odd(rows: list[Row]) -> None:
    """Fail for odd numbers, and for good for 9."""
    note(rows)
    errors = {place: Reject("nine") if row.number == 9 else ValueError("odd") for place, row in enumerate(rows)}
    if failed := {place: error for place, error in errors.items() if rows[place].number % 2}:
        raise BatchFailed(failed)


@task("batches.crash", queue=batches, batch=Batch(10, within_seconds=0.5))
def crash(rows: list[Row]) -> None:
    """Read address 0 where one is number 3."""
    note(rows)
    if any(row.number == 3 for row in rows):
        ctypes.string_at(0)


@task("batches.overrun", queue=batches, time_limit=0.3, batch=Batch(10, within_seconds=0.5))
def overrun(rows: list[Row]) -> None:
    """Overrun the time limit."""
    note(rows)
    time.sleep(1000)


@task("batches.wait", queue=batches, batch=Batch(3, within_seconds=0.2))
def wait(rows: list[Row]) -> None:
    """Tell how far it has come, and wait for the word to go on."""
    folder = note(rows)
    progress(1, 2, "waiting")
    while not (folder / "go").exists():
        time.sleep(0.01)


@task("batches.single", queue=batches)
def single(number: int, folder: str) -> None:
    """Be a plain task beside them."""
    with (Path(folder) / "single").open("a") as file:
        file.write(f"{number}\n")


@task("few.load", queue=few, batch=Batch(10, within_seconds=0.5))
def load_few(rows: list[Row]) -> None:
    """Be of a queue that lets few run at a time."""
    note(rows)


@dataclass
class Page:
    """What a call brings that is large."""

    number: int
    folder: str
    text: str


@task("batches.large", queue=batches, batch=Batch(12, within_seconds=0.5))
def large(pages: list[Page]) -> None:
    """Note how many came."""
    note([Row(page.number, page.folder) for page in pages])


@task("ranked-batches.load", queue=ranked, batch=Batch(10, within_seconds=0.5))
def load_ranked(rows: list[Row]) -> None:
    """Be of a queue with priorities."""
    note(rows)
    time.sleep(0.2)
