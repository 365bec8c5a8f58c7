"""Sending a few dead messages round again first, and watching them to their end.

Who redrives follows them, as a producer follows what it submits: workers tell it how each attempt ended. That needs no
recorder, and a recorder is told as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reason import task_in
from leveret.producers.dead.redrive import Redriven, redrive
from leveret.producers.dead.wanted import Wanted
from leveret.producers.following.entry import Entry
from leveret.producers.following.replies import Replies
from leveret.topology.events import Event, Kind
from leveret.topology.message import new_id
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status

UNUSABLE_RESULT = "UnusableResult"
"""What a task fails with that is followed, and whose result cannot be told: it has run to its end all the same."""

TellOf = Callable[[str, Kind, Event], None]
"""Is told what happens to each: id, kind and event."""


class Tried(NamedTuple):
    """How it went."""

    redriven: Redriven
    ended: Sequence[Status]
    under_way: Sequence[str]
    """Ids of those that had not ended in time, or of which nothing more can be heard."""

    @property
    def failed(self) -> list[Status]:
        """Those that did not succeed."""
        return [one for one in self.ended if not has_run(one)]


def has_run(status: Status) -> bool:
    """Whether a task has run to its end: also one whose result nobody can be told, which only a follower needs."""
    return status.state is State.SUCCEEDED or (status.failure or {}).get("type") == UNUSABLE_RESULT


async def try_some(
    configured: Settings,
    queue: str,
    wanted: Wanted,
    count: int,
    *,
    to: str = "",
    timeout_seconds: float | None = None,
    on_event: TellOf = lambda _id, _kind, _event: None,
) -> Tried:
    """Redrive so many messages of those that are wanted, and wait until each has succeeded or is dead again.

    Raises as `redrive` does, and where this process cannot be told what becomes of them.
    """
    replies = Replies(configured)
    entries: dict[str, Entry] = {}
    loop = asyncio.get_running_loop()
    all_ended = asyncio.Event()
    have_gone = False

    def look() -> None:
        if have_gone and all(entry.is_over for entry in entries.values()):
            all_ended.set()

    def follow(dead: DeadMessage) -> DeadMessage:
        followed = dead._replace(id=dead.id or new_id())
        entry = entries[str(followed.id)] = replies.expect(str(followed.id), task_in(dead))

        def listen(kind: Kind | None, event: Event) -> None:
            if kind is not None:
                on_event(str(followed.id), kind, event)
            loop.call_soon_threadsafe(look)

        entry.listen(listen)
        followed.properties.reply_to = replies.key
        return followed

    try:
        await replies.open()
        redriven = await redrive(configured, queue, wanted=wanted, most=count, to=to, change=follow)
        went = {str(dead.id) for dead in redriven.messages}
        for task_id in entries.keys() - went:
            del entries[task_id]  # it could not go
        have_gone = True
        look()
        with contextlib.suppress(TimeoutError):  # what has not ended by then is told as under way
            async with asyncio.timeout(timeout_seconds):
                await all_ended.wait()
    finally:
        await replies.close()
    ended = [entry.status for entry in entries.values() if entry.status.state.is_final]
    return Tried(redriven, ended, sorted(entries.keys() - {one.id for one in ended}))
