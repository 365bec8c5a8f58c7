"""Connecting: the pauses between tries, and brokers that fall silent or hang up. The rest needs a real one."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pika import frame, spec
from pika.channel import Channel

from leveret.topology.apply import connecting
from leveret.topology.apply.connecting import declaring
from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable, SettingsError
from leveret.topology.link import connection
from leveret.topology.link import parameters as parameters_module
from leveret.topology.link.asking import open_channel
from leveret.topology.link.connection import (
    backoff_seconds,
    check,
    check_any,
    close,
    connect,
)
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.parameters import host_and_pid, parameters
from leveret.topology.settings import Settings
from tests.unit.played import CHANNELS, HANDSHAKE, HANG_UP, Answers, Played

FULL = "access to vhost 'a' refused for user 'u': connection limit (3) is reached"


def closing(code: int, text: str) -> bytes:
    """Return what a broker sends that closes the connection."""
    made: bytes = frame.Method(0, spec.Connection.Close(code, text, 0, 0)).marshal()
    return made


@pytest.fixture
def play() -> Iterator[Any]:
    """Make brokers that answer so."""
    played: list[Played] = []

    def make(answers: Answers) -> str:
        played.append(Played(answers))
        return played[-1].url

    yield make
    for broker in played:
        broker.close()


async def connect_and_close(urls: str) -> str:
    """Connect as producers and workers do; returns the URL that led to a broker."""
    opened = await connect(Settings(urls), "test", lambda *_: None)
    await close(opened)
    return opened.url


def test_a_silent_broker(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that accepts and says nothing is told as that, whoever asks, and passed over where there is another."""

    def be_patient(seconds: float) -> None:
        for module in (parameters_module, connection, connecting):
            monkeypatch.setattr(module, "CONNECT_TIMEOUT_SECONDS", seconds)

    be_patient(0.2)
    silent, good = play({}), play(HANDSHAKE)
    text = "127.0.0.1.* accepted the connection and then did not answer in time"

    with pytest.raises(BrokerUnreachable, match=text):
        check(silent, 0.2)
    with pytest.raises(BrokerUnreachable, match=text), declaring(Settings(silent)):
        pass
    with pytest.raises(BrokerUnreachable, match=text):
        asyncio.run(connect_and_close(silent))
    be_patient(2)  # for the other, which may be slow, too
    check_any(Settings(f"{silent};{good}"))
    assert asyncio.run(connect_and_close(f"{silent};{good}")) == good


@pytest.mark.parametrize(
    ("method", "answer", "kind", "text"),
    [
        (spec.Connection.StartOk, HANG_UP, BrokerUnreachable, "ended during the handshake: .*EOF.*; try again"),
        (spec.Connection.Open, HANG_UP, BrokerUnreachable, "ended during the handshake: .*EOF.*; try again"),
        (spec.Connection.StartOk, closing(320, "FORCED - bye"), BrokerUnreachable, "handshake: .*FORCED - bye"),
        (
            spec.Connection.Open,
            closing(541, "INTERNAL_ERROR - vhost 'a' is down"),
            BrokerUnreachable,
            "vhost 'a' is dow",
        ),
        (spec.Connection.Open, closing(530, f"NOT_ALLOWED - {FULL}"), BrokerUnreachable, re.escape(FULL)),
        (
            spec.Connection.StartOk,
            closing(403, "ACCESS_REFUSED - Login was refused"),
            AccessRefused,
            "user 'guest' or its",
        ),
        (
            spec.Connection.Open,
            closing(530, "NOT_ALLOWED - vhost a not found"),
            AccessRefused,
            "no virtual host '/' for",
        ),
        (
            spec.Connection.Open,
            closing(530, "NOT_ALLOWED - access to vhost 'a' refused"),
            AccessRefused,
            "give the righ",
        ),
    ],
)
def test_a_handshake_that_ends(method: Any, answer: bytes, kind: type[BrokerError], text: str, play: Any) -> None:
    """Only what the broker refused is told as refused: a broker that is killed at that moment comes back."""
    url = play({**HANDSHAKE, method: answer})

    with pytest.raises(kind, match=text):
        check(url)
    with pytest.raises(kind, match=text):
        asyncio.run(connect_and_close(url))


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (spec.Connection.StartOk, "refused user 'a@b' or its password"),
        (spec.Connection.Open, "no virtual host 'x/y z' for user 'a@b': .* set_permissions -p 'x/y z' a@b "),
    ],
)
def test_names_are_told_as_the_broker_knows_them(method: Any, text: str, play: Any) -> None:
    """User and virtual host of the URL are unquoted, and in a command as a shell takes them."""
    url = play({**HANDSHAKE, method: closing(403, "ACCESS_REFUSED - no")}).replace("guest:guest", "a%40b:pw")

    with pytest.raises(AccessRefused, match=text):
        check(f"{url}x%2Fy%20z")


def test_a_socket_that_cannot_be_made(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """pika tells nobody of an error of the system at that point; whoever connects still hears that it failed."""
    monkeypatch.setattr(connection, "_GIVE_UP_SECONDS", 0.2)
    url = f"{play(HANDSHAKE)}?tcp_options={{'TCP_KEEPCNT':-1}}"

    with pytest.raises(BrokerUnreachable, match=r"does not answer: connecting came to no end within 0\.2 s"):
        asyncio.run(connect_and_close(url))


async def closed_before_open(url: str) -> None:
    """Ask for a channel of a broker that does not open it."""
    opened = await connect(Settings(url), "test", lambda *_: None)
    try:
        await open_channel(opened)
    finally:
        await close(opened)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (frame.Method(1, spec.Channel.Close(504, "CHANNEL_ERROR - no", 20, 10)).marshal(), "504 CHANNEL_ERROR - no"),
        (closing(320, "FORCED - leaving"), "320 FORCED - leaving"),
        (closing(530, "NOT_ALLOWED - too many"), "530 NOT_ALLOWED - too many"),
        (HANG_UP, "EOF"),
    ],
    ids=["channel closed", "broker leaves", "too many", "hung up"],
)
def test_a_channel_that_is_closed_before_it_is_open(answer: bytes, text: str, play: Any) -> None:
    """Nobody waits for it for ever: the error says what the broker said."""
    with pytest.raises(BrokerUnreachable, match=text):
        asyncio.run(closed_before_open(play({**HANDSHAKE, spec.Channel.Open: answer})))


def test_a_channel_on_a_connection_that_is_closing(play: Any) -> None:
    """It is refused at once."""

    async def open_late() -> None:
        opened = await connect(Settings(play(HANDSHAKE)), "test", lambda *_: None)
        opened.close()
        await open_channel(opened)

    with pytest.raises(BrokerUnreachable, match="open connection"):
        asyncio.run(open_late())


def test_more_channels_than_the_broker_allows(play: Any) -> None:
    """The one too many is an error."""

    async def open_eleven() -> None:
        opened = await connect(Settings(play(CHANNELS)), "test", lambda *_: None)
        for _ in range(10):
            await open_channel(opened)
        await open_channel(opened)

    with pytest.raises(BrokerUnreachable, match="NoFreeChannels"):
        asyncio.run(open_eleven())


def test_a_closed_channel_is_forgotten(play: Any) -> None:
    """A connection that outlives many channels keeps none of them."""

    async def open_and_close_many() -> list[Channel]:
        opened = await connect(Settings(play(CHANNELS)), "test", lambda *_: None)
        for _ in range(5):
            channel = await open_channel(opened)
            closed = asyncio.Event()
            channel.add_on_close_callback(lambda *_, closed=closed: closed.set())
            channel.close()
            await closed.wait()
        del channel
        gc.collect()
        alive = [one for one in gc.get_objects() if type(one) is Channel and one.connection is opened]
        await close(opened)
        return alive

    assert asyncio.run(open_and_close_many()) == []


@pytest.mark.parametrize(
    "query", ["client_properties=(", "tcp_options=5", "heartbeat=-1", "heartbeat=65536", "unknown=1"]
)
def test_options_that_cannot_be(query: str) -> None:
    """What pika does not take from the URL, or cannot send, is a setting that is refused."""
    with pytest.raises(SettingsError, match="is not usable"):
        parameters(f"amqp://host/?{query}", "test", Settings())


def test_pauses_grow_to_a_second() -> None:
    """The first are short, none is longer than a second, however often it has failed."""
    for failed_tries, longest in ((0, 0.1), (1, 0.2), (3, 0.8), (4, 1.0), (10_000, 1.0)):
        pauses = [backoff_seconds(failed_tries) for _ in range(200)]
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest


def test_many_do_not_try_at_the_same_moment() -> None:
    """The pauses of many that failed equally often spread over half of the time."""
    pauses = [backoff_seconds(9) for _ in range(1000)]

    assert max(pauses) - min(pauses) > 0.3
    assert len(set(pauses)) > 900


def test_a_process_is_named_by_host_and_number() -> None:
    """Messages, logs and the management UI say which process on which host."""

    assert host_and_pid() == f"{os.uname().nodename}:{os.getpid()}"


def test_who_is_cancelled_as_it_opens_leaves_no_connection(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would have closed it."""
    played: list[asyncio.Future[Any]] = []
    ended = asyncio.Event()

    class Cancelling(FastConnection):
        """Cancels who connects once it is open."""

        def __init__(self, made: Any, on_open_callback: Any, **more: Any) -> None:
            def on_open(opened: Any) -> None:
                on_open_callback(opened)
                played[0].cancel()

            super().__init__(made, on_open_callback=on_open, **more)

    monkeypatch.setattr(connection, "FastConnection", Cancelling)

    async def story() -> None:
        played.append(asyncio.ensure_future(connect(Settings(play(HANDSHAKE)), "test", lambda *_: ended.set())))
        with pytest.raises(asyncio.CancelledError):
            await played[0]
        await ended.wait()

    asyncio.run(story())
