"""Watching tasks that anybody has submitted: what the record knows, and then what is told, pushed by the broker."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from leveret.producers.following.record import open_record
from leveret.topology import events
from leveret.topology.errors import LeveretError, UnreadableMessage
from leveret.topology.events import Kind, Told
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain, explain_channel
from leveret.topology.names import EVENTS_EXCHANGE, REPLY_PREFIX
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status, advance

_MOST_WAITING = 10_000
"""Messages of events; who looks on too slowly loses the oldest."""
_PREFETCH = 200
_Heard = asyncio.Queue[tuple[Told | LeveretError, Callable[[], None]]]
"""What was told, or why no more is; and what lets the broker send more."""


async def watch(configured: Settings, ids: Sequence[str]) -> AsyncIterator[Status]:
    """Yield what is known of each task, and again after each event, until all have ended or are unknown.

    Raises as asking the record does, and `BrokerUnreachable` when the link is lost meanwhile.
    """
    told: _Heard = asyncio.Queue()
    async with _listening(configured, told), open_record(configured) as record:
        known = {status.id: status for status in await record.statuses(ids)}
        for status in known.values():
            yield status
        while not all(_is_over(status) for status in known.values()):
            heard, acknowledge = await told.get()
            acknowledge()
            if isinstance(heard, LeveretError):
                raise heard
            for event in heard.events:
                before = known.get(event["id"])
                if before is None or heard.kind is Kind.LOG:
                    continue
                after = advance(before, heard.kind, heard.task or before.task, heard.worker, event)
                if after is not None and after != before:
                    known[after.id] = after
                    yield after


def _is_over(status: Status) -> bool:
    return status.state.is_final or status.state is State.UNKNOWN


@contextlib.asynccontextmanager
async def _listening(configured: Settings, told: _Heard) -> AsyncIterator[None]:
    """Put what is told into the queue, from the moment on in which this is entered."""

    def fail(error: LeveretError) -> None:
        told.put_nowait((error, lambda: None))

    def on_message(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        def acknowledge() -> None:
            if channel.is_open:
                channel.basic_ack(method.delivery_tag)

        try:
            told.put_nowait((events.read(body), acknowledge))
        except UnreadableMessage:  # the recorder says so
            acknowledge()

    connection = await connect(
        configured, "leveret, watching tasks", lambda lost, reason: fail(explain(reason, lost.url))
    )
    try:
        channel = await open_channel(connection)
        connection.judge_bodies(channel, lambda size: size <= events.LARGEST_BODY_BYTES)
        what = f"exchange {EVENTS_EXCHANGE!r}"
        channel.add_on_close_callback(lambda _channel, reason: fail(explain_channel(reason, what, connection.url)))
        asking = Asking(channel, what)
        bounds = {"x-max-length": _MOST_WAITING, "x-overflow": "drop-head"}
        name = f"{REPLY_PREFIX}{uuid.uuid4().hex}"
        await asking.ask(
            lambda done: channel.queue_declare(name, exclusive=True, auto_delete=True, arguments=bounds, callback=done)
        )
        await asking.ask(lambda done: channel.queue_bind(name, EVENTS_EXCHANGE, "task.#", callback=done))
        await asking.ask(lambda done: channel.basic_qos(prefetch_count=_PREFETCH, callback=done))
        await asking.ask(lambda done: channel.basic_consume(name, on_message, callback=done))
        yield
    finally:
        await close(connection)
