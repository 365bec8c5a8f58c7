"""The recorder: takes events, writes them, acknowledges them; and answers questions meanwhile.

Its story: open the record, connect, and write batch after batch, each in one transaction before it is acknowledged.
When the connection is lost: connect again. When the record is full or away: try again. When told to stop: leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from typing import Any

from leveret.consumers.log import event
from leveret.consumers.recorder.answers import answer
from leveret.consumers.recorder.intake import MOST_MESSAGES, Batch, Intake
from leveret.consumers.recorder.store import Store, Written
from leveret.consumers.worker import signals
from leveret.topology.errors import RecordUnavailable
from leveret.topology.link.connection import backoff_seconds
from leveret.topology.link.keeping import first_of, keep_working
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.objects import RECORD_MOST_MESSAGES
from leveret.topology.settings import Settings, mask

_NICENESS = 5
"""More than it was started with: where processors are scarce the work comes first, and the record catches up."""
_EXPIRE_EACH_SECONDS = 10.0
_EXPIRE_AT_ONCE = 1_000
_LONGEST_PAUSE_SECONDS = 10.0
_WARN_EACH_SECONDS = 60.0


class Recorder:
    """Runs until it is told to stop."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._stop = asyncio.Event()
        self.counts = Counts()
        self.intake: Intake | None = None
        """What it takes events from at this moment; None while there is no connection."""
        self.writing_since = 0.0
        """Since when the batch at hand is being written, by `time.monotonic`; 0 while none is."""
        self._refused = _Count("events were not believed: a task that has ended does not go on, nor changes its name")
        self._unreadable = _Count("messages of events could not be read")

    async def run(self) -> int:
        """Record; returns the exit status. Raises what the first connection raises; a lost broker is waited for."""
        loop = asyncio.get_running_loop()
        for number in signals.stopping():
            loop.add_signal_handler(number, self._stop.set)
        stopped = loop.create_task(self._stop.wait())
        try:
            await keep_working(
                stopped,
                lambda: Intake(self._settings),
                lambda intake: self._work(intake, stopped),
                lambda text: event(logging.WARNING, text),
            )
        finally:
            stopped.cancel()
        event(logging.INFO, "stopped", recorded=self.counts.events)
        return 0

    async def _work(self, intake: Intake, stopped: asyncio.Task[Any]) -> None:
        self._say_ready(intake)
        loop = asyncio.get_running_loop()
        works = [loop.create_task(one) for one in (self._record(intake), self._answer(intake), self._expire())]
        if self._settings.metrics:
            works.append(loop.create_task(intake.count_waiting()))
        self.intake = intake
        try:
            await first_of(stopped, intake.lost, *works)
            for one in works:
                if one.done():
                    one.result()
        finally:
            self.intake = None
            for one in works:
                one.cancel()  # a batch that is being written is written, and comes again
            await asyncio.gather(*works, return_exceptions=True)

    async def _record(self, intake: Intake) -> None:
        while True:
            batch = await intake.next_batch()
            written = await self._write(batch)
            intake.acknowledge(batch)
            self.counts.add(written)
            self._refused.add(written.refused)
            self._unreadable.add(len(written.unreadable), written.unreadable[0] if written.unreadable else "")
            event(logging.DEBUG, "recorded", messages=len(batch.bodies), events=written.events)

    async def _write(self, batch: Batch) -> Written:
        """Write a batch, again and again while the record cannot be used; that is said once."""
        tries, began = 0, time.monotonic()
        self.writing_since = began
        while True:
            try:
                written = await asyncio.to_thread(self._store.write, batch.bodies)
            except RecordUnavailable as error:
                self.counts.failures += 1
                if not tries:
                    event(logging.ERROR, f"{error}; nothing is lost, trying again until it works")
                await asyncio.sleep(min(_LONGEST_PAUSE_SECONDS, backoff_seconds(tries) * max(1, tries - 3)))
                tries += 1
            else:
                self.writing_since = 0.0
                if tries:
                    event(logging.INFO, f"the record can be used again after {time.monotonic() - began:.1f} s")
                return written

    async def _answer(self, intake: Intake) -> None:
        while True:
            asked = await intake.questions.get()
            await intake.written()
            intake.answer(asked, await asyncio.to_thread(answer, self._store, asked.body))

    async def _expire(self) -> None:
        """Delete what has been kept long enough, a little at a time."""
        while True:
            deleted = _EXPIRE_AT_ONCE
            with contextlib.suppress(RecordUnavailable):  # writing says so
                while deleted == _EXPIRE_AT_ONCE:
                    deleted = await asyncio.to_thread(self._store.expire, _EXPIRE_AT_ONCE)
                    await asyncio.sleep(0.05)  # for others to write between
            await asyncio.sleep(_EXPIRE_EACH_SECONDS)

    def _say_ready(self, intake: Intake) -> None:
        event(logging.INFO, "recording", broker=mask(self._settings.amqp_url), into=self._store.where,
              recorder=host_and_pid(), waiting=intake.waiting)  # fmt: skip
        if intake.waiting > RECORD_MOST_MESSAGES - MOST_MESSAGES:
            event(
                logging.WARNING,
                f"{intake.waiting:,} messages of events wait, which is all that may: older ones may have been dropped",
            )


@dataclass
class Counts:
    """What a recorder has done since it was started."""

    events: int = 0
    refused: int = 0
    unreadable: int = 0
    failures: int = 0
    """How often the record could not be written."""

    def add(self, written: Written) -> None:
        """Count a batch that was written."""
        self.events += written.events
        self.refused += written.refused
        self.unreadable += len(written.unreadable)


class _Count:
    """Something that should not be, said when it happens first and then once a minute at most."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._said_at = float("-inf")

    def add(self, count: int, example: str = "") -> None:
        self._count += count
        if count and time.monotonic() - self._said_at >= _WARN_EACH_SECONDS:
            self._said_at = time.monotonic()
            event(logging.WARNING, f"{self._count} {self._what}" + (f"; the last: {example}" if example else ""))


def record(settings: Settings) -> int:
    """Run a recorder to its end; returns its exit status. Raises `RecordError`, or what connecting raises."""
    os.nice(_NICENESS)
    store = Store(settings)
    try:
        return asyncio.run(_run(settings, store))
    finally:
        store.close()


async def _run(settings: Settings, store: Store) -> int:
    if not settings.metrics:
        return await Recorder(settings, store).run()
    from leveret.consumers.measuring.doors import Doors  # most recorders are asked for nothing over HTTP
    from leveret.consumers.measuring.exposition import metrics_page
    from leveret.consumers.recorder.numbers import collect

    doors = Doors({"metrics": settings.metrics})
    recorder = Recorder(settings, store)
    with doors.serving({"metrics": {"/metrics": metrics_page(lambda: collect(recorder))}}):
        return await recorder.run()
