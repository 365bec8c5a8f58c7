"""Telling of a task that keeps the event loop of its process, beside which nothing else runs."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from types import FrameType

from leveret.consumers import log
from leveret.consumers.child import running as attempts
from leveret.consumers.child.in_loop import place_of
from leveret.consumers.tasks import attempt

_BEAT_SECONDS = 1.0
_BLOCKED_SECONDS = 5.0


class Watch:
    """Says who keeps the loop from turning while it does, by a signal, for nothing else runs then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_beat: Callable[[], None]) -> None:
        self._loop = loop
        self._on_beat = on_beat
        self._beat: asyncio.TimerHandle | None = None
        signal.signal(signal.SIGALRM, self._on_alarm)

    def begin(self) -> None:
        """Watch from now on, if it does not already."""
        if self._beat is None:
            self._turn()

    def end(self) -> None:
        """Watch no more, for nothing runs."""
        if self._beat:
            self._beat.cancel()
            self._beat = None
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _turn(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, _BLOCKED_SECONDS)
        self._beat = self._loop.call_later(_BEAT_SECONDS, self._turn)
        self._on_beat()

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        running = attempts.current.get()  # a handler runs in the context of what it interrupts
        if running:
            log.event(
                logging.WARNING,
                f"a task has kept the event loop of its process for {_BLOCKED_SECONDS:g} s, and all that run beside it "
                "wait; await what takes long, hand it to asyncio.to_thread, or make it a plain function",
                task=running.task.name,
                id=attempt.current_attempt().id,
                at=place_of(frame),
            )
            log.flush()
