"""Send dead messages round again.

A message leaves the DLQ only after the broker confirmed it in the work queue. It starts again at attempt 1, under
the same id, without the reason of its last failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leveret.producers.dead import history
from leveret.producers.dead.letters import (
    BATCH,
    WHERE_IT_HARMS,
    DeadMessage,
    Letters,
    holding,
    publish_again,
    to_its_end,
)
from leveret.producers.dead.reading import see_kept, tell_surely
from leveret.producers.dead.wanted import Wanted
from leveret.producers.following.cancelling import command_now
from leveret.topology.errors import LeveretError, Unwritable
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.link.outbox import Outbox
from leveret.topology.message import check_name
from leveret.topology.settings import Settings


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
    *,
    wanted: Wanted | None = None,
    most: int | None = None,
    per_second: float | None = None,
    to: str = "",
    change: Callable[[DeadMessage], DeadMessage] = lambda dead: dead,
) -> Redriven:
    """Send the dead messages of a work queue, or those with these ids, round again; returns them.

    `wanted` says which, beside the ids; at most so many go, and no more per second, and to another work queue where
    `to` names one. `change` returns what is published in place of each.

    `tell_of` is called with each once it has left the DLQ, or would with `dry_run`. Raises `TopologyError` when the
    queue has no DLQ, `BrokerError` or `PublishError` when the broker fails; what `tell_of` was not called with is
    still in the DLQ then, and the error names what may be in the work queue, too. A message whose headers cannot be
    written again stays in the DLQ, and the others go on.
    """
    name = check_name(holding(queue), "queue")
    opened = await connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    is_wanted = (wanted or Wanted()).takes
    step = BATCH if per_second is None else max(1, min(BATCH, int(per_second)))
    began = asyncio.get_running_loop().time()
    by, since = command_now("").by, history.now()
    gone: list[DeadMessage] = []
    failures: list[LeveretError] = []
    set_aside: list[tuple[DeadMessage, Unwritable]] = []
    try:
        dlq = Letters(opened, await open_channel(opened), name)
        told = await tell_surely(configured, dlq)
        see_kept(told, opened, name)
        ready = await dlq.open(told.average_bytes)  # no more than those: what fails again is not for this round
        got = 0

        async def move(chosen: Sequence[DeadMessage]) -> list[DeadMessage]:
            going = [change(dead) for dead in chosen]
            outcomes = await asyncio.gather(*(publish_again(outbox, queue, dead, to) for dead in going))
            ended = list(zip(going, outcomes, strict=True))
            moved = [dead for dead, error in ended if error is None]
            set_aside.extend((dead, error) for dead, error in ended if isinstance(error, Unwritable))
            failures.extend(error for error in outcomes if error and not isinstance(error, Unwritable))
            await dlq.remove(moved, f"confirmed in {to or queue!r}", WHERE_IT_HARMS)
            for dead in moved:
                tell_of(dead)
            return moved

        while got < ready and (taken := await dlq.take(min(step, ready - got))):  # none: others have taken the rest
            # some queues hand out first what has a priority, so what fails again may come before what waits still
            fresh = [dead for dead in taken if not history.is_of_this_round(dead.properties.headers, by, since)]
            got += len(fresh)
            # what was not chosen stays unacknowledged, and so in the DLQ
            chosen = [dead for dead in fresh if (not ids or dead.id in ids) and is_wanted(dead)]
            if most is not None:
                chosen = chosen[: most - len(gone)]
            moved = chosen if dry_run else await to_its_end(move(chosen))
            if dry_run:
                for dead in moved:
                    tell_of(dead)
            gone.extend(moved)
            if failures and not moved:
                break  # for the others it would be the same
            if most is not None and len(gone) >= most:
                ready = got
                break
            if per_second is not None and not dry_run:
                await asyncio.sleep(began + len(gone) / per_second - asyncio.get_running_loop().time())
        await dlq.let_go()
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
        await outbox.close()
    if failures:
        raise failures[0]
    return Redriven(gone, max(told.held, ready - got), set_aside)
