"""What tasks have logged, as the record has it; a recorder has to run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

from leveret.producers.following.record import open_record
from leveret.topology.link import daemon_thread
from leveret.topology.message import check_id
from leveret.topology.record import Logged
from leveret.topology.settings import Settings


class LogLine(NamedTuple):
    """A line that a task has logged or printed."""

    attempt: int
    at: str
    """A moment of UTC, as in ISO 8601."""
    level: str
    """Of `logging`, in small letters; `stdout` or `stderr` for what was printed."""
    text: str


def lines_of(logged: Logged) -> Iterator[LogLine]:
    """Yield the lines; where one does not say its moment and level, these are empty."""
    for line in logged.lines:
        moment, level, text = (*line.split(" ", 2), "", "")[:3]
        yield LogLine(logged.attempt, moment, level, text)


async def logs_of_async(task_id: str, *, configured: Settings | None = None) -> list[LogLine]:
    """Do as `logs_of` does, awaitable."""
    check_id(task_id)
    async with open_record(configured) as record:
        pages = [page async for _, page in record.logs(str(task_id))]
    return [line for page in pages for logged in page for line in lines_of(logged)]


def logs_of(task_id: str, *, configured: Settings | None = None) -> list[LogLine]:
    """Return what a task has logged and printed so far, in the order in which it was told, of all its attempts.

    Without `configured` the settings of the environment hold. It is empty for an id that nobody knows. Raises
    `NobodyAnswers` where no recorder runs, `QuestionRefused`, `BrokerUnreachable`, `AccessRefused`, or `MessageError`
    for what can be no id.
    """
    return daemon_thread.call(lambda: asyncio.run(logs_of_async(task_id, configured=configured)))
