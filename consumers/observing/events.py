"""Telling what happens to tasks while they are not over: best effort, for what is lost of it is only not seen.

How followed tasks end is told by `settling`, which waits until that is confirmed. Here is told that one is tried again,
has begun or has come so far; and, without any text of it, that a task failed for good whom nobody follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from leveret.consumers.child.protocol import Lines
from leveret.consumers.log import event as log_event
from leveret.consumers.settling.closing import MOST_EVENTS, delayed_event, event_of
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import events
from leveret.topology.errors import LeveretError, Nacked, NotRouted
from leveret.topology.events import Kind
from leveret.topology.link.outbox import Outbox
from leveret.topology.link.telling import event_message

_PAUSE_SECONDS = 60.0
"""How long nothing is told after the broker has refused it: each refusal costs the channel."""
_MOST_UNCONFIRMED = 200
"""Messages; while the broker takes none, more are not told, and what is confirmed before an ack finds room."""


_DONE = Verdict.DONE


class Telling:
    """Publishes events that nobody waits for."""

    def __init__(
        self, outbox: Outbox, worker: str, tells_of_others: bool = True, followed: Collection[str] = ()
    ) -> None:
        """`tells_of_others` says whether failures are told that nobody follows.

        `followed` are the names of tasks that are followed whatever their messages say.
        """
        self._outbox = outbox
        self._worker = worker
        self._tells_of_others = tells_of_others
        self._followed = frozenset(followed)
        self._refused_until = 0.0
        self._has_said = False
        self._unconfirmed = 0
        self._together: dict[tuple[Kind, str, str], list[str]] = {}
        self._send_soon: asyncio.Handle | None = None

    def observe(self, batch: Sequence[Settled]) -> None:
        """Tell of what is tried again, and of failures."""
        for delivery, outcome, verdict in batch:
            if verdict is _DONE:  # most are
                continue
            if verdict is Verdict.RETRY:
                if delivery.reply_to:
                    told = event_of(delivery, outcome, Kind.RETRYING)
                    told["next_at"] = told["at"] + delivery.queue.retry_delays[delivery.attempt - 1]
                    self._send(Kind.RETRYING, outcome.task, delivery.reply_to, told)
            elif verdict is Verdict.LATER:
                if delivery.reply_to:
                    self._send(Kind.DELAYED, outcome.task, delivery.reply_to, delayed_event(delivery, outcome))
            elif verdict is Verdict.BURY and not delivery.reply_to and self._tells_of_others:
                told = event_of(delivery, outcome, Kind.FAILED)
                if outcome.failure:
                    told["failure"] = {"type": outcome.failure.type, "fingerprint": outcome.failure.fingerprint}
                self._send(Kind.FAILED, outcome.task, "", told)

            elif verdict is Verdict.CANCEL and not delivery.reply_to:
                self._send(Kind.CANCELLED, outcome.task, "", event_of(delivery, outcome, Kind.CANCELLED))

    def tell(self, kind: Kind, delivery: Delivery, task: str, fields: Mapping[str, Any]) -> None:
        """Tell of a followed delivery that runs; what is told in one turn of the loop travels together."""
        told = events.write_event({**_common(delivery), **fields})
        self._together.setdefault((kind, task, delivery.reply_to), []).append(told)
        if self._send_soon is None:
            self._send_soon = asyncio.get_running_loop().call_soon(self._send_together)

    def _send_together(self) -> None:
        self._send_soon = None
        together, self._together = self._together, {}
        for (kind, task, reply_to), told in together.items():
            for first in range(0, len(told), MOST_EVENTS):
                self._publish(kind, task, reply_to, told[first : first + MOST_EVENTS])

    def tell_lines(self, delivery: Delivery, lines: Lines) -> None:
        """Tell what a followed delivery has logged and printed: at once, so that it comes before how it ended."""
        if delivery.reply_to or lines.task in self._followed:
            at = round(time.time(), 6)  # finer than others: by it the record tells one from another
            told = {**_common(delivery), "at": at, "lines": lines.lines, "dropped": lines.dropped}
            self._send(Kind.LOG, lines.task, delivery.reply_to, told)

    def _send(self, kind: Kind, task: str, reply_to: str, told: events.Event) -> None:
        self._publish(kind, task, reply_to, [events.write_event(told)])

    def _publish(self, kind: Kind, task: str, reply_to: str, told: Sequence[str]) -> None:
        if self._unconfirmed < _MOST_UNCONFIRMED and time.monotonic() >= self._refused_until:
            self._unconfirmed += 1
            body = events.write(kind, task, self._worker, told)
            self._outbox.send(event_message(kind, task, reply_to, body), self._on_published)

    def _on_published(self, error: LeveretError | None) -> None:
        self._unconfirmed -= 1
        if error is None or isinstance(error, (NotRouted, Nacked)):  # nobody listens, or a queue of who does is full
            return
        self._refused_until = time.monotonic() + _PAUSE_SECONDS
        if not self._has_said:
            self._has_said = True
            log_event(
                logging.WARNING, f"what happens to tasks cannot be told: {error}; leveret declare makes the exchange"
            )


def _common(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "at": events.now(),
        "queue": delivery.queue.name,
        "attempt": delivery.attempt,
        "of": delivery.queue.attempts,
    }
