"""The backlog: the deliveries of a worker that no child has begun.

Each passes the gates first, which may settle it, or keep it for later.

They are taken in their order, except those that came back often. One of these may kill its worker each time, and be
held beside the others again and again. So they are taken one at a time, drawn by lot: whatever is harmless gets
through before the killer is buried for its many deliveries.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from leveret.consumers.running.paces import Paces
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer, Gate

_BATCH_SECONDS = 0.002
_LARGEST_BATCH = 64
_BATCH_BYTES = 256 * 1024
SUSPECT_RETURNS = 5
"""From so many returns on a delivery is taken alone."""


class Backlog:
    """Deliveries in `ready` may be taken, from the left, for a child; `ended` must be told of each of them.

    Suspects get there by `draw`, which is to be called when those that came together are all here.
    """

    def __init__(self, gates: Sequence[Gate] = ()) -> None:
        self._gates = gates
        self.ready: deque[Delivery] = deque()
        self._suspects: list[Delivery] = []
        self._tried: Delivery | None = None  # the one suspect that is ready or was taken

    def __iter__(self) -> Iterator[Delivery]:
        return iter((*self.ready, *self._suspects))

    def add(self, delivery: Delivery) -> Answer:
        """Add a delivery that has just come, if the gates say so; one that is to begin is ready."""
        for gate in self._gates:
            if (answer := gate(delivery)) is not Answer.BEGIN:
                return answer
        if delivery.returns >= SUSPECT_RETURNS:
            self._suspects.append(delivery)
            return Answer.LATER
        self.ready.append(delivery)
        return Answer.BEGIN

    def take_batch(self, paces: Paces, share_with: int) -> list[Delivery]:
        """Take what a child gets at once, where so many, with this one, share what is ready.

        That is about as much as runs in two milliseconds: one delivery when tasks are slow, dozens when they are tiny.
        """
        ready = self.ready
        most = min(_LARGEST_BATCH, -(-len(ready) // share_with))
        batch = [ready.popleft()]
        seconds, size = paces.of(batch[0].queue.name), len(batch[0].body)
        while len(batch) < most:
            following = ready[0]
            seconds += paces.of(following.queue.name)
            size += len(following.body)
            if seconds > _BATCH_SECONDS or size > _BATCH_BYTES:
                break
            batch.append(ready.popleft())
        return batch

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
