"""Making a queue anew under its name, with other arguments, while producers publish and workers run.

    before   tasks.direct ────────────────────────▶ mail
    1        tasks.direct ──▶ switch (topic) ──#──▶ mail                  all goes by the switch, and comes once
    2        tasks.direct ──▶ switch ──▶ its alternate exchange ──▶ tasks.held.mail    it is not bound to mail any more
    3        what is ready in mail is moved to tasks.held.mail; what workers hold ends, or comes back and is moved
    4        mail is deleted and declared anew
    5        tasks.direct ──▶ switch (topic) ──#──▶ mail                  the switch is bound to it again
    6        tasks.direct ────────────────────────▶ mail                  tasks.held.mail is moved back, and deleted

The switch is `tasks.held.mail/in`, its alternate exchange `tasks.held.mail/all`, so each message takes one of both ways
and never none. A queue takes a message once by however many ways it comes, so before a way is taken away the next one
is there. What is on the broker says how far this is; each step may be done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from leveret.topology import names
from leveret.topology.access.management import Management
from leveret.topology.errors import BrokerUnreachable, LeveretError, TopologyError
from leveret.topology.link.connection import server_version
from leveret.topology.objects import Binding, Exchange, Queue
from leveret.topology.plan.broker import Broker
from leveret.topology.plan.comparing import argument_differences, binding_of
from leveret.topology.plan.moving import Mover, into_holding, out_of_holding

QUIET_SECONDS = 15.0
"""So long the broker's counts must say that nobody holds a message of a queue before that is deleted. A quorum queue
cannot be deleted only where it is empty, and its counts are up to 10 s old (seen on 3.10.8 and 4.3.6)."""
_SETTLE_SECONDS = 3.0
"""So long nothing goes into a queue that was just declared: one whose node is killed then may come back empty."""
_UNCOUNTED_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_TRIES = 3
_CANCELS_AT_ONCE, _GAP_SECONDS = (4,), 1.0
"""An older broker does not tell the consumers of a queue that it is gone where it is there again at once."""
_EVERYTHING = "#"

Tell = Callable[[str, dict[str, Any]], None]
"""Is told of a stage, by name, with its figures."""


class Moved(NamedTuple):
    """A queue that was made anew; how many messages went out of the former one, and back."""

    queue: str
    out: int
    back: int
    maybe_twice: int
    """How many had been given to somebody before, where an apply was interrupted: what that moved may be among them,
    and then is there twice."""


class Recreation:
    """One queue that is made anew. `bindings` are those of the table."""

    def __init__(
        self,
        broker: Broker,
        api: Management,
        vhost: str,
        mover: Mover,
        work_queue: str,
        queue: Queue,
        bindings: list[Binding],
        tell: Tell,
        quiet_seconds: float,
    ) -> None:
        self._broker, self._api, self._vhost, self._mover = broker, api, vhost, mover
        self._work_queue, self._queue, self._bindings = work_queue, queue, bindings
        self._tell, self._quiet_seconds = tell, quiet_seconds
        self._switch = names.switch_exchange(queue.name)
        self._beside = names.holding_exchange(queue.name)
        self._holding = names.holding_queue(queue.name)
        self._through = Binding(queue.name, self._switch, _EVERYTHING)
        self._out = self._back = self._redelivered = 0

    async def run(self) -> Moved:
        """Do what is left to do; see above. Raises what is in the way, after which it can be run again."""
        was_interrupted = await self._broker.ready(self._holding) is not None
        for _ in range(_TRIES):
            former = await self._described()
            if former is None or argument_differences(self._queue.arguments, former.get("arguments") or {}):
                await self._lead_away(former is not None)
                if former is not None:
                    await self._empty()
                    await self._delete()
                try:
                    await self._broker.declare_queue(self._queue)
                except BrokerUnreachable as error:
                    if "PRECONDITION_FAILED" not in str(error):
                        raise
                    continue  # somebody with the former arguments was first
                await self._settle()
            break
        else:
            raise TopologyError(
                f"queue {self._queue.name!r} is declared again and again with the former arguments, by a program that "
                "still has them; stop it, and run leveret apply again. New messages wait in "
                f"{self._holding!r} until then"
            )
        await self._lead_back()
        await self._put_back()
        return Moved(self._queue.name, self._out, self._back, self._redelivered if was_interrupted else 0)

    async def _settle(self) -> None:
        await asyncio.sleep(min(_SETTLE_SECONDS, self._quiet_seconds))

    async def _described(self) -> Any:
        return await asyncio.to_thread(self._api.call, "GET", "queues", self._vhost, self._queue.name)

    async def _ways(self) -> list[Binding]:
        """Return what leads to the queue, or would without the switch: what is bound to either, and the table's."""
        found = dict.fromkeys(self._bindings)
        for path in (("queues", self._vhost, self._queue.name, "bindings"),
                     ("exchanges", self._vhost, self._switch, "bindings", "destination")):  # fmt: skip
            for one in await asyncio.to_thread(self._api.call, "GET", *path) or ():
                if one["source"] not in ("", self._switch, self._beside):
                    found[binding_of(one)._replace(queue=self._queue.name, is_exchange=False)] = None
        return list(found)

    def _to_switch(self, ways: list[Binding]) -> list[Binding]:
        return [way._replace(queue=self._switch, is_exchange=True) for way in ways]

    async def _lead_away(self, is_there: bool) -> None:
        """Lead all that goes to the queue into its holding queue."""
        self._tell("leading away", {"queue": self._queue.name})
        broker = self._broker
        if await broker.ready(self._holding) is None:
            # Without its TTL, for nothing is to leave it; where a message has one of its own, it goes the same way.
            arguments = {name: value for name, value in self._queue.arguments.items() if name != "x-message-ttl"}
            await broker.declare_queue(Queue(self._holding, arguments))
            await self._settle()
        await broker.declare_exchange(Exchange(self._beside, "fanout"))
        await broker.bind([Binding(self._holding, self._beside, "")])
        if is_there:
            await broker.unbind([Binding(self._queue.name, self._beside, "")])
        alternate = {"alternate-exchange": self._beside}
        is_new = not await broker.has_exchange(self._switch)
        await broker.declare_exchange(Exchange(self._switch, "topic", internal=True, arguments=alternate))
        if is_there and is_new:
            await broker.bind([self._through])
        await self._use_switch()
        if is_there:
            await broker.unbind([self._through])
        self._tell("led away", {"queue": self._queue.name})

    async def _use_switch(self) -> None:
        ways = await self._ways()
        await self._broker.bind(self._to_switch(ways))
        if await self._broker.ready(self._queue.name) is not None:
            await self._broker.unbind(ways)

    async def _empty(self) -> None:
        """Move what is ready, until nobody holds anything any more."""
        try:
            loop = asyncio.get_running_loop()
            quiet_since: float | None = None
            counted_at = loop.time()
            while True:
                await self._use_switch()  # somebody who does not know of this may have declared meanwhile
                moved = await self._mover.move(self._queue.name, into_holding(self._queue.name), self._moved_out)
                held = _count(await self._described())
                if held is not None:
                    counted_at = loop.time()
                elif loop.time() - counted_at > _UNCOUNTED_SECONDS:
                    raise TopologyError(
                        f"the management API does not count the messages of queue {self._queue.name!r}, so nobody can "
                        "tell whether some are held; have it count (management.disable_stats), then apply again"
                    )
                if moved or held != 0:
                    quiet_since = None
                elif quiet_since is None:
                    quiet_since = loop.time()
                if quiet_since is not None and loop.time() - quiet_since >= self._quiet_seconds:
                    return
                self._tell("emptying", {"queue": self._queue.name, "moved": self._out, "held": held})
                await asyncio.sleep(_LOOK_SECONDS)
        except BaseException:
            await self._give_up()
            raise

    async def _give_up(self) -> None:
        """Lead what comes to the former queue again, for workers still take from that; where the broker is there."""
        if self._broker.connection.is_open:
            try:
                async with asyncio.timeout(_GAP_SECONDS * 5):
                    await self._broker.bind([self._through])
            except (LeveretError, TimeoutError):
                return  # then it waits in the holding queue, as after a kill
            self._tell("given up", {"queue": self._queue.name})

    def _moved_out(self, count: int, redelivered: int) -> None:
        self._out += count
        self._redelivered += redelivered
        self._tell("emptying", {"queue": self._queue.name, "moved": self._out, "held": None})

    def _moved_back(self, count: int, redelivered: int) -> None:
        self._back += count
        self._redelivered += redelivered
        self._tell("moving back", {"queue": self._queue.name, "moved": self._back})

    async def _delete(self) -> None:
        self._tell("deleting", {"queue": self._queue.name})
        await self._mover.close()
        answer = await self._broker.ask("queue_delete", queue=self._queue.name)
        if count := answer.method.message_count:
            raise TopologyError(
                f"{count} message(s) came into queue {self._queue.name!r} in the moment in which it was deleted, and "
                "are gone; only who publishes to the queue itself, by the default exchange, can do that"
            )
        self._tell("deleted", {"queue": self._queue.name})
        if server_version(self._broker.connection) < _CANCELS_AT_ONCE:
            await asyncio.sleep(_GAP_SECONDS)

    async def _lead_back(self) -> None:
        """Lead all into the queue again, and nothing into the holding queue."""
        self._tell("declared", {"queue": self._queue.name})
        broker = self._broker
        if await broker.has_exchange(self._switch):
            await broker.bind([self._through])
            self._tell("switched back", {"queue": self._queue.name})
            ways = await self._ways()
            await broker.bind(ways)
            await broker.unbind(self._to_switch(ways))
            await broker.ask("exchange_delete", exchange=self._switch)
        self._tell("led back", {"queue": self._queue.name})

    async def _put_back(self) -> None:
        """Move back what was held, and take away what it lay in."""
        broker = self._broker
        if await broker.ready(self._holding) is not None:
            await broker.declare_exchange(Exchange(self._beside, "fanout"))
            await broker.bind([Binding(self._queue.name, self._beside, "")])
            await broker.unbind([Binding(self._holding, self._beside, "")])
            make = out_of_holding(self._queue.name, self._work_queue)
            while await self._mover.move(self._holding, make, self._moved_back) or await broker.ready(self._holding):
                pass
            await self._mover.close()
            self._tell("moved back", {"queue": self._queue.name})
            await broker.ask("queue_delete", queue=self._holding)
        await broker.ask("exchange_delete", exchange=self._beside)
        self._tell("made anew", {"queue": self._queue.name, "out": self._out, "back": self._back})


def _count(described: Any) -> int | None:
    """Return how many messages the broker counts in a queue, those that somebody holds too; None where it has not yet.

    Those that cannot leave are among them.
    """
    try:
        return int(described["messages"]) + int(described.get("messages_dlx") or 0)
    except (KeyError, TypeError, ValueError):
        return None


async def await_quiet(
    names_of: list[str], look: Callable[[str], Awaitable[int | None]], seconds: float
) -> dict[str, int]:
    """Wait until it is sure of these queues that nobody holds a message; returns those that hold some, and how many."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    held: dict[str, int] = {}
    while True:
        for name in names_of:
            if name not in held and (count := await look(name)) != 0:
                if count is None:
                    until = loop.time() + seconds
                else:
                    held[name] = count
        if len(held) == len(names_of) or loop.time() >= until:
            return held
        await asyncio.sleep(_LOOK_SECONDS)
