"""The deliveries of a worker that no child has begun.

They are taken in their order, except those that came back often. One of these may kill its worker each time, and be
held beside the others again and again. So they are taken one at a time, drawn by lot: whatever is harmless gets
through before the killer is buried for its many deliveries.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from consumers.delivery import Delivery

SUSPECT_RETURNS = 5
"""From so many returns on a delivery is taken alone."""


class Waiting:
    """Deliveries in `ready` may be taken, from the left, for a child; `ended` must be told of each of them.

    Suspects get there by `draw`, which is to be called when those that came together are all here.
    """

    def __init__(self) -> None:
        self.ready: deque[Delivery] = deque()
        self._suspects: list[Delivery] = []
        self._tried: Delivery | None = None  # the one suspect that is ready or was taken

    def __iter__(self) -> Iterator[Delivery]:
        return iter((*self.ready, *self._suspects))

    def add(self, delivery: Delivery) -> bool:
        """Add a delivery that has just come, and return whether it is ready."""
        is_ready = delivery.returns < SUSPECT_RETURNS
        (self.ready if is_ready else self._suspects).append(delivery)
        return is_ready

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries that were taken, and not begun, back in front."""
        self.ready.extendleft(reversed(list(deliveries)))

    def ended(self, delivery: Delivery) -> None:
        """Note that the outcome of one that was taken is known."""
        if delivery is self._tried:
            self._tried = None
            self.draw()

    def withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove and return what shall not be taken any more."""
        withdrawn = [delivery for delivery in self if unwanted(delivery)]
        if withdrawn:
            gone = set(withdrawn)
            self.ready = deque(delivery for delivery in self.ready if delivery not in gone)
            self._suspects = [delivery for delivery in self._suspects if delivery not in gone]
            if self._tried in gone:
                self._tried = None
                self.draw()
        return withdrawn

    def draw(self) -> None:
        """Make one of the suspects ready, unless one is ready or was taken and has not ended."""
        if self._tried is None and self._suspects:
            self._tried = self._suspects.pop(random.randrange(len(self._suspects)))  # noqa: S311 - a lot, no secret
            self.ready.append(self._tried)
