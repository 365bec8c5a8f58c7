"""Send dead messages round again: `python -m producers.redrive words`. See --help.

A message leaves the DLQ only after the broker confirmed it in the work queue. It starts again at attempt 1, under
the same id, without the reason of its last failure.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pika

from topology import broker, connection, settings
from topology.command import EXIT_ERROR, run, tell
from topology.errors import AccessRefused, BrokerUnreachable, LeveretError, TopologyError
from topology.message import FAILURE_HEADERS, check_name, new_id, own_headers, printable
from topology.names import Route, dlq_name
from topology.outbox import Outbox, Outgoing
from topology.settings import Settings, mask

_BATCH = 16
"""Acks at once: of more than 32 a quorum queue's client in the broker keeps some, and loses them with the channel."""
_REFUSED, _NOT_FOUND = 403, 404


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
) -> list[DeadMessage]:
    """Send the dead messages of a work queue, or those with these ids, round again; returns them.

    `tell_of` is called with each once it has left the DLQ, or would with `dry_run`. Raises `TopologyError` when the
    queue has no DLQ, `BrokerError` or `PublishError` when the broker fails; what `tell_of` was not called with is
    still in the DLQ then, and the error names what may be in the work queue, too.
    """
    check_name(dlq_name(queue), "queue")
    opened = await connection.connect(configured, "leveret redrive", lambda *_: None)
    outbox = Outbox(configured, "leveret redrive, publishing")
    gone: list[DeadMessage] = []
    failures: list[LeveretError] = []
    try:
        dlq = _DeadLetterQueue(await connection.open_channel(opened), dlq_name(queue), opened.url)
        ready = await dlq.count()  # no more than were there: what fails again meanwhile is not for this round
        for first in range(0, ready, _BATCH):
            taken = await dlq.take(min(_BATCH, ready - first))
            # what was not chosen stays unacknowledged, and so in the DLQ, when the connection closes
            chosen = [dead for dead in taken if not ids or dead.id in ids]
            moved = chosen
            if not dry_run:
                outcomes = await asyncio.gather(*(_publish(outbox, queue, dead) for dead in chosen))
                moved = [dead for dead, error in zip(chosen, outcomes, strict=True) if error is None]
                failures.extend(error for error in outcomes if error)
                await dlq.remove(moved, queue)
            for dead in moved:
                tell_of(dead)
            gone.extend(moved)
            if chosen and not moved:
                break  # for the others it would be the same
    except pika.exceptions.AMQPError as error:  # the broker left between two steps
        raise connection.explain(error, opened.url) from error
    finally:
        await connection.close(opened)
        await outbox.close()
    if failures:
        raise failures[0]
    return gone


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

    def __init__(self, channel: Any, name: str, url: str) -> None:
        self._channel = channel
        self._name = name
        self._url = url
        self._answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ahead: Any = None  # a message that was got before it was asked for
        self._closed_because: LeveretError | None = None  # kept: it may come together with an answer
        channel.add_on_close_callback(self._on_close)
        channel.add_callback(lambda _frame: self._set(None), [pika.spec.Basic.GetEmpty], one_shot=False)

    async def count(self) -> int:
        """Return how many messages are ready. Raises `TopologyError` when there is no such queue."""
        declare = functools.partial(self._channel.queue_declare, self._name, passive=True, callback=self._set)
        return int((await self._ask(declare)).method.message_count)

    async def take(self, most: int) -> list[DeadMessage]:
        """Take the next messages, as many as there are up to `most`; they stay until they are removed."""
        taken: list[DeadMessage] = []
        if self._ahead:
            await self.count()  # to see that the link it came by is still there
        while len(taken) < most and (answer := self._ahead or await self._get()):
            taken.append(_read(*answer))
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
        return await self._ask(
            lambda: self._channel.basic_get(self._name, lambda _channel, *message: self._set(message))
        )

    async def _ask(self, send: Callable[[], None]) -> Any:
        if self._channel.is_open:
            send()
        elif self._closed_because and not self._answer.done():
            raise self._closed_because
        answer = await self._answer
        self._answer = asyncio.get_running_loop().create_future()
        return answer

    def _set(self, answer: Any) -> None:
        if not self._answer.done():
            self._answer.set_result(answer)

    def _on_close(self, _channel: Any, reason: Any) -> None:
        if isinstance(reason, pika.exceptions.ChannelClosedByClient):
            return
        self._closed_because = self._explain(reason)
        if not self._answer.done():
            self._answer.set_exception(self._closed_because)
            self._answer.exception()  # it may come when nobody is waiting

    def _explain(self, reason: Any) -> LeveretError:
        text = getattr(reason, "reply_text", "") or str(reason)
        if not isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            return BrokerUnreachable(
                f"the link to the broker at {mask(self._url)} was lost ({text}); redrive again once it answers"
            )
        if reason.reply_code == _NOT_FOUND:
            return TopologyError(f"cannot read {self._name!r}: {text}; name a work queue that is declared")
        if reason.reply_code == _REFUSED:
            return AccessRefused(f"cannot read {self._name!r}: {text}; give this user the read right on it")
        return TopologyError(f"cannot read {self._name!r}: {reason.reply_code} {text}")


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
    moved = asyncio.run(redrive(configured, options.queue, options.id or (), options.dry_run, _tell_of))
    missing = sorted(set(options.id or ()) - {dead.id for dead in moved})
    for task_id in missing:
        print(f"producers.redrive: no message {printable(task_id)} lies in {dlq_name(options.queue)}", file=sys.stderr)
    verb = "would go" if options.dry_run else "went"
    print(f"{len(moved)} message(s) {verb} from {dlq_name(options.queue)} to {options.queue}", file=sys.stderr)
    return EXIT_ERROR if missing else 0


def _tell_of(dead: DeadMessage) -> None:
    tell(printable(dead.properties.message_id or "(no id)"))
    print(printable(f"  {dead.task}, {dead.attempts} attempts: {dead.reason}"), file=sys.stderr)


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
