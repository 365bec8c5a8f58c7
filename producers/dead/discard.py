"""Taking dead messages out for good: each is safe in a file before it leaves its DLQ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from leveret.producers.dead.letters import BATCH, DeadMessage, Letters, holding, to_its_end
from leveret.producers.dead.reading import see_kept, tell_surely
from leveret.producers.dead.wanted import Wanted
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.message import check_name
from leveret.topology.settings import Settings


@dataclass(frozen=True)
class Discarded:
    """How many messages are gone, and how many of the DLQ others held meanwhile."""

    count: int
    held_by_others: int


async def discard(
    configured: Settings,
    queue: str,
    wanted: Wanted,
    keep: Callable[[Sequence[DeadMessage]], None],
    tell_of: Callable[[DeadMessage], None] = lambda _dead: None,
    most: int | None = None,
) -> Discarded:
    """Take dead messages of a work queue out of its DLQ.

    `keep` is called with some of them at a time and returns when they are safe; only then they are taken out, and
    `tell_of` is called with each. At most so many go. Raises `TopologyError` when the queue has no DLQ and
    `BrokerError` when the broker fails, which names what is safe and may be in the DLQ all the same.
    """
    name = check_name(holding(queue), "queue")
    opened = await connect(configured, "leveret dead, discarding", lambda *_: None)
    count = got = 0
    try:
        dlq = Letters(opened, await open_channel(opened), name)
        told = await tell_surely(configured, dlq)
        see_kept(told, opened, name)

        async def take_out(chosen: Sequence[DeadMessage]) -> None:
            keep(chosen)
            await dlq.remove(chosen, "in the file", "Discard them again")
            for dead in chosen:
                tell_of(dead)

        ready = await dlq.open(told.average_bytes)
        while got < ready and (taken := await dlq.take(min(BATCH, ready - got))):
            got += len(taken)
            chosen = [dead for dead in taken if wanted.takes(dead)]
            if most is not None:
                chosen = chosen[: most - count]
            if chosen:
                await to_its_end(take_out(chosen))
            count += len(chosen)
            if most is not None and count >= most:
                ready = got
        await dlq.let_go()
        return Discarded(count, max(told.held, ready - got))
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, opened.url) from error
    finally:
        await close(opened)
