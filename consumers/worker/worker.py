"""The worker's parent process: one event loop that takes deliveries, has them run, and has each settled.

Its story: connect, consume, and let the rooms work: taking → running → settling. When the connection is lost: connect
again. When told to stop: finish what runs, hand back the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from leveret.consumers.answering.answering import Answering
from leveret.consumers.answering.ends import Ends
from leveret.consumers.answering.told import Told
from leveret.consumers.child.board import Begun, Board
from leveret.consumers.child.signals import TELLING
from leveret.consumers.control.control import Control
from leveret.consumers.log import event, is_logged
from leveret.consumers.observing.events import Telling
from leveret.consumers.observing.outcomes import log_running, log_settled, log_started
from leveret.consumers.observing.policies import warn_of_policies
from leveret.consumers.observing.runs import Runs
from leveret.consumers.running.crew import Watchers
from leveret.consumers.running.forkserver import Forkserver
from leveret.consumers.running.lanes import Lanes
from leveret.consumers.running.pool import Pool
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.recording import gates_of
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.settlement import Settlement
from leveret.consumers.taking.consumer import Consumer
from leveret.consumers.taking.elastic import Elastic
from leveret.consumers.taking.emptiness import until_empty
from leveret.consumers.taking.prefetching import Prefetching
from leveret.consumers.taking.subscription import Takers
from leveret.consumers.worker import signals
from leveret.consumers.worker.plan import Plan
from leveret.topology.control import Command
from leveret.topology.errors import BrokerUnreachable, LeveretError, TopologyError
from leveret.topology.link.connection import Pauses
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.outbox import Outbox
from leveret.topology.link.parameters import host_and_pid
from leveret.topology.queues import WorkQueue
from leveret.topology.registry import followed_tasks, limits_of
from leveret.topology.settings import Settings, mask

if TYPE_CHECKING:
    from leveret.consumers.limiting.limiter import Limiter
    from leveret.consumers.measuring.counting import Counting

EXIT_CLEAN, EXIT_HANDED_BACK = 0, 3
_LOSS_FOLLOWS_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.3


class Worker:
    """Runs until it is told to stop, or until its queues are empty if that is the plan."""

    def __init__(self, settings: Settings, plan: Plan, lanes: Lanes, forkserver: Forkserver, board: Board) -> None:
        self._settings = settings
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._control = Control(settings, plan.may_declare, self._on_cancel, self._on_pause)
        self.counting = _counting(plan) if settings.metrics else None
        """What counts, where numbers are served."""
        self._outbox = (self.counting.outbox if self.counting else Outbox)(settings, "leveret worker, publishing")
        is_recorded = settings.record != "off"
        followed = followed_tasks() if is_recorded else []
        telling = Telling(self._outbox, host_and_pid(), is_recorded, followed)
        self._runs = Runs(board, telling.tell, followed)
        ends = Ends()
        self._settlement = Settlement(
            self._outbox,
            host_and_pid(),
            settings.message_limit_bytes,
            self._returns_excused,
            (self._learn, log_settled, telling.observe, ends.observe, self._runs.observe)
            + ((self.counting.observe,) if self.counting else ()),
            followed,
            self._control.cancels,
            self._control.is_cancelled,
            self._declare_ladder_soon,
            lambda stuck: self._prefetching.make_room_beside(stuck),
        )
        self._limiter = self._limiter_of(plan, telling) if any(map(limits_of, plan.queues)) else None
        gates = (*gates_of(settings.record), self._settlement.admit)
        self._pool = Pool(
            forkserver,
            board,
            lanes,
            self._limiter.end if self._limiter else self._settlement.settle,
            (*gates, self._limiter.gate) if self._limiter else gates,
            Watchers(
                self._on_started,
                log_running,
                is_logged(logging.DEBUG),
                self._runs.on_look,
                telling.tell_lines,
            ),
            plan.recycling,
            plan.least_processes,
        )
        if self._limiter:
            self._limiter.pool = self._pool
            self._pool.on_withdrawn = self._limiter.withdraw
        self._pauses = Pauses()
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._prefetching = Prefetching(
            self._pool,
            plan.queues,
            lanes,
            plan.prefetch,
            settings.consumer_timeout_seconds,
            self._control.pauses.__contains__,
        )
        least = plan.least_processes or plan.processes
        self._elastic = (
            Elastic(self._pool, plan.queues, lanes, least, self._control.pauses.__contains__)
            if least < plan.processes
            else None
        )
        self._told = Told(
            plan.queues,
            (least, plan.processes),
            self._pool,
            self._prefetching,
            ends,
            lambda: self._control.pauses,
            board.read_progress,
            self._limiter.told if self._limiter else list,
        )
        self._answering = Answering(host_and_pid(), self._told.tell)
        self._declaring_ladder: asyncio.Task[None] | None = None

    def _limiter_of(self, plan: Plan, telling: Telling) -> Limiter:
        from leveret.consumers.limiting.limiter import Limiter  # most workers have nothing that is limited
        from leveret.consumers.limiting.needs import Needs
        from leveret.topology.tokens import longest_seconds

        longest = longest_seconds(plan.queues)
        return Limiter(Needs(plan.queues), plan.may_declare, longest, self._settlement.settle, telling.tell)

    @property
    def queues(self) -> Sequence[WorkQueue]:
        """The queues it takes from."""
        return self._plan.queues

    @property
    def pool(self) -> Pool:
        """Its children."""
        return self._pool

    @property
    def told(self) -> Told:
        """What it tells who asks."""
        return self._told

    @property
    def outbox(self) -> Outbox:
        """What it publishes."""
        return self._outbox

    @property
    def consumer(self) -> Consumer | None:
        """What takes from all its queues at this moment; None while there is no connection. Any thread may ask."""
        consumer = self._prefetching.consumer
        return consumer if consumer and not consumer.lost.done() else None

    @property
    def is_stopping(self) -> bool:
        """Whether it takes nothing more. Any thread may ask."""
        return self._stop.is_set()

    async def run(self) -> int:
        """Work; returns the exit status.

        Raises what the first connection raises, later on a lost broker is waited for; and what the pool fails with.
        """
        stopping = signals.stopping()
        for number in stopping:
            self._loop.add_signal_handler(number, self._on_signal, number.name)
        for number in TELLING:
            self._loop.add_signal_handler(number, self._tell_what_runs)
        consumer = None
        try:
            consumer = await self._connect(first=True)
            while consumer and await self._works_until_lost(consumer):
                if self._limiter:
                    self._limiter.lose()
                self._pool.withdraw_waiting()  # the broker has taken them back
                await consumer.close()
                consumer = await self._connect(first=False)
            return await self._leave(consumer)
        finally:
            self._answering.stop()
            if self._limiter:
                self._limiter.stop()
            if self._elastic:
                self._elastic.stop()
            self._pool.stop()
            self._control.stop()
            self._prefetching.stop()
            self._settlement.tell_observers()
            if consumer:
                await consumer.close()
            await self._outbox.close()
            for number in (*stopping, *TELLING):  # everything is settled; nothing is left to interrupt
                self._loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    async def _connect(self, first: bool) -> Consumer | None:
        """Open a consumer, trying until it works; None when told to stop meanwhile. Raises what the pool fails with."""
        began, said = time.monotonic(), ""
        ends = (self._stop, self._pool.failed)
        if not first:  # perhaps everybody has lost the broker; do not come back all at once
            seconds = random.uniform(0, _FIRST_PAUSE_SECONDS)  # noqa: S311
            await self._wait(seconds + self._pauses.next_seconds(), *ends)
        while not self._stop.is_set():
            if self._pool.failed.done():
                self._pool.failed.result()
            first_prefetch = self._prefetching.first_prefetch
            takers = Takers(self._pool.give, self._prefetching.hand_back_for_room)
            consumer = Consumer(
                self._settings,
                self._plan.queues,
                first_prefetch,
                takers,
                self._plan.processes,
                self._prepare,
                self._control.pauses.__contains__,
            )
            was_apart = self._control.is_apart
            opening = self._loop.create_task(consumer.open())
            await self._wait(None, opening, *ends)
            if not opening.done():
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
                await consumer.close()
                continue
            try:
                opening.result()
            except LeveretError as error:
                if first and self._control.is_apart == was_apart:
                    raise
                if str(error) != said:
                    said = str(error)
                    event(logging.WARNING, f"{error}; trying again until it works")
                await self._declare_what_is_gone(error)
            else:
                where = mask(self._settings.amqp_url)
                after = "" if first else f" again after {time.monotonic() - began:.1f} s"
                event(logging.INFO, f"consuming{after}", broker=where, queues=self._queue_names())
                warn_of_policies(self._settings, self._plan.queues)
                self._prefetching.consumer = consumer
                self._answering.serve(consumer.open_channel)
                if self._elastic:
                    self._elastic.consumer = consumer
                for queue in self._plan.queues:  # also what was said while this one was opened
                    if first and (command := self._control.pauses.get(queue.name)):
                        event(logging.INFO, f"paused {command}", queue=queue.name)
                    self._prefetching.heed_pause(queue)
                self._pauses.on_open()
                return consumer
            await self._wait(self._pauses.next_seconds(), *ends)
        return None

    async def _prepare(self, connection: FastConnection) -> None:
        await self._control.read(connection)
        if self._limiter:
            self._limiter.serve(connection)

    async def _declare_what_is_gone(self, error: LeveretError) -> None:
        if isinstance(error, TopologyError) and self._plan.may_declare:
            from leveret.topology.apply.declare import declare  # kombu; most workers never come here

            try:
                for news in await asyncio.to_thread(declare, self._settings, self._plan.queues):
                    event(logging.WARNING, news)
            except LeveretError as refusal:
                event(logging.WARNING, f"cannot declare: {refusal}")

    def _declare_ladder_soon(self) -> None:
        """Declare what a task needs that asks to be run later; its copy is published again until that is there."""
        if self._plan.may_declare and (self._declaring_ladder is None or self._declaring_ladder.done()):
            self._declaring_ladder = self._loop.create_task(self._declare_ladder())

    async def _declare_ladder(self) -> None:
        from leveret.topology.apply.declare import declare_ladder  # kombu; once in the life of a virtual host

        try:
            await asyncio.to_thread(declare_ladder, self._settings)
        except LeveretError as refusal:
            event(logging.WARNING, f"cannot declare what delayed tasks go through: {refusal}")

    async def _works_until_lost(self, consumer: Consumer) -> bool:
        """Work until the connection is lost (True), or it is time to stop (False)."""
        ends: list[asyncio.Task[Any]] = [self._loop.create_task(self._stop.wait())]
        if self._plan.until_empty:
            emptied = until_empty(consumer, self._plan.queues, lambda: self._settlement.last_nack)
            ends.append(self._loop.create_task(emptied))
        try:
            await asyncio.wait([*ends, consumer.lost, self._pool.failed], return_when=asyncio.FIRST_COMPLETED)
            if any(end.done() and isinstance(end.exception(), BrokerUnreachable) for end in ends):
                await asyncio.wait([consumer.lost], timeout=_LOSS_FOLLOWS_SECONDS)  # the look at the queues was first
            if consumer.lost.done() and not self._stop.is_set():
                event(logging.WARNING, f"lost the broker: {consumer.lost.result()}")
                return True
            for end in (self._pool.failed, *ends):
                if end.done():
                    end.result()
            return False
        finally:
            for end in ends:
                end.cancel()

    async def _leave(self, consumer: Consumer | None) -> int:
        """Take nothing more, let what runs finish, and hand the rest back. Raises what the pool fails with."""
        self._stop.set()
        self._settlement.is_stopping = self._told.is_stopping = True
        self._prefetching.stop()
        if self._elastic:
            self._elastic.stop()
        if consumer:
            consumer.stop_taking()
        self._prefetching.hand_back(self._pool.withdraw_waiting())
        ended = self._loop.create_task(self._all_ended(consumer))
        await self._wait(self._settings.shutdown_timeout_seconds, ended, self._stop_now, self._pool.failed)
        ended.cancel()
        if self._pool.failed.done():
            self._pool.failed.result()
        left = [*self._pool.withdraw_waiting(), *self._pool.running, *self._settlement.unconfirmed]
        self._settlement.give_up()
        for delivery in left:
            is_handed_back = delivery.settler.nack(delivery.tag, requeue=True)
            what = "handed back unfinished" if is_handed_back else "unfinished; the broker took it back before"
            event(logging.WARNING, what, id=delivery.id, queue=delivery.queue.name)
        event(logging.INFO, "stopped", handed_back=len(left))
        return EXIT_HANDED_BACK if left else EXIT_CLEAN

    async def _all_ended(self, consumer: Consumer | None) -> None:
        """Wait until nothing runs, also of former connections, and everything is settled that can be."""
        while self._pool.running:
            self._settlement.outcome_known.clear()
            await self._settlement.outcome_known.wait()
        if consumer:
            await self._wait(None, consumer.all_settled, consumer.lost)

    async def _wait(self, timeout_seconds: float | None, *what: asyncio.Event | asyncio.Future[Any]) -> None:
        """Wait until the first of these happens, at most so long."""
        waits = [self._loop.create_task(one.wait()) if isinstance(one, asyncio.Event) else one for one in what]
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        for one, wait in zip(what, waits, strict=True):
            if wait is not one:
                wait.cancel()

    def _on_signal(self, name: str) -> None:
        if self._stop.is_set():
            event(logging.WARNING, f"{name} again: handing back what still runs")
            self._stop_now.set()
        else:
            seconds = self._settings.shutdown_timeout_seconds
            running = len(self._pool.running)
            event(logging.INFO, f"{name}: finishing {running} running task(s), at most {seconds:g} s")
            self._stop.set()
            self._settlement.is_stopping = self._told.is_stopping = True

    def _tell_what_runs(self) -> None:
        running = self._pool.begun
        for delivery, begun in running:
            log_running(delivery, begun, time.monotonic() - begun.started)
        if not running:
            event(logging.INFO, "nothing runs")

    def _on_started(self, delivery: Delivery, begun: Begun) -> None:
        log_started(delivery, begun)
        self._runs.on_started(delivery, begun)
        if self._limiter:
            self._limiter.start(delivery)

    def _learn(self, settled: Sequence[Settled]) -> None:
        self._prefetching.observe(settled)

    def _returns_excused(self, delivery: Delivery) -> int:
        return self._prefetching.times_handed_back(delivery)

    def _on_cancel(self, ids: Collection[str]) -> None:
        """Settle what waits and was cancelled, and have what runs end."""
        waiting, running = self._pool.cancel(lambda one: one.id in ids and self._control.is_cancelled(one))
        for delivery in waiting:
            self._settlement.cancel(delivery)
        for delivery in running:
            said = f"told to end while it runs: cancelled {delivery.cancel}"
            event(logging.INFO, said, id=delivery.id, queue=delivery.queue.name)

    def _on_pause(self, name: str, is_paused: bool, command: Command) -> None:
        """Take nothing more from a queue, or take again."""
        for queue in self._plan.queues:
            if queue.name == name and self._prefetching.consumer:
                event(logging.INFO, f"{'paused' if is_paused else 'resumed'} {command}", queue=name)
                self._prefetching.heed_pause(queue)

    def _queue_names(self) -> str:
        return ",".join(queue.name for queue in self._plan.queues)


def _counting(plan: Plan) -> Counting:
    from leveret.consumers.measuring.counting import Counting  # most workers are not asked for numbers

    return Counting(plan.queues)
