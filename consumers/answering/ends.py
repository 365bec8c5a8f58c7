"""How many deliveries of each queue have ended in the last minute, and how."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict

WINDOW_SECONDS = 60.0
_SLOT_SECONDS = 5.0
_SLOTS = int(WINDOW_SECONDS / _SLOT_SECONDS)
_DONE, _RETRY, _BURY = Verdict.DONE, Verdict.RETRY, Verdict.BURY


class Counts(NamedTuple):
    """How many of each queue have succeeded, are tried again, and have failed for good."""

    finished: dict[str, int]
    retried: dict[str, int]
    failed: dict[str, int]


class Ends:
    """Counts by slots of a few seconds, of which the oldest are forgotten."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._slots: deque[tuple[int, Counts]] = deque()

    def observe(self, settled: Sequence[Settled]) -> None:
        """Count what was settled."""
        slot = self._slot_now()
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counts({}, {}, {})))
            self._forget(slot)
        finished, retried, failed = self._slots[-1][1]
        for delivery, _, verdict in settled:  # of every message: plain dictionaries count twice as fast as a Counter
            name = delivery.queue.name
            if verdict is _DONE:
                finished[name] = finished.get(name, 0) + 1
            elif verdict is _RETRY:
                retried[name] = retried.get(name, 0) + 1
            elif verdict is _BURY:
                failed[name] = failed.get(name, 0) + 1

    def counts(self) -> Counts:
        """Return how many have ended of late."""
        self._forget(self._slot_now())
        finished, retried, failed = Counter[str](), Counter[str](), Counter[str]()
        for _, counts in self._slots:
            finished.update(counts.finished)
            retried.update(counts.retried)
            failed.update(counts.failed)
        return Counts(finished, retried, failed)

    @property
    def seconds(self) -> float:
        """How long a time the counts are of."""
        now = time.monotonic()
        start = max(self._since, (self._slot_now() - _SLOTS + 1) * _SLOT_SECONDS)
        return max(now - start, 1.0)

    def _forget(self, slot: int) -> None:
        while self._slots and self._slots[0][0] <= slot - _SLOTS:
            self._slots.popleft()

    @staticmethod
    def _slot_now() -> int:
        return int(time.monotonic() // _SLOT_SECONDS)
