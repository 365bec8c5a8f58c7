"""Unique tasks: a key is reserved with the recorder before the message is published.

First the key, then the message: so of many who submit at once one publishes, and the others learn its id. A key whose
message was surely not taken is released; where nobody knows, it stays.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from leveret.producers.following.record import open_record
from leveret.topology.errors import LeveretError, MessageError, Nacked, NotRouted, Unwritable
from leveret.topology.link import daemon_thread
from leveret.topology.message import TaskMessage
from leveret.topology.printable import printable
from leveret.topology.settings import Settings

_SURELY_NOT_TAKEN = (NotRouted, Nacked, Unwritable, MessageError)
"""Of any other error of publishing it is not known whether the broker has the message, as after a lost link."""


@dataclass(frozen=True)
class Reservation:
    """A key that was asked for, and the id of the task that holds it."""

    settings: Settings
    key: str
    task_id: str
    token: str
    holder: str
    is_new: bool
    """Whether it is reserved for this task, which is to be published now."""


async def reserve_async(settings: Settings, message: TaskMessage, key: str, seconds: float | None) -> Reservation:
    """Reserve a key for a message that is about to be published; where another task holds it, say which.

    Raises `NobodyAnswers` when no recorder does within 2 s, `QuestionRefused`, `BrokerUnreachable` or `AccessRefused`:
    then nothing is to be published.
    """
    token = secrets.token_hex(16)
    try:
        async with open_record(settings) as record:
            holder, is_new = await record.reserve(key, message.id, token, seconds)
    except LeveretError as error:
        text = (
            f"task {message.task!r} was not submitted, for its key {key!r} could not be reserved: {error}; submit it "
            f"again, under the same id: options(id={message.id!r}, unique=…)"
        )
        raise type(error)(text) from error
    return Reservation(settings, key, message.id, token, holder, is_new)


def reserve(settings: Settings, message: TaskMessage, key: str, seconds: float | None) -> Reservation:
    """Do as `reserve_async` does, blocking."""
    return daemon_thread.call(lambda: asyncio.run(reserve_async(settings, message, key, seconds)))


async def release_async(reservation: Reservation, error: LeveretError) -> None:
    """Free a key again if this error says that its message was surely not taken."""
    if not isinstance(error, _SURELY_NOT_TAKEN):
        return
    try:
        async with open_record(reservation.settings) as record:
            await record.release(reservation.key, reservation.task_id, reservation.token)
    except LeveretError as unheard:
        error.add_note(f"its key {reservation.key!r} stays reserved until its time is over: {printable(str(unheard))}")


def release(reservation: Reservation, error: LeveretError) -> None:
    """Do as `release_async` does, blocking."""
    daemon_thread.call(lambda: asyncio.run(release_async(reservation, error)))
