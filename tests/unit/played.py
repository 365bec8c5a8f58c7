"""A broker that is played: it has one answer to each method, for what a real one does only when it fails."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pika import frame, spec

Answers = Mapping[Any, bytes | Callable[[int], bytes]]
"""What is sent when a method comes, perhaps made for the number of its channel."""

HANDSHAKE = {
    frame.ProtocolHeader: frame.Method(
        0, spec.Connection.Start(0, 9, {"capabilities": {"publisher_confirms": True, "basic.nack": True}})
    ).marshal(),
    spec.Connection.StartOk: frame.Method(0, spec.Connection.Tune(10, 131_072, 0)).marshal(),
    spec.Connection.Open: frame.Method(0, spec.Connection.OpenOk()).marshal(),
    spec.Connection.Close: frame.Method(0, spec.Connection.CloseOk()).marshal(),
}
CHANNELS = {
    **HANDSHAKE,
    spec.Channel.Open: lambda number: frame.Method(number, spec.Channel.OpenOk()).marshal(),
    spec.Channel.Close: lambda number: frame.Method(number, spec.Channel.CloseOk()).marshal(),
}
HANG_UP = b""


class Played:
    """A broker on a port of its own that has one answer to each method, and says nothing to any other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._clients: list[socket.socket] = []
        self._hears = threading.Condition()
        self.heard: list[Any] = []
        """The methods that came, of all connections."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread
        self._listener.close()

    def await_method(self, method: Any) -> None:
        """Wait until this has come."""
        with self._hears:
            assert self._hears.wait_for(lambda: method in self.heard, 60), f"{method} never came"

    def send(self, data: bytes) -> None:
        """Say something unasked, on the first connection."""
        self._clients[0].sendall(data)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        received = b""
        with client, contextlib.suppress(ConnectionError):
            while data := client.recv(10_000):
                received += data
                while received:
                    size, value = frame.decode_frame(received)
                    if value is None:
                        break
                    received = received[size:]
                    method = getattr(value, "method", value)
                    with self._hears:
                        self.heard.append(type(method))
                        self._hears.notify_all()
                    answer = self._answers.get(type(method))
                    if answer == HANG_UP:
                        return
                    if answer:
                        client.sendall(answer if isinstance(answer, bytes) else answer(value.channel_number))
