"""Whether a worker lives, as a thread beside its main loop sees it: so a loop that does not turn is seen, too.

A busy worker lives: its children run tasks within their time limits, however long that takes. Stuck is one whose loop
does not turn, whose children begin nothing of what they have or go on past their limits, or that has had no connection
for long. What a worker mends by itself, as it replaces a child that begins nothing, has longer here than that takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leveret.consumers.running.crew import Owing

LOOP_SECONDS = 15.0
"""So long the main loop may not have turned."""
CHILD_SECONDS = 30.0
"""So long a child may make no progress with what it was given, or no child may be there for what waits."""
LINK_SECONDS = 300.0
"""So long there may be no connection to the broker."""
_BEAT_SECONDS = 1.0


class Seen(NamedTuple):
    """What a look at the worker found."""

    is_linked: bool
    owing: Sequence[Owing]
    waiting: int
    """How many deliveries wait for a child."""
    has_children: bool


class Judge:
    """Says by looks that follow each other what is stuck; it is told the time."""

    def __init__(self, now: float) -> None:
        self._linked_at = self._manned_at = now
        self._moved_at: dict[int, tuple[tuple[int, int], float]] = {}

    def judge(self, seen: Seen, now: float) -> str:
        """Return what is stuck; empty when nothing is."""
        if seen.is_linked:
            self._linked_at = now
        if seen.has_children or not seen.waiting:
            self._manned_at = now
        before, self._moved_at = self._moved_at, {}
        for child in seen.owing:
            mark = (child.process, child.ended)
            was, since = before.get(child.slot, (mark, now))
            is_still = was == mark and child.deadline <= now
            self._moved_at[child.slot] = (mark, max(since, child.deadline) if is_still else now)
        for child in seen.owing:
            if (seconds := now - self._moved_at[child.slot][1]) > CHILD_SECONDS:
                what = "goes on past its time limit with one" if child.deadline else "has begun none"
                return f"child process {child.process} {what} of the {child.held} task(s) it has, for {seconds:.0f} s"
        if (seconds := now - self._manned_at) > CHILD_SECONDS:
            return f"no child process is there for {seconds:.0f} s, and {seen.waiting} task(s) wait for one"
        if (seconds := now - self._linked_at) > LINK_SECONDS:
            return f"no connection to the broker for {seconds:.0f} s"
        return ""


class Health:
    """Looks at the worker at each beat of its loop, from when it is made there; `stuck` may be read by any thread."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._loop = asyncio.get_running_loop()
        self._judge = Judge(time.monotonic())
        self._beat()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._timer = self._loop.call_later(_BEAT_SECONDS, self._beat)
        self._found = self._judge.judge(self._look(), self._beaten)

    @property
    def stuck(self) -> str:
        """What is stuck; empty when nothing is."""
        seconds = time.monotonic() - self._beaten
        if seconds > LOOP_SECONDS:
            return f"the main loop has not turned for {seconds:.0f} s"
        return self._found
