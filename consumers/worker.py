"""The worker's parent process: one event loop that takes deliveries, has them run, and settles each.

Its story: connect, consume, hand to the pool, hear the outcome, ask for the verdict, carry it out here and
nowhere else. When the connection is lost: connect again. When told to stop: finish what runs, hand back the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consumers.consumer import Consumer
from consumers.delivery import Delivery
from consumers.drain import until_drained
from consumers.forkserver import Forkserver
from consumers.holding import Holding
from consumers.log import event, worker_name
from consumers.outcome import Ending, Failure, Outcome
from consumers.pool import Pool
from consumers.resend import dead_copy, stamped_copy
from consumers.slots import Slots
from consumers.verdict import Verdict, decide
from topology.connection import backoff_seconds
from topology.declare import declare
from topology.errors import BrokerUnreachable, LeveretError, TopologyError
from topology.names import dlq_name, retry_queue
from topology.outbox import Outbox, Outgoing
from topology.queues import WorkQueue
from topology.settings import Settings, mask

MOST_RETURNS = 20
"""How often a message may come back without a verdict, its worker having died each time, before it is buried."""
EXIT_CLEAN, EXIT_HANDED_BACK = 0, 3
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOSS_FOLLOWS_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.3
_LONGEST_REPUBLISH_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class Plan:
    """What a worker was asked to do."""

    queues: Sequence[WorkQueue]
    processes: int
    prefetch: int | None = None
    """Unacknowledged messages to hold for each queue; None follows how long tasks take."""
    drain: bool = False
    may_declare: bool = True


class Worker:
    """Runs until it is told to stop, or until its queues are drained if that is the plan."""

    def __init__(self, settings: Settings, plan: Plan, forkserver: Forkserver, slots: Slots) -> None:
        self._settings = settings
        self._plan = plan
        self._name = worker_name()
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(forkserver, slots, plan.processes, self._on_outcome)
        self._outbox = Outbox(settings, "leveret worker, republishing")
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._holding = Holding(
            self._pool, plan.queues, plan.processes, plan.prefetch, settings.consumer_timeout_seconds
        )
        self._last_nack = 0.0
        self._republishing: set[Delivery] = set()
        self._outcome_known = asyncio.Event()

    async def run(self) -> int:
        """Work; returns the exit status.

        Raises what the first connection raises, later on a lost broker is waited for; and what the pool fails with.
        """
        for number in _STOP_SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, signal.Signals(number).name)
        consumer = None
        try:
            consumer = await self._connect(first=True)
            while consumer and await self._is_lost(consumer):
                self._pool.withdraw_waiting()  # the broker has taken them back
                await consumer.close()
                consumer = await self._connect(first=False)
            return await self._leave(consumer)
        finally:
            self._pool.stop()
            self._holding.stop()
            if consumer:
                await consumer.close()
            await self._outbox.close()
            for number in _STOP_SIGNALS:  # everything is settled; nothing is left to interrupt
                self._loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    async def _connect(self, first: bool) -> Consumer | None:
        """Open a consumer, trying until it works; None when told to stop meanwhile. Raises what the pool fails with."""
        began, said, tries = time.monotonic(), "", 0
        ends = (self._stop, self._pool.failed)
        if not first:  # perhaps everybody has lost the broker; do not come back all at once
            await self._wait(random.uniform(0, _FIRST_PAUSE_SECONDS), *ends)  # noqa: S311
        while not self._stop.is_set():
            if self._pool.failed.done():
                self._pool.failed.result()
            consumer = Consumer(self._settings, self._plan.queues, self._holding.first_prefetch, self._on_delivery)
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
                if first:
                    raise
                if str(error) != said:
                    said = str(error)
                    event(logging.WARNING, f"{error}; trying again until it works")
                await self._declare_what_is_gone(error)
            else:
                where = mask(self._settings.amqp_url)
                after = "" if first else f" again after {time.monotonic() - began:.1f} s"
                event(logging.INFO, f"consuming{after}", broker=where, queues=self._queue_names())
                self._holding.consumer = consumer
                return consumer
            await self._wait(backoff_seconds(tries), *ends)
            tries += 1
        return None

    async def _declare_what_is_gone(self, error: LeveretError) -> None:
        if isinstance(error, TopologyError) and self._plan.may_declare:
            try:
                await asyncio.to_thread(declare, self._settings, self._plan.queues)
            except LeveretError as refusal:
                event(logging.WARNING, f"cannot declare: {refusal}")

    async def _is_lost(self, consumer: Consumer) -> bool:
        """Work until the connection is lost (True), or it is time to stop (False)."""
        ends: list[asyncio.Task[Any]] = [self._loop.create_task(self._stop.wait())]
        if self._plan.drain:
            drained = until_drained(consumer, self._plan.queues, lambda: self._last_nack)
            ends.append(self._loop.create_task(drained))
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
        self._holding.stop()
        if consumer:
            consumer.stop_taking()
        self._holding.hand_back(self._pool.withdraw_waiting())
        ended = self._loop.create_task(self._all_ended(consumer))
        await self._wait(self._settings.shutdown_timeout_seconds, ended, self._stop_now, self._pool.failed)
        ended.cancel()
        if self._pool.failed.done():
            self._pool.failed.result()
        unconfirmed = [delivery for delivery in self._republishing if delivery.settler.is_open]
        left = [*self._pool.withdraw_waiting(), *self._pool.running, *unconfirmed]
        self._republishing.clear()
        for delivery in left:
            is_handed_back = delivery.settler.nack(delivery.tag, requeue=True)
            what = "handed back unfinished" if is_handed_back else "unfinished; the broker took it back before"
            event(logging.WARNING, what, id=delivery.id, queue=delivery.queue.name)
        event(logging.INFO, "stopped", handed_back=len(left))
        return EXIT_HANDED_BACK if left else EXIT_CLEAN

    async def _all_ended(self, consumer: Consumer | None) -> None:
        """Wait until nothing runs, also of former connections, and everything is settled that can be."""
        while self._pool.running:
            self._outcome_known.clear()
            await self._outcome_known.wait()
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

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.returns:
            delivery.returns -= self._holding.times_handed_back(delivery)
        if self._stop.is_set():
            delivery.settler.nack(delivery.tag, requeue=True)
        elif delivery.returns > MOST_RETURNS:
            text = (
                f"delivered {delivery.returns + 1} times without a verdict; its worker died or lost its link each time"
            )
            failure = Failure("DeliveredTooOften", text, "", "DeliveredTooOften")
            self._on_outcome(delivery, Outcome(Ending.DELIVERED_TOO_OFTEN, "", 0.0, failure))
        elif not delivery.id or delivery.is_forged:
            self._republish(delivery, stamped_copy(delivery))
        else:
            self._pool.give(delivery)

    def _on_outcome(self, delivery: Delivery, outcome: Outcome) -> None:
        """Carry out the verdict. The only place that decides between ack and nack."""
        self._outcome_known.set()
        self._holding.note(delivery)
        verdict = decide(outcome.ending, delivery.attempt, delivery.queue.attempts)
        if not delivery.settler.is_open:
            event(
                logging.WARNING,
                "finished, but the connection it came by is gone: the broker delivers it again",
                **_fields(delivery, outcome),
            )
        elif verdict is Verdict.DONE:
            delivery.settler.ack(delivery.tag)
            event(logging.INFO, verdict.value, **_fields(delivery, outcome))
        elif verdict is Verdict.RETRY:
            self._last_nack = time.monotonic()
            delivery.settler.nack(delivery.tag, requeue=False)
            tier = retry_queue(delivery.queue.name, delivery.attempt, delivery.queue.retry_delays[delivery.attempt - 1])
            event(logging.WARNING, verdict.value, **_fields(delivery, outcome), waits_in=tier)
        else:
            self._republish(delivery, dead_copy(delivery, outcome, self._name))
            event(
                logging.ERROR,
                verdict.value,
                **_fields(delivery, outcome),
                lies_in=dlq_name(delivery.queue.name),
            )

    def _republish(self, delivery: Delivery, copy: Outgoing, failed_tries: int = 0) -> None:
        """Publish the copy, then acknowledge the original; without a confirm the original stays ours."""
        if failed_tries and delivery not in self._republishing:
            return  # it was handed back

        def on_outcome(error: LeveretError | None) -> None:
            if delivery not in self._republishing:
                return  # it was handed back
            if error is None or not delivery.settler.is_open:
                self._republishing.remove(delivery)
                delivery.settler.ack(delivery.tag)
            else:
                if failed_tries == 0:
                    event(logging.ERROR, f"keeping {copy.id} until {copy.route.routing_key!r} takes it: {error}")
                pause = min(_LONGEST_REPUBLISH_PAUSE_SECONDS, 2.0**failed_tries)
                self._loop.call_later(pause, self._republish, delivery, copy, failed_tries + 1)

        self._republishing.add(delivery)
        self._outbox.send(copy, on_outcome)

    def _queue_names(self) -> str:
        return ",".join(queue.name for queue in self._plan.queues)


def _fields(delivery: Delivery, outcome: Outcome) -> dict[str, object]:
    failure = outcome.failure
    return {
        "task": outcome.task,
        "id": delivery.id,
        "queue": delivery.queue.name,
        "attempt": f"{delivery.attempt}/{delivery.queue.attempts}",
        "seconds": outcome.duration_seconds,
        "error": f"{failure.type}: {failure.message}" if failure else None,
    }
