"""Working over a link that is made again whenever it is lost, until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from leveret.topology.errors import LeveretError
from leveret.topology.link.connection import Pauses


class Losable(Protocol):
    """What is opened to work with, until `lost` says why that ended."""

    lost: asyncio.Future[LeveretError]

    async def open(self) -> None:
        """Connect, and prepare what the work needs."""

    async def close(self) -> None:
        """Leave, however far opening has come."""


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
