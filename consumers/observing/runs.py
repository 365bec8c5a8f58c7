"""What is told of followed tasks while they run: that they have begun, and how far they have come.

A delivery that nobody follows is asked for that once, when it is first seen to run, and never again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from leveret.consumers.child.board import Begun, Board, Progress
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.names import RECORD_QUEUE

_MOMENT_SECONDS = 0.05
"""Of what ends sooner nobody is told that it has begun: how it ended is told at once."""
_LOOK_SECONDS = 0.25
"""So often the progress of each task is looked at, and told where it is another."""

Tell = Callable[[Kind, Delivery, str, Mapping[str, Any]], None]


class _Run:
    """What is known of a delivery that runs."""

    __slots__ = ("begun", "is_told", "look_at", "progress")

    def __init__(self, begun: Begun) -> None:
        self.begun = begun
        self.is_told = False
        self.look_at = begun.started + _MOMENT_SECONDS
        self.progress: Progress | None = None


class Runs:
    """Tells of what runs, by looks at the board. `followed` are the names of tasks that always are."""

    def __init__(self, board: Board, tell: Tell, followed: Collection[str] = ()) -> None:
        self._board = board
        self._tell = tell
        self._followed = frozenset(followed)
        self._runs: dict[Delivery, _Run] = {}

    def on_started(self, delivery: Delivery, begun: Begun) -> None:
        """Learn that a delivery runs; one that has ended already has no slot."""
        if not delivery.reply_to:
            if begun.task not in self._followed:
                return
            delivery.reply_to = RECORD_QUEUE
        if begun.slot >= 0:
            self._runs[delivery] = _Run(begun)

    def on_look(self) -> None:
        """Tell what is new. To be called again and again while anything runs."""
        if not self._runs:
            return
        now = time.monotonic()
        for delivery, run in self._runs.items():
            if run.look_at <= now:
                run.look_at = now + _LOOK_SECONDS
                self._look(delivery, run, now)

    def observe(self, batch: Sequence[Settled]) -> None:
        """Learn what has ended."""
        if self._runs:
            for settled in batch:
                self._runs.pop(settled.delivery, None)

    def _look(self, delivery: Delivery, run: _Run, now: float) -> None:
        begun = run.begun
        if not run.is_told:
            run.is_told = True
            began = round(events.now() - (now - begun.started), 3)
            self._tell(Kind.STARTED, delivery, begun.task, {"at": began, "child": begun.pid})
        progress = self._board.read_progress(begun)
        if progress and progress != run.progress:
            run.progress = progress
            self._tell(Kind.PROGRESS, delivery, begun.task, _fields_of(progress))


def _fields_of(progress: Progress) -> dict[str, Any]:
    fields: dict[str, Any] = {"done": progress.done}
    if progress.total is not None:
        fields["total"] = progress.total
    if progress.note:
        fields["note"] = progress.note
    return fields
