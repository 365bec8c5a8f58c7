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

    __slots__ = (
        "__weakref__",
        "_history",
        "_id",
        "_listeners",
        "_pid",
        "_status",
        "_submitted",
        "_worker",
        "missed_because",
        "success",
        "task",
    )

    def __init__(self, task_id: str, task: str) -> None:
        self.task = task
        self.missed_because = ""
        """Why what became of it may never be told here."""
        self.success: Event | None = None
        """The event of its success, where nothing else was told of it, as is so of most."""
        self._id = task_id
        self._worker = ""  # who told of that
        self._submitted: float | None = None
        self._status: Status | None = None  # once something else was told, and changed by the thread that tells alone
        self._listeners: list[Listener] = []
        self._history: list[tuple[Kind, Event]] = []
        self._pid = os.getpid()

    @classmethod
    def of(cls, status: Status) -> Entry:
        """Make one of which this is known."""
        entry = cls(status.id, status.task)
        entry._status = status
        return entry

    @property
    def status(self) -> Status:
        """What is known of it."""
        if self._status is not None:
            return self._status
        at, success = self._submitted, self.success
        status = Status(self._id, task=self.task)
        if at is not None:
            status = replace(status, state=State.SUBMITTED, times={State.SUBMITTED: at})
        if success is not None:
            status = advance(status, Kind.SUCCEEDED, self.task, self._worker, success) or status
        return status

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self._has_ended or bool(self.missed_because)

    @property
    def _has_ended(self) -> bool:
        return self.success is not None or (self._status is not None and self._status.state.is_final)

    @property
    def is_deaf(self) -> bool:
        """Whether it is a copy that a fork has made before the end, which nobody tells anything."""
        return not self.is_over and self._pid != os.getpid()

    def tell_submitted(self, at: float) -> None:
        """Note that the broker has confirmed it; its first events may have come before that."""
        self._submitted = at
        if (status := self._status) and State.SUBMITTED not in status.times:
            self._status = replace(status, times={State.SUBMITTED: at, **status.times})

    def tell(self, kind: Kind, task: str, worker: str, event: Event) -> None:
        """Take in an event."""
        if kind is Kind.SUCCEEDED and self._status is None and self.success is None and task == self.task:
            self._worker = worker
            self.success, self.missed_because = event, ""
        else:
            status = self.status
            if not task:  # of a message in which nobody could read it
                task = status.task
            after = advance(status, kind, task, worker, event)
            if after is None or (after is status and kind is not Kind.LOG):
                return
            if after is not status:
                self._status = after
            self.missed_because = ""
        if kind is Kind.PROGRESS and self._history and self._history[-1][0] is kind:
            self._history[-1] = kind, event
        elif len(self._history) < _LONGEST_HISTORY or kind in CLOSING:
            self._history.append((kind, event))
        for listener in tuple(self._listeners):
            listener(kind, event)

    def tell_missed(self, why: str) -> None:
        """Note that its end may have been told without having come here."""
        if not self._has_ended:
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
