"""Send dead messages round again: `python -m producers.redrive words`. See --help.

A message leaves the DLQ only after the broker confirmed it in the work queue. It starts again at attempt 1, under
the same id, without the reason of its last failure.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import pika

from topology import broker, connection, settings
from topology.command import EXIT_ERROR, run, tell
from topology.errors import LeveretError, TopologyError
from topology.message import FAILURE_HEADERS, check_name, new_id, own_headers, printable
from topology.names import Route, dlq_name
from topology.outbox import Outbox, Outgoing
from topology.settings import Settings


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
    configured: Settings, queue: str, ids: Sequence[str] = (), dry_run: bool = False
) -> list[DeadMessage]:
    """Send the dead messages of a work queue, or those with these ids, round again; returns them.

    Raises `TopologyError` when the queue has no DLQ, `BrokerError` or `PublishError` when the broker fails; what
    was not confirmed by then is still in the DLQ.
    """
    check_name(dlq_name(queue), "queue")
    opened = await connection.connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    moving: list[asyncio.Future[LeveretError | None]] = []
    chosen: list[DeadMessage] = []
    try:
        dlq = _DeadLetterQueue(await connection.open_channel(opened), dlq_name(queue))
        for _ in range(await dlq.count()):
            dead = await dlq.get()
            if dead is None:
                break
            if ids and dead.id not in ids:
                continue  # stays unacknowledged, and so in the DLQ, when the connection closes
            chosen.append(dead)
            if not dry_run:
                moving.append(_move(outbox, queue, dead, dlq))
        for outcome in await asyncio.gather(*moving):
            if outcome:
                raise outcome
    except pika.exceptions.AMQPError as error:  # the broker left between two steps
        raise connection.explain(error, opened.url) from error
    finally:
        await connection.close(opened)
        await outbox.close()
    return chosen


def _move(outbox: Outbox, queue: str, dead: DeadMessage, dlq: _DeadLetterQueue) -> asyncio.Future[LeveretError | None]:
    """Publish to the work queue, and take the message out of the DLQ once that is confirmed."""
    moved: asyncio.Future[LeveretError | None] = asyncio.get_running_loop().create_future()
    properties = dead.properties
    kept = own_headers(properties.headers)
    properties.headers = {name: kept[name] for name in kept if not str(name).startswith(FAILURE_HEADERS)}
    properties.message_id = dead.id or new_id()
    properties.user_id = properties.expiration = None  # another connection's user; and it must not vanish

    def on_outcome(error: LeveretError | None) -> None:
        if error is None:
            dlq.ack(dead.tag)
        moved.set_result(error)

    outbox.send(Outgoing(Route.direct(queue), dead.body, properties), on_outcome)
    return moved


class _DeadLetterQueue:
    """Reads a DLQ message by message, over a channel of its own."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        channel.add_on_close_callback(self._on_close)
        channel.add_callback(lambda _frame: self._set(None), [pika.spec.Basic.GetEmpty], one_shot=False)

    async def count(self) -> int:
        """Return how many messages are ready. Raises `TopologyError` when there is no such queue."""
        self._channel.queue_declare(self._name, passive=True, callback=self._set)
        return int((await self._answered()).method.message_count)

    async def get(self) -> DeadMessage | None:
        """Take the next message; None when there is none."""
        self._channel.basic_get(self._name, lambda _channel, *message: self._set(message))
        answer = await self._answered()
        return _read(*answer) if answer else None

    def ack(self, tag: int) -> None:
        """Take a message out of the queue for good; a closed channel means that it stays."""
        if self._channel.is_open:
            self._channel.basic_ack(tag)

    async def _answered(self) -> Any:
        try:
            return await self._answer
        finally:
            self._answer = asyncio.get_running_loop().create_future()

    def _set(self, answer: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    def _on_close(self, _channel: Any, reason: Any) -> None:
        text = getattr(reason, "reply_text", str(reason))
        if not self._answer.done() and not isinstance(reason, pika.exceptions.ChannelClosedByClient):
            self._answer.set_exception(
                TopologyError(f"cannot read {self._name!r}: {text}; name a work queue that is declared")
            )
            self._answer.exception()  # it may come when nobody is waiting


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    return run("producers.redrive", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    configured = broker.resolve(settings.load())
    moved = asyncio.run(redrive(configured, options.queue, options.id or (), options.dry_run))
    for dead in moved:
        tell(printable(dead.properties.message_id or "(no id)"))
        print(printable(f"  {dead.task}, {dead.attempts} attempts: {dead.reason}"), file=sys.stderr)
    missing = sorted(set(options.id or ()) - {dead.id for dead in moved})
    for task_id in missing:
        print(f"producers.redrive: no message {printable(task_id)} lies in {dlq_name(options.queue)}", file=sys.stderr)
    verb = "would go" if options.dry_run else "went"
    print(f"{len(moved)} message(s) {verb} from {dlq_name(options.queue)} to {options.queue}", file=sys.stderr)
    return EXIT_ERROR if missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m producers.redrive",
        description="Send the messages of a work queue's DLQ round again, each confirmed before it leaves the DLQ.",
        epilog="examples:\n"
        "  python -m producers.redrive words --dry-run\n"
        "  python -m producers.redrive words\n"
        "  python -m producers.redrive words --id 0a4bd1b2-8b3c-4d7e-9f55-b2f6b7a3a0e1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("queue", metavar="QUEUE", help="the work queue, not its DLQ")
    parser.add_argument("--id", action="append", metavar="ID", help="only this message; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, and leave it there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
