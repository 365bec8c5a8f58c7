"""Tasks of a queue with priorities, for the tests to run."""

from __future__ import annotations

import time
from pathlib import Path

from leveret import Reject, RetryLater, WorkQueue, current_attempt, task

ranked = WorkQueue("ranked", retry_delays=(0.3, 0.6), fanout=True, priorities=True)
plain = WorkQueue("unranked", topics=("unranked.#",), retry_delays=())


def note(file: str, text: str) -> None:
    """Append a line to a file, in one write."""
    with Path(file).open("a") as opened:
        opened.write(f"{text}\n")


@task("ranked.note", queue=ranked)
def note_level(file: str, level: str, seconds: float = 0) -> None:
    """Tell of which level it is, then take a while."""
    note(file, level)
    time.sleep(seconds)


@task("ranked.note_async", queue=ranked)
async def note_side_by_side(file: str, level: str) -> None:
    """Do so as a coroutine."""
    note(file, level)


@task("unranked.note", queue=plain)
def note_plain(file: str, level: str, seconds: float = 0) -> None:
    """Do so in a queue without priorities."""
    note_level.function(file, level, seconds)


@task("ranked.fail_twice", queue=ranked)
def fail_twice(file: str, level: str) -> None:
    """Fail but in the last attempt, and tell of each."""
    note(file, f"{level} {current_attempt().number}")
    if current_attempt().number < 3:
        raise ValueError("not yet")


@task("ranked.later", queue=ranked)
def later(file: str) -> None:
    """Ask to be run later."""
    note(file, "later")
    raise RetryLater(8, "not now")


@task("ranked.reject", queue=ranked)
def reject() -> None:
    """Say that trying again cannot help."""
    raise Reject("no use")


@task("ranked.wait_for", queue=ranked)
def wait_for(file: str, go: str) -> None:
    """Say that it has started, then wait until a file appears."""
    note(file, "started")
    while not Path(go).exists():
        time.sleep(0.005)
