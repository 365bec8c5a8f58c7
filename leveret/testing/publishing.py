"""Publishing to queues in this process: what takes the place of a publisher's thread and of its link to the broker.

All that submits ends in a publisher, so its own code runs here, from the checks of a call to what is said when no queue
takes a message. Only its sender is another.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

from leveret.producers import default, not_routed, publisher
from leveret.producers.batch import Batch
from leveret.producers.following import commanding, reserving
from leveret.producers.following.entry import Entry, Listener
from leveret.producers.following.replies import Replies
from leveret.producers.sender import Sender
from leveret.testing.in_process import WORKER, Inline
from leveret.topology import settings
from leveret.topology.errors import LeveretError, PublishError, ResultTimeout
from leveret.topology.events import Event, Kind
from leveret.topology.message import TaskMessage
from leveret.topology.names import REPLY_PREFIX, Route


@contextlib.contextmanager
def inline() -> Iterator[Inline]:
    """Have everything that is submitted meanwhile taken by queues in this process; yields what runs it.

    Raises `SettingsError` when the settings are unusable.
    """
    replies = _Replies()
    configured = settings.load()
    here = Inline(configured.message_limit_bytes, replies.tell)
    replies.here = here
    keys = _Keys(here)
    made: list[_Sender] = []

    def sender(given: settings.Settings) -> _Sender:
        made.append(_Sender(given, here, replies))
        return made[-1]

    of_others = sender(configured)
    with contextlib.ExitStack() as stack:
        stack.callback(here.close)
        put: Callable[..., Any] = lambda *what: stack.enter_context(mock.patch.object(*what))  # noqa: E731
        put(publisher, "Sender", sender)
        put(default, "_default", None)
        put(publisher, "default_broker", SimpleNamespace(resolve=lambda given: given))  # none is looked for
        put(commanding, "send", lambda key, bodies, _configured: here.command(key, bodies))
        put(not_routed, "_bound_keys", lambda *_: None)  # there is no management API to ask
        put(not_routed.MissingQueues, "prepare", lambda *_: None)  # nor a ladder of delays to declare
        for name in ("reserve", "release"):
            put(reserving, name, getattr(keys, name))
            put(reserving, f"{name}_async", getattr(keys, f"{name}_async"))
        # Of publishers that were made before.
        put(Sender, "hand_over", lambda _self, *what: of_others.hand_over(*what))
        put(Sender, "open_replies", lambda _self, seconds: replies)
        put(Sender, "replies", property(lambda _self: replies))
        try:
            yield here
        finally:
            for one in made:
                one.is_over = True


class _Keys:
    """Stands for a recorder where unique tasks are submitted."""

    def __init__(self, here: Inline) -> None:
        self._here = here

    def reserve(self, configured: settings.Settings, message: TaskMessage, key: str, seconds: float | None) -> Any:
        """Reserve a key for a message."""
        holder = self._here.reserve(message.id, key, seconds)
        return reserving.Reservation(configured, key, message.id, "", holder, holder == message.id)

    async def reserve_async(self, *what: Any) -> Any:
        """Do the same."""
        return self.reserve(*what)

    def release(self, reservation: reserving.Reservation, _error: LeveretError) -> None:
        """Free it again: no queue has taken the message."""
        self._here.release(reservation.key)

    async def release_async(self, *what: Any) -> None:
        """Do the same."""
        self.release(*what)


class _Sender(Sender):
    """Hands batches to the queues of the test."""

    def __init__(self, configured: settings.Settings, here: Inline, replies: _Replies) -> None:
        self._settings = configured
        self._pid = os.getpid()
        self._here = here
        self._its_replies = replies
        self.is_over = False

    def hand_over(
        self,
        messages: Sequence[TaskMessage],
        route: Route | None,
        timeout_seconds: float | None = None,
        on_ended: Callable[[], None] | None = None,
        replies: Replies | None = None,
    ) -> Batch:
        """Have the queues take the messages; all is known at once. Raises `PublishError` after the test."""
        if self.is_over:
            raise PublishError("this Publisher was made in a test that ran tasks inline and is over; make a new one")
        batch = Batch(messages, route, self._settings.message_limit_bytes, timeout_seconds, on_ended, replies)
        outbox: Any = self._here
        batch.send(outbox)
        return batch

    @property
    def replies(self) -> Replies:
        """Where results are waited for."""
        return self._its_replies

    def open_replies(self, _timeout_seconds: float | None) -> Replies:
        """Return the same."""
        return self._its_replies

    def close(self, program_ends: bool = False) -> None:
        """There is nothing to wait for, or to close."""


class _Replies(Replies):
    """Knows what is followed in the test."""

    key = f"{REPLY_PREFIX}{WORKER}"
    is_open = True
    here: Inline

    def __init__(self) -> None:
        self._known: dict[str, Entry] = {}

    def expect(self, task_id: str, task: str) -> Entry:
        """Return the entry of a task that is about to be submitted."""
        return self._known.setdefault(task_id, _Entry(task_id, task, self.here))

    def get(self, task_id: str) -> Entry | None:
        """Return the entry of a task that is followed."""
        return self._known.get(task_id)

    def tell(self, task_id: str, kind: Kind, task: str, event: Event) -> None:
        """Tell who waits what has happened."""
        if entry := self._known.get(task_id):
            entry.tell(kind, task, WORKER, event)


class _Entry(Entry):
    """Who waits for its task has it run: nothing else would."""

    __slots__ = ("_here",)

    def __init__(self, task_id: str, task: str, here: Inline) -> None:
        super().__init__(task_id, task)
        self._here = here

    def wait(self, timeout: float | None) -> bool:
        """Run what waits until this is over, at most so many seconds of the test's clock."""
        self._here.run_until(lambda: self.is_over, timeout)
        if timeout is None and not self.is_over:
            raise ResultTimeout(f"task {self.status.task!r} has not ended, and nothing more waits", self.status.id)
        return self.is_over

    def listen(self, listener: Listener) -> None:
        """Run what waits until this is over, and have the listener told of it."""
        super().listen(listener)
        self._here.run_until(lambda: self.is_over)
