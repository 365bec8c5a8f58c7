"""What is told of a message that was given up, by a broker that is played here: its late answers are nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from leveret.topology.errors import BrokerUnreachable, ConfirmTimeout, LeveretError, NotRouted
from leveret.topology.link import confirm_link
from leveret.topology.link.asking import within_limit
from leveret.topology.link.outbox import Outbox, Outgoing
from leveret.topology.names import Route
from leveret.topology.settings import Settings

_TIMEOUT_SECONDS = 0.3


class Channel:
    """Keeps the callbacks."""

    is_open = True

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self.give_back = callback

    def add_on_close_callback(self, callback: Callable[..., None]) -> None:
        self.end = callback


class Connection:
    """Takes everything, and answers when told to."""

    is_closed = False

    def __init__(self) -> None:
        self.published: list[tuple[str, str]] = []
        self.is_given_up = False

    def on_confirms(self, _channel: Channel, on_confirm: Callable[[int, bool, bool], None]) -> None:
        self.confirm = on_confirm

    def publish(self, _channel: Channel, _exchange: str, key: str, _body: bytes, properties: Any) -> None:
        self.published.append((properties.message_id, key))

    def add_on_connection_blocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        self.block = callback

    def add_on_connection_unblocked_callback(self, callback: Callable[[Any, Any], None]) -> None:
        self.unblock = callback

    def judge_bodies(self, _channel: Channel, may_keep: Callable[[int], bool]) -> None:
        assert not may_keep(1)  # nothing is needed of what comes back

    def send_written(self) -> None:
        pass

    def give_up(self) -> None:
        self.is_given_up = True


class Play:
    """An outbox, the connections it opened, and the outcomes it told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connections: list[Connection] = []
        self.channels: list[Channel] = []
        self.refusals: list[LeveretError] = []
        self.outcomes: dict[str, list[LeveretError | None]] = {}
        self.opening_seconds = 0.0

        async def connect(*_: object) -> Connection:
            await asyncio.sleep(self.opening_seconds)
            self.connections.append(Connection())
            return self.connections[-1]

        async def open_channel(_: Connection) -> Channel:
            if self.refusals:
                raise self.refusals.pop()
            self.channels.append(Channel())
            return self.channels[-1]

        monkeypatch.setattr(confirm_link, "connect", connect)
        monkeypatch.setattr(confirm_link, "open_channel", open_channel)
        self.outbox = Outbox(Settings(publish_timeout_seconds=_TIMEOUT_SECONDS), "test")

    def send(self, message_id: str, key: str = "k", timeout_seconds: float | None = None) -> None:
        told = self.outcomes.setdefault(message_id, [])
        properties = pika.BasicProperties(message_id=message_id)
        self.outbox.send(Outgoing(Route("x", key), b"", properties), told.append, timeout_seconds)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def opened(self) -> Connection:
        """A connection that has shown a moment ago that it confirms."""
        self.send("first")
        await self.until(lambda: self.connections and self.connections[0].published)
        return self.connections[0]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Play]:
    return lambda: Play(monkeypatch)


def test_late_answers_are_nobodys(play: Callable[[], Play]) -> None:
    """The confirm and the return of what was given up end no message that was sent under its id since."""

    async def late() -> None:
        stage = play()
        connection = await stage.opened()
        stage.send("again")
        await stage.until(lambda: len(connection.published) == 2)
        connection.confirm(1, False, False)

        def confirm_another() -> bool:
            stage.send("other")
            connection.confirm(len(connection.published), False, False)
            return bool(stage.outcomes["again"])

        await stage.until(confirm_another)
        stage.send("again", "elsewhere")
        count = len(connection.published)
        assert connection.published[-1] == ("again", "elsewhere")

        returned = SimpleNamespace(exchange="x", routing_key="k")
        stage.channels[0].give_back(stage.channels[0], returned, pika.BasicProperties(message_id="again"), b"")
        connection.confirm(2, False, False)
        assert len(stage.outcomes["again"]) == 1
        connection.confirm(count, False, False)

        given_up, confirmed = stage.outcomes["again"]
        assert isinstance(given_up, ConfirmTimeout)
        assert confirmed is None
        assert not connection.is_given_up
        assert set(stage.outcomes["other"]) == {None}

    asyncio.run(late())


def test_a_return_of_its_own_is(play: Callable[[], Play]) -> None:
    """A message that comes back by the way it went was not routed."""

    async def returned() -> None:
        stage = play()
        connection = await stage.opened()
        method = SimpleNamespace(exchange="x", routing_key="k")
        stage.channels[0].give_back(stage.channels[0], method, pika.BasicProperties(message_id="first"), b"")
        connection.confirm(1, False, False)

        assert [type(outcome) for outcome in stage.outcomes["first"]] == [NotRouted]

    asyncio.run(returned())


def test_a_neighbour_of_what_was_given_up_is_not_blamed(play: Callable[[], Play]) -> None:
    """What closed the channel may be what was given up; the only message that is left is sent again."""

    async def closed() -> None:
        stage = play()
        connection = await stage.opened()
        connection.confirm(1, False, False)
        stage.send("to nowhere")
        connection.block(connection, SimpleNamespace(method=SimpleNamespace(reason="memory")))
        await stage.until(lambda: stage.outcomes["to nowhere"])
        connection.unblock(connection, None)
        stage.send("innocent")
        stage.channels[0].end(stage.channels[0], ChannelClosedByBroker(404, "no exchange"))
        await stage.until(lambda: len(stage.channels) == 2)
        connection.confirm(1, False, False)

        assert stage.outcomes["innocent"] == [None]
        assert [key for key, _ in connection.published].count("innocent") == 2

    asyncio.run(closed())


@pytest.mark.parametrize("opening_seconds", [0.0, _TIMEOUT_SECONDS / 2])
def test_silence_ends_the_connection(play: Callable[[], Play], opening_seconds: float) -> None:
    """Where nothing at all is confirmed for as long as a publish may wait, what has time left goes by another.

    That is so, too, where it was not silent for so long yet when the first was late, for it had opened meanwhile.
    """

    async def silent() -> None:
        stage = play()
        stage.opening_seconds = opening_seconds
        connection = await stage.opened()
        stage.send("younger", timeout_seconds=60)
        await stage.until(lambda: len(stage.connections) == 2 and stage.connections[1].published)
        stage.connections[1].confirm(1, False, False)

        assert connection.is_given_up
        assert isinstance(stage.outcomes["first"][0], ConfirmTimeout)
        assert stage.connections[1].published == [("younger", "k")]
        assert stage.outcomes["younger"] == [None]

    asyncio.run(silent())


def test_a_connection_without_a_channel_is_not_left_open(play: Callable[[], Play]) -> None:
    """A broker that refuses the channel may keep the connection; the next try has one of its own."""

    async def refused() -> None:
        stage = play()
        stage.refusals.append(BrokerUnreachable("no channel"))
        stage.send("first")
        await stage.until(lambda: len(stage.connections) == 2 and stage.connections[1].published)

        assert stage.connections[0].is_given_up
        assert not stage.connections[1].is_given_up

    asyncio.run(refused())


def test_closing_ends_though_an_answer_comes_together_with_the_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being connected is not tried again, and nothing of it goes on."""

    async def close() -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def connect(*_: object) -> None:
            await within_limit(answer, "amqp://rabbit/")
            raise BrokerUnreachable("it answered this moment")

        monkeypatch.setattr(confirm_link, "connect", connect)
        made = Outbox(Settings(publish_timeout_seconds=0.1), "test")
        ended: list[LeveretError | None] = []
        made.send(Outgoing(Route("x", "k"), b"", pika.BasicProperties(message_id="m")), ended.append)
        await asyncio.sleep(0)
        answer.set_result(None)
        await asyncio.wait_for(made.close(), 20)
        assert len(ended) == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(close())
