"""Tasks whose results somebody waits for."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from leveret import Reject, WorkQueue, current_attempt, task

followed = WorkQueue("followed", topics=["followed.#"], retry_delays=(0.3,))
followed_async = WorkQueue("followed-async", topics=["followed-async.#"], retry_delays=(0.3,))


@dataclass
class Receipt:
    """What a task returns that is more than JSON has a word for."""

    at: datetime
    lines: tuple[str, ...]


@task("followed.add", queue=followed)
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@task("followed.add_or_die", queue=followed)
def add_or_die(a: int, b: int, dies: bool = False) -> int:
    """Add; or kill the process in the first attempt."""
    if dies and current_attempt().number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return a + b


@task("followed.add_until", queue=followed)
def add_until(a: int, b: int, path: str = "") -> int:
    """Add, where a path is named not before it exists."""
    while path and not Path(path).exists():
        time.sleep(0.01)
    return a + b


@task("followed.append", queue=followed)
def append(path: str, word: str) -> None:
    """Write a word into a file."""
    with Path(path).open("a") as file:
        file.write(f"{word}\n")


@task("followed-async.add", queue=followed_async)
async def add_async(a: int, b: int) -> int:
    """Add, side by side with others."""
    return a + b


@task("followed.receipt", queue=followed)
def receipt(at: datetime) -> Receipt:
    """Return an object."""
    return Receipt(at + timedelta(hours=1), ("ä", '"'))


@task("followed.fail", queue=followed)
def fail() -> None:
    """Fail in every attempt."""
    raise ValueError("no such mailbox")


@task("followed.fail_once", queue=followed)
def fail_once() -> int:
    """Fail in the first attempt; return the number of the one that did not."""
    if current_attempt().number == 1:
        raise ValueError("the first time")
    return current_attempt().number


@task("followed.reject", queue=followed)
def reject() -> None:
    """Say that trying again cannot help."""
    raise Reject("no use")


@task("followed.odd", queue=followed)
def odd(what: str) -> Any:
    """Return what cannot be told."""
    return {"nan": float("nan"), "object": object(), "key": {1: 2}, "large": "x" * 1_100_000}[what]


@task("followed.wrong", queue=followed)
def wrong() -> int:
    """Return something else than it says."""
    return "three"  # type: ignore[return-value]


@task("followed.always", queue=followed, follow=True)
def always(text: str) -> str:
    """Be followed whatever the message says."""
    return text


@task("followed.wait_for", queue=followed)
def wait_for(path: str) -> str:
    """Wait for a file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return "done"


@task("followed.once", queue=followed)
def once(path: str, megabyte: bool = False) -> int:
    """Count the runs in a file, and return how many there were."""
    with Path(path).open("a") as file:
        file.write(f"{current_attempt().id}\n")
    return len(Path(path).read_text().splitlines())
