"""Settling: what becomes of a delivery is decided and carried out here, and nowhere else.

outcome → verdict → products, which have to be confirmed → ack or nack. A delivery that can be settled without running
is settled when it comes; the others are let through to the backlog.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.log import event
from leveret.consumers.settling.closing import Closings
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer
from leveret.consumers.settling.later import bounded
from leveret.consumers.settling.products import products_of, stamped_copy
from leveret.consumers.settling.settled import Observer, Settled
from leveret.consumers.settling.verdict import Verdict, decide
from leveret.topology.control import Command
from leveret.topology.errors import ConfirmTimeout, LeveretError, Nacked, NotRouted
from leveret.topology.ladder import ENTRANCES
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.link.telling import for_others, waits_for
from leveret.topology.message import too_large
from leveret.topology.names import EVENTS_EXCHANGE, RECORD_QUEUE

MOST_RETURNS = 20
"""How often a message may come back without a verdict, its worker having died each time, before it is buried."""
NOTHING: Mapping[str, Command] = MappingProxyType({})
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
_STUCK_SECONDS = 1.0
_TRIES_HELD = 4
"""So often, in seven seconds at least, the queue of who waits may refuse to hear how a task ended that is held for it.

RabbitMQ 4.3 refuses what goes to a classic queue while its node is down, and to a quorum queue that has no leader.
"""
_MOST_LATE_BYTES = 16 * 1024 * 1024


class Settlement:
    """Settles the deliveries of a worker.

    `cancels` says by id what is cancelled, and `is_cancelled` whether that is so of a delivery whose id is there.
    `returns_excused` are returns of a message that say nothing against it, `followed` the names of tasks that are
    followed whatever their messages say. `on_no_ladder` is called when what is to run later finds no ladder of delays,
    `on_stuck` each second with the deliveries that have waited longer than that for a confirm, and once with none.
    """

    def __init__(
        self,
        outbox: Outbox,
        worker: str,
        limit_bytes: int,
        returns_excused: Callable[[Delivery], int],
        observers: Iterable[Observer],
        followed: Collection[str] = (),
        cancels: Mapping[str, Command] = NOTHING,
        is_cancelled: Callable[[Delivery], bool] = lambda _delivery: False,
        on_no_ladder: Callable[[], None] = lambda: None,
        on_stuck: Callable[[Sequence[Delivery]], None] = lambda _stuck: None,
    ) -> None:
        self._outbox = outbox
        self._worker = worker
        self._limit_bytes = limit_bytes
        self._returns_excused = returns_excused
        self._observers = tuple(observers)
        self._followed = frozenset(followed)
        self._cancels = cancels
        self._is_cancelled = is_cancelled
        self._on_no_ladder = on_no_ladder
        self._on_stuck = on_stuck
        self._seen_unconfirmed: set[Delivery] = set()
        self._look_soon: asyncio.TimerHandle | None = None
        self._closings = Closings(worker)
        self._close_soon: asyncio.Handle | None = None
        self._late_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._products: dict[Delivery, int] = {}  # how many have to be confirmed before the delivery is acknowledged
        self._settled: list[Settled] = []
        self._tell_soon: asyncio.Handle | None = None
        self.is_stopping = False
        """Whether what comes is handed back, for the worker is about to leave."""
        self.last_nack = 0.0
        """When a message was last rejected, by `time.monotonic`."""
        self.outcome_known = asyncio.Event()

    @property
    def unconfirmed(self) -> list[Delivery]:
        """The deliveries that wait for their products to be confirmed, and can still be settled."""
        return [delivery for delivery in self._products if delivery.settler.is_open]

    def admit(self, delivery: Delivery) -> Answer:
        """Settle a delivery that has come and is not to run; the gate that all of them pass first."""
        if delivery.returns:
            delivery.returns -= self._returns_excused(delivery)
        if self.is_stopping:
            delivery.settler.nack(delivery.tag, requeue=True)
        elif delivery.returns > MOST_RETURNS:
            text = (
                f"delivered {delivery.returns + 1} times without a verdict; its worker died or lost its link each time"
            )
            failure = Failure("DeliveredTooOften", text, "", "DeliveredTooOften")
            self.settle(delivery, Outcome(Ending.DELIVERED_TOO_OFTEN, "", 0.0, failure))
        elif len(delivery.body) > self._limit_bytes:
            self.settle(delivery, _too_large(delivery, self._limit_bytes))
        elif self._cancels and self._is_cancelled(delivery):
            self.cancel(delivery)
        elif not delivery.id or delivery.is_forged:
            self._acknowledge_after(delivery, [stamped_copy(delivery)])
        else:
            return Answer.BEGIN
        return Answer.NEVER

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Carry out what follows from an outcome."""
        self.outcome_known.set()
        verdict = decide(outcome.ending, delivery.attempt, delivery.queue.attempts)
        if not delivery.settler.is_open:
            self._note(Settled(delivery, outcome, None))
            return
        if self._followed and outcome.task in self._followed and not delivery.reply_to:
            delivery.reply_to = RECORD_QUEUE
        if verdict is Verdict.LATER:
            outcome, verdict = bounded(delivery, outcome)
        products = products_of(delivery, outcome, verdict, self._worker)
        if delivery.reply_to and verdict is not Verdict.RETRY and verdict is not Verdict.LATER:
            self._acknowledge_after(delivery, products, more=1)
            self._closings.add(delivery, outcome, verdict)
            if self._close_soon is None:
                self._close_soon = self._loop.call_soon(self._tell_closings)
        elif products:
            self._acknowledge_after(delivery, products)
        elif verdict is Verdict.RETRY:
            self.last_nack = time.monotonic()
            delivery.settler.nack(delivery.tag, requeue=False)
        else:
            delivery.settler.ack(delivery.tag)
        self._note(Settled(delivery, outcome, verdict))

    def cancel(self, delivery: Delivery) -> None:
        """Settle one that was cancelled before it began."""
        self.settle(delivery, Outcome(Ending.CANCELLED, delivery.task_name(), 0.0))

    def give_up(self) -> None:
        """Wait for no confirm any more; what comes out of it is not acknowledged."""
        self._products.clear()
        self._seen_unconfirmed.clear()
        if self._look_soon:
            self._look_soon.cancel()

    def tell_observers(self) -> None:
        """Tell what was settled since the last time, now."""
        self._tell_soon = None
        settled, self._settled = self._settled, []
        for observer in self._observers if settled else ():
            try:
                observer(settled)
            except Exception as error:  # noqa: BLE001 - it only looks on, and the work goes on without it
                event(logging.ERROR, f"an observer failed: {type(error).__name__}: {error}")

    def _note(self, settled: Settled) -> None:
        self._settled.append(settled)
        if self._tell_soon is None:
            self._tell_soon = self._loop.call_soon(self.tell_observers)

    def _acknowledge_after(self, delivery: Delivery, products: Sequence[Outgoing], more: int = 0) -> None:
        """Publish the products, then acknowledge the delivery; without a confirm of each it stays ours.

        So many more will be published for it.
        """
        self._products[delivery] = len(products) + more
        if self._look_soon is None:
            self._look_soon = self._loop.call_later(_STUCK_SECONDS, self._look_for_stuck)
        for product in products:
            self._publish([delivery], product)

    def _look_for_stuck(self) -> None:
        """Tell of what was unconfirmed at the last look already; nothing more is to be told once none is."""
        unconfirmed = set(self.unconfirmed)
        stuck = unconfirmed & self._seen_unconfirmed
        self._on_stuck([*stuck])
        self._seen_unconfirmed = unconfirmed
        self._look_soon = self._loop.call_later(_STUCK_SECONDS, self._look_for_stuck) if unconfirmed or stuck else None

    def _tell_closings(self) -> None:
        self._close_soon = None
        for deliveries, product in self._closings.take():
            self._publish(deliveries, product)

    def _publish(self, deliveries: Sequence[Delivery], product: Outgoing, failed_tries: int = 0) -> None:
        """Publish what is a product of each of these."""
        if not any(delivery in self._products for delivery in deliveries):
            return  # they were handed back

        def on_outcome(error: LeveretError | None) -> None:
            left = [delivery for delivery in deliveries if delivery in self._products]
            is_unheard = isinstance(error, NotRouted) and product.route.exchange == EVENTS_EXCHANGE  # nobody listens
            if error is None or is_unheard or not any(delivery.settler.is_open for delivery in left):
                for delivery in left:
                    self._note_confirmed(delivery)
                return
            if isinstance(error, NotRouted) and product.route.exchange in ENTRANCES:
                self._on_no_ladder()
            if isinstance(error, (Nacked, ConfirmTimeout)) and failed_tries >= _TRIES_HELD and waits_for(product):
                self._publish(left, for_others(product))
                self._tell_late(product)
                return
            if failed_tries == 0:
                exchange, key = product.route
                event(logging.ERROR, f"keeping {product.id} until {exchange!r} takes it for {key!r}: {error}")
            self._loop.call_later(_pause(failed_tries), self._publish, left, product, failed_tries + 1)

        self._outbox.send(product, on_outcome)

    def _tell_late(self, product: Outgoing) -> None:
        """Go on trying to tell who waits, though nothing is held for it any more: in memory, and so much of it."""
        if self._late_bytes + len(product.body) > _MOST_LATE_BYTES:
            event(logging.ERROR, f"{product.id} is not told to who waits: queues refuse, and much is kept for them")
            return
        self._late_bytes += len(product.body)
        tries = itertools.count(_TRIES_HELD)

        def send() -> None:
            self._outbox.send(product, on_outcome)

        def on_outcome(error: LeveretError | None) -> None:
            if error is None or isinstance(error, NotRouted):  # it has gone, for nobody waits
                self._late_bytes -= len(product.body)
            else:
                self._loop.call_later(_pause(next(tries)), send)

        event(
            logging.WARNING, f"keeping {product.id} for who waits, whose queue refuses it; its tasks are acknowledged"
        )
        self._loop.call_later(_pause(next(tries)), send)

    def _note_confirmed(self, delivery: Delivery) -> None:
        self._products[delivery] -= 1
        if not self._products[delivery]:
            del self._products[delivery]
            self._seen_unconfirmed.discard(delivery)  # its body may be large
            delivery.settler.ack(delivery.tag)


def _pause(failed_tries: int) -> float:
    return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0**failed_tries)


def _too_large(delivery: Delivery, limit_bytes: int) -> Outcome:
    """Return the outcome of a message that no child is given."""
    text = too_large(len(delivery.body), limit_bytes, "the message body")
    return Outcome(Ending.UNREADABLE, "", 0.0, Failure("MessageTooLarge", text, "", "MessageTooLarge"))
