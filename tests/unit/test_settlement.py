"""Settlement: nothing is acknowledged before what it has to leave behind is confirmed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pika
import pytest

from leveret import Route, WorkQueue
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.settling import settlement as settlement_module
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.settlement import MOST_RETURNS, Settlement
from leveret.consumers.settling.verdict import Verdict
from leveret.topology.errors import LeveretError, Nacked, NotRouted
from leveret.topology.link.outbox import Outgoing

QUEUE = WorkQueue("settles", retry_delays=(1,))
DONE = Outcome(Ending.RETURNED, "settles.it", 0.1)
FAILED = Outcome(Ending.RAISED, "settles.it", 0.1, Failure("ValueError", "no"))


class Body(bytearray):
    """One that can be referred to weakly."""


class Stage:
    """A settlement whose outbox and channel only note what they are told."""

    def __init__(
        self,
        excused: int = 0,
        observers: tuple[Callable[[Any], None], ...] = (),
        on_stuck: Callable[[Sequence[Delivery]], None] = lambda _stuck: None,
    ) -> None:
        self.sent: list[tuple[Outgoing, Callable[[LeveretError | None], None]]] = []
        self.said: list[tuple[str, int]] = []
        self.is_open = True
        self.observed: list[Settled] = []
        outbox: Any = SimpleNamespace(send=lambda outgoing, then: self.sent.append((outgoing, then)))
        looking = (*observers, self.observed.extend)
        self.settlement = Settlement(outbox, "host:1", 100, lambda _delivery: excused, looking, on_stuck=on_stuck)

    def delivery(self, key: str = "settles", returns: int = 0, **properties: Any) -> Delivery:
        exchange = "tasks.again" if "@" in key else "tasks.direct"
        method = pika.spec.Basic.Deliver("", len(self.said) + 1, bool(returns), exchange, key)
        headers = {**properties.pop("headers", {}), **({"x-delivery-count": returns} if returns else {})}
        made = pika.BasicProperties(**{"message_id": "m", "headers": headers or None, **properties})
        stage = self

        class Settler:
            @property
            def is_open(self) -> bool:
                return stage.is_open

            def ack(self, tag: int) -> bool:
                stage.said.append(("ack", tag))
                return True

            def nack(self, tag: int, requeue: bool) -> bool:
                stage.said.append(("requeue" if requeue else "nack", tag))
                return True

        return Delivery(Settler(), QUEUE, method, made, b"{}")  # type: ignore[arg-type]


def played(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a play on a loop."""
    asyncio.run(play())


def test_what_returned_is_acknowledged() -> None:
    """At once, and whoever looks on is told with the verdict."""

    async def play() -> None:
        stage = Stage()
        delivery = stage.delivery()
        stage.settlement.settle(delivery, DONE)
        assert stage.said == [("ack", 1)]
        assert stage.observed == []
        await asyncio.sleep(0)
        assert stage.observed == [Settled(delivery, DONE, Verdict.DONE)]

    played(play)


def test_a_failure_is_rejected_and_the_last_one_buried() -> None:
    """A nack leaves nothing behind; a dead message is acknowledged when its copy is confirmed, not before."""

    async def play() -> None:
        stage = Stage()
        stage.settlement.settle(stage.delivery(), FAILED)
        assert stage.said == [("nack", 1)]

        dead = stage.delivery("settles@2")
        stage.settlement.settle(dead, FAILED)
        ((copy, then),) = stage.sent
        assert copy.route == Route.dead("settles")
        assert (stage.said, stage.settlement.unconfirmed) == ([("nack", 1)], [dead])
        then(None)
        assert (stage.said[1:], stage.settlement.unconfirmed) == ([("ack", 2)], [])

    played(play)


def test_every_product_has_to_be_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several, the last confirm lets the delivery go; one that is refused is sent again."""
    monkeypatch.setattr(settlement_module, "products_of", lambda *_: [copy("a"), copy("b")])
    monkeypatch.setattr(settlement_module, "_FIRST_PAUSE_SECONDS", 0.01)

    def copy(name: str) -> Any:
        return SimpleNamespace(id=name, route=Route.dead(name))

    async def play() -> None:
        stage = Stage()
        stage.settlement.settle(stage.delivery(), DONE)
        (_, first), (_, second) = stage.sent
        first(None)
        second(Nacked("full"))
        assert stage.said == []
        assert (await sent(stage, 2)).id == "b"
        stage.sent[2][1](None)
        assert stage.said == [("ack", 1)]

    played(play)


def test_nothing_is_held_for_who_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue may lie on a node that is down: the others are told, and it is told once its queue takes that."""
    monkeypatch.setattr(settlement_module, "_FIRST_PAUSE_SECONDS", 0.0)

    async def play() -> None:
        stage = Stage()
        told = await refused(stage, 5)
        assert told.properties.headers == {"CC": ["tasks.reply.1"]}
        assert [one for one, _ in stage.sent[:5]] == [told] * 5

        others = await sent(stage, 5)
        assert (others.properties.headers, others.body) == (None, told.body)
        assert others.id != told.id  # for both may be on their way
        stage.sent[5][1](NotRouted("nobody listens"))
        assert stage.said == [("ack", 1)]

        for number in (6, 7):
            assert await sent(stage, number) == told
            stage.sent[number][1](Nacked("its node is down") if number == 6 else None)
        await asyncio.sleep(0.01)
        assert (len(stage.sent), stage.said) == (8, [("ack", 1)])

    played(play)


def test_what_nobody_takes_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the record refuses it, too, it is not for want of who waits."""
    monkeypatch.setattr(settlement_module, "_FIRST_PAUSE_SECONDS", 0.0)

    async def play() -> None:
        stage = Stage()
        await refused(stage, 12)
        assert stage.said == []

    played(play)


def test_only_so_much_is_kept_for_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more is not tried again."""
    monkeypatch.setattr(settlement_module, "_FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(settlement_module, "_MOST_LATE_BYTES", 0)

    async def play() -> None:
        stage = Stage()
        await refused(stage, 5)
        await sent(stage, 5)
        stage.sent[5][1](None)
        await asyncio.sleep(0.01)
        assert (len(stage.sent), stage.said) == (6, [("ack", 1)])

    played(play)


async def refused(stage: Stage, times: int) -> Outgoing:
    """Settle what somebody waits for, and refuse so many messages that follow; returns the last."""
    stage.settlement.settle(stage.delivery(reply_to="tasks.reply.1"), DONE)
    for number in range(times):
        told = await sent(stage, number)
        assert stage.said == []  # it is held
        stage.sent[number][1](Nacked("its node is down"))
    return told


async def sent(stage: Stage, number: int) -> Outgoing:
    """Wait for one of the messages that are sent."""
    async with asyncio.timeout(10):
        while len(stage.sent) <= number:
            await asyncio.sleep(0.001)
    return stage.sent[number][0]


def test_what_is_confirmed_late_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body may be large, and the next of that size comes as soon as it is acknowledged."""
    monkeypatch.setattr(settlement_module, "_STUCK_SECONDS", 0.001)

    async def play() -> None:
        looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stage = Stage(on_stuck=lambda stuck: looked.set_result(None) if stuck and not looked.done() else None)
        delivery = stage.delivery(returns=MOST_RETURNS + 1)
        delivery.body = Body(b"{}")  # type: ignore[assignment]  # large ones are bytearrays
        body = weakref.ref(delivery.body)
        stage.settlement.admit(delivery)
        del delivery
        await looked
        stage.sent.pop()[1](None)
        stage.observed.clear()
        assert body() is None

    played(play)


def test_what_was_given_up_is_not_acknowledged() -> None:
    """A confirm that comes after the delivery was handed back settles nothing."""

    async def play() -> None:
        stage = Stage()
        stage.settlement.settle(stage.delivery("settles@2"), FAILED)
        stage.settlement.give_up()
        stage.sent[0][1](None)
        assert stage.said == []

    played(play)


def test_a_lost_link_leaves_it_to_the_broker() -> None:
    """Nothing is settled, and the log is told that it comes again."""

    async def play() -> None:
        stage = Stage()
        stage.is_open = False
        delivery = stage.delivery()
        stage.settlement.settle(delivery, DONE)
        stage.settlement.tell_observers()
        assert (stage.said, stage.observed) == ([], [Settled(delivery, DONE, None)])

    played(play)


def test_the_gate_lets_through_what_is_to_run() -> None:
    """An ordinary message begins; one without an id is stamped first, one that came too often is buried."""

    async def play() -> None:
        stage = Stage()
        assert stage.settlement.admit(stage.delivery()) is Answer.BEGIN
        assert (stage.said, stage.sent) == ([], [])

        assert stage.settlement.admit(stage.delivery(message_id=None)) is Answer.NEVER
        assert stage.sent[0][0].route.routing_key == "settles"
        assert stage.settlement.admit(stage.delivery(returns=MOST_RETURNS)) is Answer.BEGIN
        assert stage.settlement.admit(stage.delivery(returns=MOST_RETURNS + 1)) is Answer.NEVER
        assert stage.sent[1][0].properties.headers["failure-type"] == "DeliveredTooOften"

        stage.settlement.is_stopping = True
        assert stage.settlement.admit(stage.delivery()) is Answer.NEVER
        assert stage.said == [("requeue", 1)]

    played(play)


def test_returns_that_say_nothing_are_excused() -> None:
    """What this worker handed back itself is not held against a message."""

    async def play() -> None:
        stage = Stage(excused=5)
        delivery = stage.delivery(returns=MOST_RETURNS + 3)
        assert stage.settlement.admit(delivery) is Answer.BEGIN
        assert delivery.returns == MOST_RETURNS - 2

    played(play)


def test_an_observer_that_fails_is_without_consequence() -> None:
    """The work and the other observers go on."""

    def fail(_settled: Any) -> None:
        raise ValueError("it only looks on")

    async def play() -> None:
        stage = Stage(observers=(fail,))
        stage.settlement.settle(stage.delivery(), DONE)
        stage.settlement.tell_observers()
        assert stage.said == [("ack", 1)]
        assert len(stage.observed) == 1

    played(play)
