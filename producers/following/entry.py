"""What this process knows of a task that it follows; told by one thread, waited for by any."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace

from leveret.topology.events import CLOSING, Event, Kind
from leveret.topology.status import State, Status, advance

_LONGEST_HISTORY = 1000

Listener = Callable[[Kind | None, Event], None]
"""Is told each event; None and nothing when none may come any more. It may be told of the end twice."""


class Entry:
    """A task that is followed here. It lives as long as somebody holds it."""

    __slots__ = ("__weakref__", "_history", "_listeners", "_pid", "missed_because", "status")

    def __init__(self, task_id: str, task: str) -> None:
        self.status = Status(task_id, task=task)
        self.missed_because = ""
        """Why what became of it may never be told here."""
        self._listeners: list[Listener] = []
        self._history: list[tuple[Kind, Event]] = []
        self._pid = os.getpid()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.status.state.is_final or bool(self.missed_because)

    @property
    def is_deaf(self) -> bool:
        """Whether it is a copy that a fork has made before the end, which nobody tells anything."""
        return not self.is_over and self._pid != os.getpid()

    def tell_submitted(self, at: float) -> None:
        """Note that the broker has confirmed it; its first events may have come before that."""
        status = self.status
        if status.state is State.UNKNOWN:  # so nothing else is known; `replace` would take three times as long
            self.status = Status(status.id, State.SUBMITTED, status.task, times={State.SUBMITTED: at})
        elif State.SUBMITTED not in status.times:
            self.status = replace(status, times={State.SUBMITTED: at, **status.times})

    def tell(self, kind: Kind, task: str, worker: str, event: Event) -> None:
        """Take in an event."""
        status = self.status
        if not task:  # of a message in which nobody could read it
            task = status.task
        after = advance(status, kind, task, worker, event)
        if after is None or (after is status and kind is not Kind.LOG):
            return
        self.status, self.missed_because = after, ""
        if kind is Kind.PROGRESS and self._history and self._history[-1][0] is kind:
            self._history[-1] = kind, event
        elif len(self._history) < _LONGEST_HISTORY or kind in CLOSING:
            self._history.append((kind, event))
        for listener in tuple(self._listeners):
            listener(kind, event)

    def tell_missed(self, why: str) -> None:
        """Note that its end may have been told without having come here."""
        if not self.status.state.is_final:
            self.missed_because = why
            for listener in tuple(self._listeners):
                listener(None, {})

    def listen(self, listener: Listener) -> None:
        """Have the listener told of everything from now on. Look at the entry after that, for it may be over."""
        self._listeners.append(listener)

    @property
    def history(self) -> list[tuple[Kind, Event]]:
        """What was told so far; of progress that follows progress only the last."""
        return list(self._history)

    def leave(self, listener: Listener) -> None:
        """Tell the listener nothing more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def wait(self, timeout: float | None) -> bool:
        """Wait until it is over, at most so many seconds; returns whether it is.

        A signal handler that runs meanwhile may wait, too: with an Event it could hold a lock that who tells needs.
        """
        if self.is_over:
            return True
        over = threading.Lock()
        over.acquire()

        def on_event(_kind: Kind | None, _event: Event) -> None:
            if self.is_over and over.locked():
                over.release()

        self.listen(on_event)
        try:
            return self.is_over or over.acquire(timeout=-1 if timeout is None else timeout)
        finally:
            self.leave(on_event)
