"""Connecting: the pauses between tries, and brokers that fall silent or hang up. The rest needs a real one."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pika import frame, spec

from topology import connection
from topology.connection import backoff_seconds, check, check_any, close, connect, declaring
from topology.errors import BrokerUnreachable
from topology.settings import Settings

Answers = Mapping[Any, bytes]

HANDSHAKE = {
    frame.ProtocolHeader: frame.Method(0, spec.Connection.Start(0, 9, {})).marshal(),
    spec.Connection.StartOk: frame.Method(0, spec.Connection.Tune(10, 131_072, 0)).marshal(),
    spec.Connection.Open: frame.Method(0, spec.Connection.OpenOk()).marshal(),
    spec.Connection.Close: frame.Method(0, spec.Connection.CloseOk()).marshal(),
}
HANG_UP = b""


class Played:
    """A broker on a port of its own that has one answer to each method, and says nothing to any other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        received = b""
        with client:
            while data := client.recv(10_000):
                received += data
                while received:
                    size, value = frame.decode_frame(received)
                    if value is None:
                        break
                    received = received[size:]
                    method = getattr(value, "method", value)
                    answer = self._answers.get(type(method))
                    if answer == HANG_UP:
                        return
                    client.sendall(answer or b"")


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
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT_SECONDS", 0.2)
    silent, good = play({}), play(HANDSHAKE)
    text = "127.0.0.1.* accepted the connection and then did not answer in time"

    with pytest.raises(BrokerUnreachable, match=text):
        check(silent, 0.2)
    with pytest.raises(BrokerUnreachable, match=text), declaring(Settings(silent)):
        pass
    with pytest.raises(BrokerUnreachable, match=text):
        asyncio.run(connect_and_close(silent))
    check_any(Settings(f"{silent};{good}"))
    assert asyncio.run(connect_and_close(f"{silent};{good}")) == good


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
