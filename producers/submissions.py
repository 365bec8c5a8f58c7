"""Telling who records or listens what was submitted: what waits for its result, together with what follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from leveret.topology import events
from leveret.topology.errors import LeveretError
from leveret.topology.events import Kind
from leveret.topology.link.outbox import Outbox
from leveret.topology.link.telling import event_message
from leveret.topology.message import TaskMessage
from leveret.topology.names import Route

_MOST_TOLD = 500  # events in a message
_HOLD_SECONDS = 0.02
"""So long what was submitted waits for what follows it: too short to be noticed, long enough for a busy program."""


class Submissions:
    """Publishes an event for each followed task that was confirmed. Nobody waits for that: the tasks' own follow."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._confirmed: dict[tuple[Kind, str], list[str]] = {}  # events by kind and task
        self._tell_later: asyncio.TimerHandle | None = None
        self._is_closing = False

    def add(self, confirmed: Iterable[tuple[TaskMessage, Route]]) -> None:
        """Take messages that the broker has confirmed just now, each with its route.

        What is only recorded is told at once: who submits that may end without a word, as forked processes do.
        """
        at, is_urgent = events.now(), self._is_closing
        for message, (exchange, key) in confirmed:
            event = {"id": message.id, "at": at, "exchange": exchange, "routing_key": key}
            self._confirmed.setdefault((Kind.SUBMITTED, message.task), []).append(events.write_event(event))
            if message.due is not None:
                event = delayed_event(message.id, message.due)
                self._confirmed.setdefault((Kind.DELAYED, message.task), []).append(events.write_event(event))
            is_urgent = is_urgent or message.follow is not True
        if is_urgent:
            self._tell()
        elif self._tell_later is None:
            self._tell_later = asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._tell)

    def close(self) -> None:
        """Hold nothing from now on, for the outbox closes as soon as it is empty."""
        self._is_closing = True
        self._tell()

    def _tell(self) -> None:
        if self._tell_later:
            self._tell_later.cancel()
            self._tell_later = None
        confirmed, self._confirmed = self._confirmed, {}
        for (kind, task), told in confirmed.items():
            for start in range(0, len(told), _MOST_TOLD):
                body = events.write(kind, task, "", told[start : start + _MOST_TOLD])
                self._outbox.send(event_message(kind, task, "", body), _ignore)


def delayed_event(task_id: str, due: float) -> events.Event:
    """Return what is told of a task that is to run at a time, in seconds of the epoch."""
    return {"id": task_id, "at": events.now(), "until": round(due, 3)}


def _ignore(_error: LeveretError | None) -> None:
    """Whether anybody has heard it makes no difference."""
