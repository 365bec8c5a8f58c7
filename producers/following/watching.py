"""Watching tasks that anybody has submitted: what the record knows, and then what is told, pushed by the broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from leveret.producers.following.listener import Listener
from leveret.producers.following.record import open_record
from leveret.topology.events import Kind
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status, advance


async def watch(configured: Settings, ids: Sequence[str]) -> AsyncIterator[Status]:
    """Yield what is known of each task, and again after each event, until all have ended or are unknown.

    Raises as asking the record does, and `BrokerUnreachable` when the link is lost meanwhile.
    """
    listener = Listener(configured, ["task.#"], lambda _why: None)  # the recorder says what it does not believe
    try:
        await listener.open()
        async with open_record(configured) as record:
            known = {status.id: status for status in await record.statuses(ids)}
            for status in known.values():
                yield status
            while not all(_is_over(status) for status in known.values()):
                heard = await listener.next()
                for event in heard.events:
                    before = known.get(event["id"])
                    if before is None or heard.kind is Kind.LOG:
                        continue
                    after = advance(before, heard.kind, heard.task or before.task, heard.worker, event)
                    if after is not None and after != before:
                        known[after.id] = after
                        yield after
    finally:
        await listener.close()


def _is_over(status: Status) -> bool:
    return status.state.is_final or status.state is State.UNKNOWN
