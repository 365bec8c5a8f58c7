"""Send dead messages round again.

A message leaves the DLQ only after the broker confirmed it in the work queue. It starts again at attempt 1, under
the same id, without the reason of its last failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pika

from leveret.producers.dead.letters import BATCH, DeadMessage, Letters, holding, publish_again
from leveret.topology.access.management import Management
from leveret.topology.errors import LeveretError, Unwritable
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain
from leveret.topology.link.outbox import Outbox
from leveret.topology.message import check_name
from leveret.topology.settings import Settings, vhost_of

_COUNT_TIMEOUT_SECONDS = 2.0


class Redriven(NamedTuple):
    """What went, how many messages of the DLQ others held meanwhile, and what cannot be sent again, with why not."""

    messages: list[DeadMessage]
    held_by_others: int = 0
    set_aside: Sequence[tuple[DeadMessage, Unwritable]] = ()


async def redrive(
    configured: Settings,
    queue: str,
    ids: Sequence[str] = (),
    dry_run: bool = False,
    tell_of: Callable[[DeadMessage], None] = lambda _dead: None,
) -> Redriven:
    """Send the dead messages of a work queue, or those with these ids, round again; returns them.

    `tell_of` is called with each once it has left the DLQ, or would with `dry_run`. Raises `TopologyError` when the
    queue has no DLQ, `BrokerError` or `PublishError` when the broker fails; what `tell_of` was not called with is
    still in the DLQ then, and the error names what may be in the work queue, too. A message whose headers cannot be
    written again stays in the DLQ, and the others go on.
    """
    check_name(holding(queue), "queue")
    opened = await connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    gone: list[DeadMessage] = []
    failures: list[LeveretError] = []
    set_aside: list[tuple[DeadMessage, Unwritable]] = []
    try:
        dlq = Letters(await open_channel(opened), holding(queue))
        ready = await dlq.count()  # no more than were there: what fails again meanwhile is not for this round
        held_by_others = await asyncio.to_thread(_held, configured, holding(queue))
        got = 0
        while got < ready and (taken := await dlq.take(min(BATCH, ready - got))):  # none: others have taken the rest
            got += len(taken)
            # what was not chosen stays unacknowledged, and so in the DLQ, when the connection closes
            chosen = [dead for dead in taken if not ids or dead.id in ids]
            moved = chosen
            if not dry_run:
                outcomes = await asyncio.gather(*(publish_again(outbox, queue, dead) for dead in chosen))
                ended = list(zip(chosen, outcomes, strict=True))
                moved = [dead for dead, error in ended if error is None]
                set_aside.extend((dead, error) for dead, error in ended if isinstance(error, Unwritable))
                failures.extend(error for error in outcomes if error and not isinstance(error, Unwritable))
                await dlq.remove(moved, queue)
            for dead in moved:
                tell_of(dead)
            gone.extend(moved)
            if failures and not moved:
                break  # for the others it would be the same
    except pika.exceptions.AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
        await outbox.close()
    if failures:
        raise failures[0]
    return Redriven(gone, max(held_by_others, ready - got), set_aside)


def _held(configured: Settings, dlq: str) -> int:
    """Return how many messages of the DLQ others held at the broker's last count; 0 where it does not say."""
    try:
        said = Management(configured, _COUNT_TIMEOUT_SECONDS).call(
            "GET", "queues", vhost_of(configured.first_amqp_url), dlq
        )
        return int(said["messages_unacknowledged"])
    except (LeveretError, KeyError, TypeError, ValueError):  # it is not there, not for this user, or has not counted
        return 0
