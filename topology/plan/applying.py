"""Doing what a plan says: declaring what is missing, making anew what differs, taking away what is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from leveret.topology import names, queues, settings
from leveret.topology.access.management import Management
from leveret.topology.apply.declare import declare, declare_ladder, declare_streams
from leveret.topology.errors import TopologyError
from leveret.topology.ladder import WHOLE
from leveret.topology.link.connection import close, connect
from leveret.topology.link.default_broker import resolve
from leveret.topology.link.explaining import AMQPError, explain
from leveret.topology.objects import Binding, Exchange, objects_of, shared_exchanges
from leveret.topology.plan.broker import Broker
from leveret.topology.plan.comparing import compare, stale_bindings
from leveret.topology.plan.difference import Difference, Kind, Seen
from leveret.topology.plan.limiting import left_over_limits
from leveret.topology.plan.moving import Mover
from leveret.topology.plan.planning import differences, seen_or_refused
from leveret.topology.plan.recreating import QUIET_SECONDS, Moved, Recreation, Tell, await_quiet
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings, vhost_of


class Applied(NamedTuple):
    """What was done, and what was not."""

    declared: Sequence[Difference]
    moved: Sequence[Moved]
    removed: Sequence[str]
    kept: dict[str, int]
    """Queues that are left over and hold messages, with how many; `delete` names one that may go with them."""
    left: Sequence[Difference]
    """What differs now."""
    notes: Sequence[str] = ()


def apply(
    configured: Settings | None = None,
    work_queues: Iterable[WorkQueue] | None = None,
    prune: bool = False,
    delete: Sequence[str] = (),
    tell: Tell = lambda _stage, _figures: None,
    quiet_seconds: float = QUIET_SECONDS,
) -> Applied:
    """Bring the broker to these work queues, by default all of this program, while producers and workers run.

    `prune` takes away what is left over and holds nothing, `delete` names left-over queues that go with what they hold.
    `tell` is told of each stage. A queue is deleted only after the broker's counts have said for `quiet_seconds` that
    it is empty and that nobody holds a message of it. When this is interrupted, run it again: it ends what it began.

    Raises `AccessRefused` without the rights of the role topology or without the management API, `TopologyError` where
    another apply is at work, for a queue to delete that is not left over, and for what has to be done by hand first,
    and `BrokerUnreachable` when the broker is lost.
    """
    settings_used = configured or resolve(settings.load())
    found = queues.known() if work_queues is None else tuple(work_queues)
    return asyncio.run(_apply(settings_used, found, prune, tuple(delete), tell, quiet_seconds))


async def _apply(
    configured: Settings,
    work_queues: Sequence[WorkQueue],
    prune: bool,
    delete: Sequence[str],
    tell: Tell,
    quiet_seconds: float,
) -> Applied:
    connection = await connect(configured, "leveret apply", lambda *_: None)
    try:
        broker = Broker(connection)
        lock = Broker(connection)  # a channel of its own, which nothing else closes
        await lock.lock()
        return await _Applying(configured, work_queues, broker, tell, quiet_seconds).run(prune, delete)
    except AMQPError as error:  # the broker left between two steps
        raise explain(error, connection.url) from error
    finally:
        await close(connection)


class _Applying:
    """One apply, with the lock."""

    def __init__(
        self,
        configured: Settings,
        work_queues: Sequence[WorkQueue],
        broker: Broker,
        tell: Tell,
        quiet_seconds: float,
    ) -> None:
        self._settings, self._work_queues, self._broker = configured, work_queues, broker
        self._tell, self._quiet_seconds = tell, quiet_seconds
        self._api, self._vhost = Management(configured), vhost_of(configured.first_amqp_url)

    async def run(self, prune: bool, delete: Sequence[str]) -> Applied:
        """Do it."""
        seen = await asyncio.to_thread(seen_or_refused, self._settings)
        before = await self._differences(seen)
        self._check(before, delete)
        moved: list[Moved] = []
        for work_queue in self._work_queues:
            moved += await self._make_anew(
                work_queue, [one for one in before if one.work_queue == work_queue.name], seen
            )
        notes = await asyncio.to_thread(self._declare, seen)
        removed: list[str] = []
        kept: dict[str, int] = {}
        if prune or delete:
            removed, kept = await self._prune(prune, delete)
        seen = await asyncio.to_thread(seen_or_refused, self._settings)
        left = await self._differences(seen)
        done = [one for one in before if one.kind in (Kind.ADDITIVE, Kind.IN_PLACE) and one not in left]
        return Applied(done, moved, removed, kept, left, notes)

    async def _differences(self, seen: Seen) -> Sequence[Difference]:
        return (await asyncio.to_thread(differences, self._settings, self._work_queues, seen)).differences

    def _check(self, before: Sequence[Difference], delete: Sequence[str]) -> None:
        left_over = [one.name for one in before if one.kind is Kind.LEFT_OVER and one.object == "queue"]
        for name in delete:
            if name not in left_over:
                there = f"left over are {', '.join(left_over)}" if left_over else "no queue is left over"
                raise TopologyError(f"queue {name!r} is not left over of these work queues, so it stays; {there}")
        by_hand = [one for one in before if one.kind is Kind.CANNOT and one.object != "policy"]
        if by_hand:  # declaring would fail at it
            one = by_hand[0]
            raise TopologyError(f"{one.object} {one.name!r} cannot be changed while it is in use: {one.why}")

    def _declare(self, seen: Seen) -> list[str]:
        notes = declare(self._settings, self._work_queues)
        declare_streams(self._settings)
        if WHOLE in seen.exchanges:
            declare_ladder(self._settings)
        return notes

    async def _make_anew(self, work_queue: WorkQueue, differs: Sequence[Difference], seen: Seen) -> list[Moved]:
        """Make queues and exchanges of a work queue anew, and end what another apply began."""
        table = objects_of(work_queue)
        queues_named = {one.name for one in differs if one.kind is Kind.RECREATE and one.object == "queue"}
        begun = {
            queue.name
            for queue in table.queues
            if names.holding_queue(queue.name) in seen.queues or names.holding_exchange(queue.name) in seen.exchanges
        }
        exchanges = {one.name for one in differs if one.kind is Kind.RECREATE and one.object == "exchange"}
        for name in exchanges:  # a message that is rejected meanwhile stays in its queue until the broker tries again
            await self._broker.ask("exchange_delete", exchange=name)
        if not queues_named and not begun:
            await self._end(work_queue)
            return []
        await self._mark(table.changing)
        await self._declare_what_is_led_to(work_queue)
        mover = Mover(self._broker.connection, self._settings.publish_timeout_seconds)
        moved = []
        for queue in table.queues:
            if queue.name in queues_named or queue.name in begun:
                ways = [one for one in (*table.bindings, *table.last_bindings) if one.queue == queue.name]
                moved.append(
                    await Recreation(
                        self._broker,
                        self._api,
                        self._vhost,
                        mover,
                        work_queue.name,
                        queue,
                        ways,
                        self._tell,
                        self._quiet_seconds,
                    ).run()
                )
        await self._end(work_queue)
        return moved

    async def _mark(self, exchange: str) -> None:
        """Have nobody else declare this work queue; see `names.changing_exchange`."""
        while True:
            await self._broker.declare_exchange(Exchange(exchange, "fanout"))
            try:
                await self._broker.bind([Binding(exchange, exchange, "", is_exchange=True)])
            except TopologyError:  # somebody who asked whether it is in use has just deleted it, for it was not yet
                continue
            return

    async def _end(self, work_queue: WorkQueue) -> None:
        await self._broker.ask("exchange_delete", exchange=names.changing_exchange(work_queue.name))

    async def _declare_what_is_led_to(self, work_queue: WorkQueue) -> None:
        """Have the exchanges to which a queue that is made anew is bound."""
        table = objects_of(work_queue)
        seen = await asyncio.to_thread(seen_or_refused, self._settings)
        bound_to = {one.exchange for one in (*table.bindings, *table.last_bindings)}
        for exchange in (*shared_exchanges().exchanges, *table.exchanges):
            if exchange.name in bound_to and exchange.name not in seen.exchanges:
                await self._broker.declare_exchange(exchange)

    async def _prune(self, prune: bool, delete: Sequence[str]) -> tuple[list[str], dict[str, int]]:
        """Take away what is left over; first the tiers, for a binding is kept while one leads by it."""
        removed: list[str] = []
        kept: dict[str, int] = {}
        left_over = await self._left_over()
        candidates = [one.name for one in left_over if one.object == "queue"]
        chosen = [name for name in candidates if prune and name not in delete]
        kept = await await_quiet(chosen, self._counted, self._quiet_seconds)
        for name in candidates:
            if name in delete or (name in chosen and name not in kept):
                answer = await self._broker.ask("queue_delete", queue=name)
                count = answer.method.message_count
                removed.append(f"queue {name}" + (f", with {count} message(s)" if count else ""))
                self._tell("removed", {"queue": name})
        if not prune:
            return removed, kept
        seen = await asyncio.to_thread(seen_or_refused, self._settings)
        for work_queue in self._work_queues:
            for binding in stale_bindings(work_queue, objects_of(work_queue), seen):
                await self._broker.unbind([binding])
                removed.append(f"binding {binding.exchange} {binding.routing_key} → {binding.queue}")
        for one in await self._left_over():
            if one.object == "exchange":
                await self._broker.ask("exchange_delete", exchange=one.name)
                removed.append(f"exchange {one.name}")
        return removed, kept

    async def _left_over(self) -> list[Difference]:
        seen = await asyncio.to_thread(seen_or_refused, self._settings)
        of_tables = [one for one in compare(self._work_queues, (), seen) if one.kind is Kind.LEFT_OVER]
        return [*of_tables, *left_over_limits(self._work_queues, seen)]

    async def _counted(self, name: str) -> int | None:
        """Return how many messages a queue holds, by the broker's own count and by what is ready just now."""
        ready = await self._broker.ready(name)
        if ready:
            return ready
        described: Any = await asyncio.to_thread(self._api.call, "GET", "queues", self._vhost, name)
        try:
            return int(described["messages"]) + int(described.get("messages_dlx") or 0)
        except (KeyError, TypeError, ValueError):
            return None
