"""The keys of unique tasks: each is reserved for one task, and free again when that has ended, or its time is over.

Whether a task has ended is for its row to say, so that writing events costs nothing more for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from sqlalchemy import text

from leveret.consumers.recorder.rows import OF_IDS, ids_of
from leveret.topology.errors import QuestionRefused
from leveret.topology.message.keys import UNKNOWN_TASK_SECONDS
from leveret.topology.status import State

if TYPE_CHECKING:
    from leveret.consumers.recorder.store import Store

MOST_KEYS = 1_000_000
_FREED_AT_ONCE = frozenset({State.FAILED, State.CANCELLED})
_INSERT = text(
    """INSERT INTO leveret_unique (name, id, token, until, lasts) VALUES (:key, :id, :token, :until, :lasts)
    ON CONFLICT (name) DO NOTHING"""
)
_HOLDER = text(
    """SELECT reserved.id, until, lasts, state FROM leveret_unique AS reserved
    LEFT JOIN leveret_tasks ON leveret_tasks.id = reserved.id WHERE name = :key"""
)
_TAKE_OVER = text(
    """UPDATE leveret_unique SET id = :id, token = :token, until = :until, lasts = :lasts
    WHERE name = :key AND id = :holder"""
)
_RELEASE = text(
    """DELETE FROM leveret_unique WHERE name = :key AND id = :id AND token = :token
    AND NOT EXISTS (SELECT 1 FROM leveret_tasks WHERE leveret_tasks.id = leveret_unique.id)"""
)
_FORGET = text(f"DELETE FROM leveret_unique WHERE {OF_IDS} AND lasts <= :lasts")  # noqa: S608 - nobody's text
_EXPIRE = text(
    """DELETE FROM leveret_unique WHERE name IN (
        SELECT name FROM leveret_unique AS reserved LEFT JOIN leveret_tasks ON leveret_tasks.id = reserved.id
        WHERE until < :now AND (lasts = 1 OR state IS NULL) ORDER BY until LIMIT :most)"""
)
_COUNT = text("SELECT count(*) FROM leveret_unique")


class Wanted(NamedTuple):
    """A key, the task it is to be reserved for, and the secret of who asks."""

    key: str
    id: str
    token: str


def reserve(store: Store, wanted: Wanted, seconds: float | None) -> tuple[str, bool]:
    """Reserve a key unless a task holds it; returns the one that does, and whether nothing was known of it before.

    With `seconds` it holds for so long, else until it has ended; in both cases until it has failed for good or was
    cancelled. Raises `RecordUnavailable`, and `QuestionRefused` where there are too many keys.
    """
    now = time.time()
    until = now + (UNKNOWN_TASK_SECONDS if seconds is None else seconds)
    row = {**wanted._asdict(), "until": until, "lasts": int(seconds is not None)}
    with store.writing() as connection:
        while True:
            holder = connection.execute(_HOLDER, {"key": wanted.key}).one_or_none()
            if holder is None:
                if not store.has_room_for_keys:
                    raise QuestionRefused(f"{MOST_KEYS:,} keys are reserved, and no more can be; wait for some to end")
                if connection.execute(_INSERT, row).rowcount:
                    return wanted.id, True
            elif holder.state is not None and holder.id == wanted.id:
                return wanted.id, False
            elif holder.id != wanted.id and _holds(holder, now):
                return str(holder.id), False
            elif connection.execute(_TAKE_OVER, {**row, "holder": holder.id}).rowcount:
                return wanted.id, True


def release(store: Store, wanted: Wanted) -> bool:
    """Free a key whose task was never submitted; returns whether that is so. Raises `RecordUnavailable`."""
    with store.writing() as connection:
        return bool(connection.execute(_RELEASE, wanted._asdict()).rowcount)


def forget_tasks(connection: sqlalchemy.Connection, ids: Sequence[str], state: State) -> None:
    """Free the keys of tasks that are forgotten in this state, but those whose time is not over though it succeeded."""
    connection.execute(_FORGET, {**ids_of(ids), "lasts": int(state in _FREED_AT_ONCE)})


def expire(connection: sqlalchemy.Connection, now: float, most: int) -> bool:
    """Free at most so many keys whose time is over; returns whether there is room for more."""
    connection.execute(_EXPIRE, {"now": now, "most": most})
    return int(connection.execute(_COUNT).scalar_one()) < MOST_KEYS


def _holds(holder: Any, now: float) -> bool:
    if holder.state is None:
        return bool(now < holder.until)
    state = State(holder.state)
    if state in _FREED_AT_ONCE:
        return False
    return bool(now < holder.until) if holder.lasts else not state.is_final
