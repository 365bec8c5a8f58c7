"""Send dead messages round again.

A message leaves the DLQ only after the broker confirmed it in the work queue. It starts again at attempt 1, under
the same id, without the reason of its last failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pika

from leveret.topology.access.management import Management
from leveret.topology.errors import BrokerUnreachable, LeveretError, Unwritable
from leveret.topology.link.asking import Answer, Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.link.explaining import explain
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.message import FAILURE_HEADERS, check_name, new_id, own_headers
from leveret.topology.names import Route, dlq_name
from leveret.topology.printable import printable
from leveret.topology.settings import Settings, vhost_of

_BATCH = 16
"""Acks at once: of more than 32 a quorum queue's client in the broker keeps some, and loses them with the channel."""
_BATCH_BYTES = 32 * 1024 * 1024
_COUNT_TIMEOUT_SECONDS = 2.0


class Redriven(NamedTuple):
    """What went, how many messages of the DLQ others held meanwhile, and what cannot be sent again, with why not."""

    messages: list[DeadMessage]
    held_by_others: int = 0
    set_aside: Sequence[tuple[DeadMessage, Unwritable]] = ()


class DeadMessage(NamedTuple):
    """A message in a DLQ, with why it is there."""

    id: str
    task: str
    attempts: str
    reason: str
    tag: int
    properties: pika.BasicProperties
    body: bytes


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
    check_name(dlq_name(queue), "queue")
    opened = await connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    gone: list[DeadMessage] = []
    failures: list[LeveretError] = []
    set_aside: list[tuple[DeadMessage, Unwritable]] = []
    try:
        dlq = _DeadLetterQueue(await open_channel(opened), dlq_name(queue))
        ready = await dlq.count()  # no more than were there: what fails again meanwhile is not for this round
        held_by_others = await asyncio.to_thread(_held, configured, dlq_name(queue))
        got = 0
        while got < ready and (taken := await dlq.take(min(_BATCH, ready - got))):  # none: others have taken the rest
            got += len(taken)
            # what was not chosen stays unacknowledged, and so in the DLQ, when the connection closes
            chosen = [dead for dead in taken if not ids or dead.id in ids]
            moved = chosen
            if not dry_run:
                outcomes = await asyncio.gather(*(_publish(outbox, queue, dead) for dead in chosen))
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


def _publish(outbox: Outbox, queue: str, dead: DeadMessage) -> asyncio.Future[LeveretError | None]:
    """Publish to the work queue; the future is how that ended."""
    ended: asyncio.Future[LeveretError | None] = asyncio.get_running_loop().create_future()
    properties = dead.properties
    kept = own_headers(properties.headers)
    properties.headers = {name: kept[name] for name in kept if not str(name).startswith(FAILURE_HEADERS)}
    properties.message_id = dead.id or new_id()
    properties.user_id = properties.expiration = None  # another connection's user; and it must not vanish
    outbox.send(Outgoing(Route.direct(queue), dead.body, properties), ended.set_result)
    return ended


class _DeadLetterQueue:
    """Reads a DLQ message by message, over a channel of its own. Once that is closed, all it is asked raises why."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._asking = Asking(channel, f"queue {name!r}")
        self._on_empty: Answer = lambda _answer: None
        self._ahead: Any = None  # a message that was got before it was asked for
        channel.add_callback(lambda _frame: self._on_empty(None), [pika.spec.Basic.GetEmpty], one_shot=False)

    async def count(self) -> int:
        """Return how many messages are ready. Raises `TopologyError` when there is no such queue."""
        answer = await self._asking.ask(
            lambda answer: self._channel.queue_declare(self._name, passive=True, callback=answer)
        )
        return int(answer.method.message_count)

    async def take(self, most: int) -> list[DeadMessage]:
        """Take the next messages, up to `most` and not too many bytes; they stay until they are removed."""
        taken: list[DeadMessage] = []
        if self._ahead:
            await self.count()  # to see that the link it came by is still there
        size = 0
        while len(taken) < most and size < _BATCH_BYTES and (answer := self._ahead or await self._get()):
            taken.append(_read(*answer))
            size += len(taken[-1].body)
            self._ahead = None
        return taken

    async def remove(self, moved: Sequence[DeadMessage], queue: str) -> None:
        """Take messages that are in the work queue out of this one for good, and see that the broker did.

        Raises `BrokerUnreachable` naming them when the link was lost before that was known.
        """
        try:
            if self._channel.is_open:
                for dead in moved:
                    self._channel.basic_ack(dead.tag)
            self._ahead = await self._get()  # which the queue answers after the acks; nobody answers those themselves
        except (LeveretError, pika.exceptions.AMQPError) as error:
            if not moved:
                raise
            names = ", ".join(printable(dead.properties.message_id) for dead in moved)
            raise BrokerUnreachable(
                f"{error}. Confirmed in {queue!r}, and perhaps still in {self._name!r} as well, are {len(moved)} "
                f"message(s): {names}. Where running twice does harm, take them out of one of both first"
            ) from error

    async def _get(self) -> Any:
        def send(answer: Answer) -> None:
            self._on_empty = answer
            self._channel.basic_get(self._name, lambda _channel, *message: answer(message))

        return await self._asking.ask(send)


def _read(method: Any, properties: pika.BasicProperties, body: bytes) -> DeadMessage:
    headers = properties.headers or {}
    reason = [str(headers.get(FAILURE_HEADERS + part, "")) for part in ("task", "attempts", "type", "message")]
    task, attempts, kind, text = reason
    return DeadMessage(
        properties.message_id or "",
        task or "unknown task",
        attempts or "?",
        f"{kind or 'no reason is attached'}: {text}",
        method.delivery_tag,
        properties,
        body,
    )
