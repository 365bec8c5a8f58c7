"""Finding dead messages: in which queues any can lie, and the one that somebody names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from leveret.producers.dead.letters import DeadMessage
from leveret.producers.dead.reading import read
from leveret.producers.dead.reason import reason_of
from leveret.topology.access.management import Management
from leveret.topology.errors import BrokerError, MessageError
from leveret.topology.names import LATER_LOST, dlq_name, work_queue_of
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, vhost_of

_MOST_NAMED = 5


class Found(NamedTuple):
    """A dead message, the work queue in whose DLQ it lies, and how many others the name fits as well."""

    queue: str
    dead: DeadMessage
    copies: int
    """How many messages there have its id."""
    alike: int
    """How many have its fingerprint, where it was found by that."""
    held_by_others: int


def queues_with_dlq(configured: Settings) -> list[str]:
    """Return the work queues that have a DLQ, and the place of what was delayed in vain.

    Raises `BrokerError` where the management API does not tell them.
    """
    try:
        said = Management(configured).call("GET", "queues", vhost_of(configured.first_amqp_url)) or ()
    except BrokerError as error:
        raise type(error)(f"which queues there are only the management API tells: {error}. Or name a queue") from error
    names = [str(one["name"]) for one in said]
    found = [work_queue_of(name) for name in names if name == dlq_name(work_queue_of(name))]
    return sorted(found) + [name for name in names if name == LATER_LOST]


async def find(configured: Settings, queues: Sequence[str], named: str) -> Found:
    """Return the message with this id, else the one whose id alone begins so, else the last of this group.

    Raises `MessageError` when there is none, or ids of several begin so, and as `read` does.
    """
    by_id: dict[str, Found] = {}
    of_group: Found | None = None
    more, newest, alike, held = 0, -1.0, 0, 0
    for queue in queues:

        def look(dead: DeadMessage, queue: str = queue) -> None:
            nonlocal of_group, more, newest, alike
            task_id = str(dead.id)
            if task_id.startswith(named):
                if task_id in by_id:
                    by_id[task_id] = by_id[task_id]._replace(copies=by_id[task_id].copies + 1)
                elif task_id == named or len(by_id) < _MOST_NAMED:
                    by_id[task_id] = Found(queue, dead, 1, 0, 0)
                else:
                    more += 1
            if (reason := reason_of(dead)).fingerprint == named:
                alike += 1
                if (reason.at or 0) >= newest:
                    newest, of_group = reason.at or 0, Found(queue, dead, 1, 0, 0)

        held += (await read(configured, queue, look)).held_by_others
    if named in by_id:
        return by_id[named]._replace(held_by_others=held)
    if of_group is not None:
        return of_group._replace(alike=alike, held_by_others=held)
    if len(by_id) == 1 and not more:
        return next(iter(by_id.values()))._replace(held_by_others=held)
    if by_id:
        count = "more than " * bool(more) + str(len(by_id))
        names = ", ".join(printable(name) for name in sorted(by_id))
        raise MessageError(f"{printable(named)!r} is the beginning of {count} ids: {names}; write more of it")
    hidden = f" ({held} more are held by others; look again when they have ended)" if held else ""
    raise MessageError(f"no dead message {printable(named)!r} in {', '.join(queues) or 'any queue'}{hidden}")
