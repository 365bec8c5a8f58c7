"""The line of deliveries where some queues have priorities: whose turn it is, and of which level.

A queue gets its turns in the order in which its deliveries came, as it would without priorities. Which of its own is
taken then is decided by its levels: of ten, six are of high priority, three of normal and one of low while all of them
wait. A level that has had nothing for a while has no claim to what it has missed, but it is the next.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from leveret.consumers.settling.delivery import Delivery

_STEPS = (1, 2, 6)
"""How far one of each level, the highest first, moves its level on: of the levels that wait the hindmost is next."""


class _Levels:
    """What waits of one queue."""

    __slots__ = ("_next", "_now", "_places", "lines")

    def __init__(self) -> None:
        self.lines: tuple[deque[Delivery], ...] = tuple(deque() for _ in _STEPS)
        self._places = [0] * len(_STEPS)
        self._now = 0  # the place of the one that was taken last
        self._next = -1  # the level that is next, as long as that is known

    def append(self, delivery: Delivery) -> None:
        level = delivery.settler.level
        line = self.lines[level]
        if not line:
            self._next = -1
            if self._places[level] < self._now:
                self._places[level] = self._now
        line.append(delivery)

    def put_back(self, delivery: Delivery) -> None:
        level = delivery.settler.level
        self.lines[level].appendleft(delivery)
        self._places[level] -= _STEPS[level]
        self._next = -1

    def first(self) -> Delivery:
        if self._next < 0:
            self._next = self._choose()
        return self.lines[self._next][0]

    def take(self) -> Delivery:
        level = self._next if self._next >= 0 else self._choose()
        self._next = -1
        self._now = self._places[level]
        self._places[level] += _STEPS[level]
        return self.lines[level].popleft()

    def clear(self) -> None:
        self._next = -1
        for line in self.lines:
            line.clear()

    def _choose(self) -> int:
        high, normal, low = self.lines  # spelled out, for it is done for every message of such a queue
        of_high, of_normal, of_low = self._places
        if high and (not normal or of_high <= of_normal) and (not low or of_high <= of_low):
            return 0
        return 1 if normal and (not low or of_normal <= of_low) else 2


class LevelLine:
    """What a deque of deliveries is to those who take from it, but for their order."""

    def __init__(self, queues: Collection[str]) -> None:
        """`queues` are the names of those that have priorities."""
        self._levels = {name: _Levels() for name in queues}
        self._turns: deque[Delivery | _Levels] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Delivery]:
        of_levels = {levels: itertools.chain(*levels.lines) for levels in self._levels.values()}
        for turn in self._turns:
            yield next(of_levels[turn]) if isinstance(turn, _Levels) else turn

    def __getitem__(self, first: int) -> Delivery:
        """Return the one that is next; `first` is 0."""
        turn = self._turns[first]
        return turn.first() if isinstance(turn, _Levels) else turn

    def append(self, delivery: Delivery) -> None:
        """Put one at its end."""
        levels = self._levels.get(delivery.queue.name)
        if levels:
            levels.append(delivery)
        self._turns.append(levels or delivery)

    def appendleft(self, delivery: Delivery) -> None:
        """Put one back that was taken."""
        levels = self._levels.get(delivery.queue.name)
        if levels:
            levels.put_back(delivery)
        self._turns.appendleft(levels or delivery)

    def popleft(self) -> Delivery:
        """Take the one that is next."""
        turn = self._turns.popleft()
        return turn.take() if isinstance(turn, _Levels) else turn

    def extend(self, deliveries: Iterable[Delivery]) -> None:
        """Put several at its end."""
        for delivery in deliveries:
            self.append(delivery)

    def clear(self) -> None:
        """Remove all."""
        self._turns.clear()
        for levels in self._levels.values():
            levels.clear()
