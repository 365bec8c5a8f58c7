"""Looking at the schedules of a virtual host from anywhere, and pausing them."""

from __future__ import annotations

import asyncio
from typing import Any

from leveret.producers.following.cancelling import command_now
from leveret.producers.following.commanding import publish
from leveret.topology import names
from leveret.topology.control import write_schedule_pause
from leveret.topology.errors import NotRouted, TopologyError, UnreadableMessage
from leveret.topology.link.asking import Asking, open_channel
from leveret.topology.link.connection import close, connect
from leveret.topology.schedules import State, read_state
from leveret.topology.settings import Settings, mask

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 0.05
"""While somebody else looks there is nothing to see."""
_HEARD_SECONDS = 3.0


def look(configured: Settings) -> State | None:
    """Return the state of the schedules; None where no scheduler has ever run.

    Raises `AccessRefused` without the right to look, `BrokerUnreachable`, or `TopologyError` for a state that cannot
    be read.
    """
    return asyncio.run(look_async(configured))


def pause(schedule: str, is_paused: bool, reason: str, configured: Settings) -> bool:
    """Have a schedule paused, or go on; whether a scheduler has said that it is so, and else the next one will.

    Raises `NotRouted` where no scheduler has ever run, and what publishing raises.
    """
    command = command_now(reason)
    body = write_schedule_pause(schedule, is_paused, command)
    (failure,) = asyncio.run(publish(configured, names.SCHEDULES_PAUSE_KEY, [body]))
    if isinstance(failure, NotRouted):
        raise NotRouted(
            f"no scheduler has ever run on the broker at {mask(configured.amqp_url)}, so nothing keeps the pause; "
            "start one: leveret schedule"
        ) from failure
    if failure:
        raise failure
    return asyncio.run(_is_heard(configured, schedule, is_paused))


async def _is_heard(configured: Settings, schedule: str, is_paused: bool) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _HEARD_SECONDS
    while loop.time() < deadline:
        state = await look_async(configured)
        if state and (state.paused(schedule) is not None) == is_paused:
            return True
        await asyncio.sleep(_AGAIN_SECONDS)
    return False


async def look_async(configured: Settings) -> State | None:
    """Do as `look` does, on the running loop."""
    connection = await connect(configured, "leveret schedule, looking", lambda *_: None)
    try:
        channel = await open_channel(connection)
        asking = Asking(channel, "the state of the schedules")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOOK_SECONDS
        while True:
            found = await _get(channel, asking)
            if found:
                return read_state(found)
            if loop.time() > deadline:
                return None
            await asyncio.sleep(_AGAIN_SECONDS)
    except UnreadableMessage as error:
        raise TopologyError(f"what lies in queue {names.SCHEDULES_SHOWN_QUEUE!r} is no state: {error}") from error
    except TopologyError:  # there is no such queue
        return None
    finally:
        await close(connection)


async def _get(channel: Any, asking: Asking) -> bytes | None:
    """Look at the message, and put it back: what has come in its place meanwhile stays."""

    got = await asking.get(names.SCHEDULES_SHOWN_QUEUE)
    if got is None:
        return None
    channel.basic_nack(got.method.delivery_tag, requeue=True)
    return bytes(got.body)
