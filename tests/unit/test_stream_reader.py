"""A stream that is not there yet, for its node starts, is waited for; one that nobody has made is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from leveret.consumers.control.stream import StreamReader
from leveret.topology.errors import AccessRefused, BrokerUnreachable, LeveretError, TopologyError
from leveret.topology.objects import control_streams

_STREAMS = control_streams()


class Connection:
    """Open until it is closed."""

    is_open = True
    url = "amqp://broker/"


class Reader(StreamReader):
    """Meets these one after another, and then what ends the connection."""

    def __init__(self, may_declare: bool, *meets: LeveretError | None) -> None:
        super().__init__(_STREAMS.queues[0], _STREAMS.bindings[0], may_declare, lambda _body: None)
        self._meets = list(meets)
        self.knew: list[bool] = []

    async def _read(self, connection: Any, caught_up: asyncio.Event) -> None:
        self.knew.append(caught_up.is_set())
        error = self._meets.pop(0)
        if not self._meets:
            connection.is_open = False
        if error:
            raise error
        caught_up.set()


@pytest.mark.parametrize(
    ("may_declare", "error", "known"),
    [
        (True, TopologyError("its home node starts"), False),
        (True, BrokerUnreachable("406 it has no running replica"), False),
        (True, AccessRefused("no right"), True),
    ],
)
def test_what_could_be_there_is_waited_for(may_declare: bool, error: LeveretError, known: bool) -> None:
    """Whether the worker goes on without it at once."""

    async def follow() -> list[bool]:
        reader, connection, caught_up = Reader(may_declare, error, None), Connection(), asyncio.Event()
        following = asyncio.ensure_future(reader.follow(connection, caught_up))
        await asyncio.wait_for(caught_up.wait(), 10)
        following.cancel()
        return [*reader.knew, caught_up.is_set()]

    assert asyncio.run(follow()) == ([False, True] if known else [False, False, True])


def test_what_nobody_declares_is_not_waited_for() -> None:
    """A worker that may not declare takes tasks without it."""

    async def follow() -> int:
        reader, caught_up = Reader(False, TopologyError("no such stream"), None), asyncio.Event()
        following = asyncio.ensure_future(reader.follow(Connection(), caught_up))
        await asyncio.wait_for(caught_up.wait(), 10)
        following.cancel()
        return len(reader.knew)

    assert asyncio.run(follow()) == 1
