"""What a DLQ holds at a glance: groups of messages that are dead for the same reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reading import read
from leveret.producers.dead.reason import Reason, reason_of
from leveret.producers.dead.wanted import Wanted
from leveret.topology.settings import Settings

MOST_GROUPS = 1000
"""So many are told apart, so that memory stays flat whatever is in the queue."""


@dataclass(slots=True)
class Group:
    """Messages that are dead for the same reason; times are seconds of the epoch, None where none is known."""

    fingerprint: str
    task: str
    kind: str
    place: str
    example: str
    """The id of the one that died last."""
    message: str
    """What that one said."""
    count: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, dead: DeadMessage, reason: Reason) -> None:
        """Count a message in."""
        self.count += 1
        if reason.at is None:
            return
        if self.oldest is None or reason.at < self.oldest:
            self.oldest = reason.at
        if self.newest is None or reason.at >= self.newest:
            self.newest, self.example, self.message = reason.at, str(dead.id), reason.message


@dataclass
class Groups:
    """The groups of a work queue's DLQ, the largest first."""

    queue: str
    groups: list[Group] = field(default_factory=list)
    count: int = 0
    """Messages in all."""
    others: int = 0
    """Messages of groups beyond the first thousand that were met."""
    held_by_others: int = 0
    """Messages that somebody else looks at or redrives; they are not counted."""


async def top(configured: Settings, queue: str, wanted: Wanted | None = None) -> Groups:
    """Return the groups of a work queue's DLQ, which stays as it is. Raises as `read` does."""
    found: dict[str, Group] = {}
    made = Groups(queue)
    chosen = wanted or Wanted()

    def look(dead: DeadMessage) -> None:
        if not chosen.takes(dead):
            return
        made.count += 1
        reason = reason_of(dead)
        name = reason.fingerprint
        group = found.get(name)
        if group is None:
            if len(found) >= MOST_GROUPS:
                made.others += 1
                return
            group = found[name] = Group(name, reason.task, reason.kind, reason.place, str(dead.id), reason.message)
        group.add(dead, reason)

    seen = await read(configured, queue, look)
    made.held_by_others = seen.held_by_others
    made.groups = sorted(found.values(), key=lambda group: (-group.count, group.fingerprint))
    return made
