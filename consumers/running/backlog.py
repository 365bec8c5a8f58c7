"""The backlog: the deliveries of a worker that no child has begun.

Each passes the gates first, which may settle it, or keep it for later.

They are taken in their order, or in that of their queue's priorities, except those that came back often. One of these
may kill its worker each time, and be held beside the others again and again. So they are taken one at a time, drawn by
lot: whatever is harmless gets through before the killer is buried for its many deliveries.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from leveret.consumers.running.lanes import Lane
from leveret.consumers.running.level_line import LevelLine
from leveret.consumers.running.paces import Paces
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer, Gate

_BATCH_SECONDS = 0.002
BATCH_BYTES = 256 * 1024
"""A child gets no more at once, but for one order that is larger."""
SUSPECT_RETURNS = 5
"""From so many returns on a delivery is taken alone."""
_MOST_REMEMBERED = 10_000

Sort = Callable[[Delivery], Lane]
Line = deque[Delivery] | LevelLine


class Backlog:
    """Deliveries in `lines` may be taken, from the left, for a child of that lane; `ended` has to be told of each.

    Suspects get there by `draw`, which is to be called when those that came together are all here.
    """

    def __init__(
        self, only: Mapping[str, Lane], sort: Sort, gates: Sequence[Gate] = (), with_levels: Collection[str] = ()
    ) -> None:
        """`only` says of queues which lane all of theirs run in; what comes from any other `sort` is asked about.

        `with_levels` are the queues that have priorities.
        """
        self._only = only
        self._sort = sort
        self._gates = gates
        self.lines: dict[Lane, Line] = {lane: LevelLine(with_levels) if with_levels else deque() for lane in Lane}
        self._held_up: dict[Delivery, None] = {}  # by a gate
        self._aside: dict[str, deque[Delivery]] = {}  # task → those that wait for others of it to end
        self._suspects: list[Delivery] = []
        self._tried: Delivery | None = None  # the one suspect that is ready or was taken
        self._dangerous: dict[str, None] = {}  # ids of what has to run alone, when it comes again, too

    def __iter__(self) -> Iterator[Delivery]:
        return itertools.chain(*self.lines.values(), *self._aside.values(), self._suspects, self._held_up)

    def add(self, delivery: Delivery) -> Answer:
        """Add a delivery that has just come, if the gates say so; one that is to begin is ready."""
        for gate in self._gates:
            if (answer := gate(delivery)) is not Answer.BEGIN:
                if answer is Answer.LATER:
                    self._held_up[delivery] = None
                return answer
        return self._enter(delivery)

    def let_go(self, delivery: Delivery) -> Answer:
        """Go on with one that a gate has kept for later, as with one that has just come."""
        del self._held_up[delivery]
        return self._enter(delivery)

    def _enter(self, delivery: Delivery) -> Answer:
        lane = self._only.get(delivery.queue.name) or self._sort(delivery)
        if (delivery.returns >= SUSPECT_RETURNS or delivery.id in self._dangerous) and lane.leaves_doubt:
            lane = Lane.ALONE  # there it can be known whether it is what its child, or its worker, dies of
        delivery.lane = lane
        if delivery.returns >= SUSPECT_RETURNS:
            self._suspects.append(delivery)
            return Answer.LATER
        self.lines[lane].append(delivery)
        return Answer.BEGIN

    def isolate(self, deliveries: Sequence[Delivery]) -> None:
        """Have deliveries run alone, in this order, now and when they come again."""
        for delivery in deliveries:
            delivery.lane = Lane.ALONE
            self.remember(delivery)
        self.lines[Lane.ALONE].extend(deliveries)

    def remember(self, delivery: Delivery) -> None:
        """Have a delivery run alone when it comes again, for a child may have died of it."""
        self._dangerous[delivery.id] = None
        if len(self._dangerous) > _MOST_REMEMBERED:
            del self._dangerous[next(iter(self._dangerous))]

    def clear_of_suspicion(self, delivery: Delivery) -> None:
        """Note that one has run alone, and nothing died of it."""
        self._dangerous.pop(delivery.id, None)

    def set_aside(self, delivery: Delivery) -> None:
        """Keep one that was taken until `bring_back` is called for its task."""
        self._aside.setdefault(delivery.task, deque()).append(delivery)

    def bring_back(self, task: str, most: int) -> None:
        """Make so many ready of those that were set aside."""
        if waiting := self._aside.get(task):
            self.put_back(waiting.popleft() for _ in range(min(most, len(waiting))))

    def bring_all_back(self) -> None:
        """Make all ready that were set aside."""
        for task, waiting in self._aside.items():
            self.bring_back(task, len(waiting))

    def put_back(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries that were taken, and not begun, back in front."""
        for delivery in reversed(list(deliveries)):
            self.lines[delivery.lane].appendleft(delivery)

    def ended(self, delivery: Delivery) -> Delivery | None:
        """Note that the outcome of one that was taken is known; returns another that is ready for that."""
        if delivery is not self._tried:
            return None
        self._tried = None
        self.draw()
        return self._tried

    def withdraw(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Remove and return what shall not be taken any more."""
        withdrawn = [delivery for delivery in self if unwanted(delivery)]
        if withdrawn:
            gone = set(withdrawn)
            for line in (*self.lines.values(), *self._aside.values()):
                kept = [delivery for delivery in line if delivery not in gone]
                line.clear()
                line.extend(kept)
            self._suspects = [delivery for delivery in self._suspects if delivery not in gone]
            self._held_up = {delivery: None for delivery in self._held_up if delivery not in gone}
            if self._tried in gone:
                self._tried = None
                self.draw()
        return withdrawn

    @property
    def has_suspects(self) -> bool:
        """Whether some are taken one at a time, drawn by lot."""
        return bool(self._suspects)

    def draw(self) -> None:
        """Make one of the suspects ready, unless one is ready or was taken and has not ended."""
        if self._tried is None and self._suspects:
            self._tried = self._suspects.pop(random.randrange(len(self._suspects)))  # noqa: S311 - a lot, no secret
            self.lines[self._tried.lane].append(self._tried)


def take_batch(ready: Line, paces: Paces, share_with: int, most: int) -> list[Delivery]:
    """Take what a child gets at once that runs one order after the other, where so many, with this one, share the line.

    That is about as much as runs in two milliseconds: one delivery when tasks are slow, dozens when they are tiny.
    """
    most = min(most, -(-len(ready) // share_with))
    batch = [ready.popleft()]
    seconds, size = paces.of(batch[0].queue.name), len(batch[0].body)
    while len(batch) < most:
        following = ready[0]
        seconds += paces.of(following.queue.name)
        size += len(following.body)
        if seconds > _BATCH_SECONDS or size > BATCH_BYTES:
            break
        batch.append(ready.popleft())
    return batch
