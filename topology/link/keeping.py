"""Working over a link that is made again whenever it is lost, until told to stop."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from leveret.topology.errors import BrokerUnreachable, LeveretError
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import Pauses, close, connect
from leveret.topology.link.explaining import AMQPError, explain, explain_closed
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.objects import Table
from leveret.topology.settings import Settings


class Losable(abc.ABC):
    """A connection to work with, which ends as a whole when any part of it does; then `lost` says why."""

    def __init__(self, settings: Settings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._connection: FastConnection | None = None
        self.lost: asyncio.Future[LeveretError] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Connect, declare and consume.

        Raises `BrokerUnreachable`, `AccessRefused`, or `TopologyError` for a queue that is there with other arguments.
        """
        self._connection = connection = await connect(self._settings, self._role, self._on_connection_closed)
        try:
            await self._prepare(connection)
        except AMQPError as error:  # the broker left between two steps
            await self.close()
            raise explain(error, connection.url) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave; what is not acknowledged goes to another one, or to the next that comes."""
        if self._connection:
            await close(self._connection)

    @abc.abstractmethod
    async def _prepare(self, connection: FastConnection) -> None:
        """Do what follows connecting."""

    async def _open_channel(self, what: str) -> Any:
        channel = await open_channel(self._connection)
        channel.add_on_close_callback(lambda _channel, reason: self._on_channel_closed(what, reason))
        # after a cancel by the broker a consumer may get nothing more on this connection
        channel.add_on_cancel_callback(lambda _frame: self._end(BrokerUnreachable(f"{what} was deleted or moved")))
        return channel

    async def _declare(self, channel: Any, what: str, table: Table) -> dict[str, int]:
        """Declare queues and bind them; returns how many messages wait in each."""
        asking = Asking(channel, what, self._end)
        waiting: dict[str, int] = {}
        for queue in table.queues:
            answer = await asking.ask(
                lambda done, q=queue: channel.queue_declare(q.name, durable=True, arguments=q.arguments, callback=done)  # type: ignore[misc]
            )
            waiting[queue.name] = answer.method.message_count
        for binding in table.bindings:
            await asking.ask(lambda done, b=binding: channel.queue_bind(*b[:3], callback=done))  # type: ignore[misc]
        return waiting

    def _on_channel_closed(self, what: str, reason: BaseException) -> None:
        assert self._connection is not None
        if error := explain_closed(reason, what, self._connection.url):
            self._end(error)

    def _on_connection_closed(self, connection: FastConnection, reason: BaseException) -> None:
        self._end(explain(reason, connection.url))

    def _end(self, reason: LeveretError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)


L = TypeVar("L", bound=Losable)


async def keep_working(
    stopped: asyncio.Task[Any], make: Callable[[], L], work: Callable[[L], Awaitable[None]], warn: Callable[[str], None]
) -> None:
    """Make one and work with it, again and again until `stopped`; `warn` is told what is in the way, once.

    Raises what opening the first one raises; a broker that is lost later is waited for.
    """
    pauses, first, said = Pauses(), True, ""
    while not stopped.done():
        await first_of(stopped, seconds=pauses.next_seconds())
        link = make()
        opening = asyncio.get_running_loop().create_task(link.open())
        await first_of(stopped, opening)
        try:
            if not opening.done():
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                break
            opening.result()
            pauses.on_open()
            first, said = False, ""
            await work(link)
            if link.lost.done() and not stopped.done():
                warn(f"lost the broker: {link.lost.result()}")
        except LeveretError as error:
            if first:
                raise
            if str(error) != said:
                said = str(error)
                warn(f"{error}; trying again until it works")
        finally:
            await link.close()


async def first_of(*what: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until one of these is done, at most so long."""
    await asyncio.wait(what, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
