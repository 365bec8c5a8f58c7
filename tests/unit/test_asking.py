"""Asking the broker: it answers, refuses in our words, or is given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pika.exceptions import ChannelClosedByBroker, ChannelWrongStateError, StreamLostError

from leveret.topology.errors import AccessRefused, BrokerUnreachable, LeveretError, TopologyError
from leveret.topology.link import asking
from leveret.topology.link.asking import Asking, open_channel

URL = "amqp://me:secret@rabbit/"


class Channel:
    """Keeps its callback."""

    def __init__(self) -> None:
        self.connection = SimpleNamespace(url=URL)

    def add_on_close_callback(self, callback: Callable[[Any, BaseException], None]) -> None:
        self.close = callback


def asked(
    channel: Channel,
    send: Callable[[asking.Answer], object],
    told: Callable[[LeveretError], None] = lambda _error: None,
) -> Any:
    """What asking comes to."""

    async def ask() -> Any:
        return await Asking(channel, "queue 'mail'", told).ask(send)

    return asyncio.run(ask())


def test_an_answer_is_returned() -> None:
    """Whether it comes at once or later."""

    def later(answer: asking.Answer) -> None:
        asyncio.get_running_loop().call_soon(answer, 8)

    assert asked(Channel(), lambda answer: answer(7)) == 7
    assert asked(Channel(), later) == 8


@pytest.mark.parametrize(
    ("reason", "kind", "said"),
    [
        (ChannelClosedByBroker(404, "NOT_FOUND - no queue 'mail'"), TopologyError, "leveret declare -a MODULE"),
        (ChannelClosedByBroker(403, "ACCESS_REFUSED"), AccessRefused, r"refused queue 'mail'.*the read right"),
        (ChannelClosedByBroker(541, "INTERNAL_ERROR"), BrokerUnreachable, "channel of queue 'mail': 541 INTERNAL"),
        (StreamLostError("gone"), BrokerUnreachable, r"amqp://me:\*\*\*@rabbit/"),
    ],
)
def test_what_closes_the_channel_is_raised(reason: Exception, kind: type[LeveretError], said: str) -> None:
    """In our words, with the cure; and of whatever is asked afterwards, too."""
    channel = Channel()

    async def ask() -> None:
        asks = Asking(channel, "queue 'mail'")
        with pytest.raises(kind, match=said):
            await asks.ask(lambda _answer: channel.close(channel, reason))
        with pytest.raises(kind, match=said):
            await asks.ask(lambda answer: answer(7))

    asyncio.run(ask())


def test_a_channel_that_is_closed_before_it_is_asked() -> None:
    """What pika raises then is no answer."""

    def send(_answer: asking.Answer) -> None:
        raise ChannelWrongStateError("closed")

    with pytest.raises(BrokerUnreachable):
        asked(Channel(), send)


def test_silence_ends_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not answer is given up in time, and who has to know is told."""
    monkeypatch.setattr(asking, "ANSWER_TIMEOUT_SECONDS", 0.05)
    told: list[LeveretError] = []

    with pytest.raises(BrokerUnreachable, match=r"has not answered for 0\.05 s") as caught:
        asked(Channel(), lambda _answer: None, told.append)
    assert told == [caught.value]


def test_a_channel_that_is_never_opened_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening is a question like any other."""
    monkeypatch.setattr(asking, "ANSWER_TIMEOUT_SECONDS", 0.05)
    connection = SimpleNamespace(url=URL, channel=lambda **_: Channel())

    with pytest.raises(BrokerUnreachable, match="has not answered"):
        asyncio.run(open_channel(connection))


def test_who_is_cancelled_as_the_answer_comes_stays_cancelled() -> None:
    """A recorder that was told to stop at such a moment would never have ended."""

    async def ask() -> None:
        answers: list[asking.Answer] = []
        asks = asyncio.ensure_future(Asking(Channel(), "queue 'mail'").ask(answers.append))
        await asyncio.sleep(0)
        answers[0](7)
        asks.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asks

    asyncio.run(ask())
