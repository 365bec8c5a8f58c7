"""The fault proxy, before an echo server."""

import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.faults.proxy import Direction, Proxy

URL = "amqp://guest:secret@{}/vhost"


class EchoServer:
    """Sends back what it gets; `received` is all of it, `ends` how each connection ended."""

    def __init__(self) -> None:
        self.received = b""
        self.ends: list[str] = []
        self.ended = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        end = "closed"
        with connection:
            try:
                while data := connection.recv(1000):
                    self.received += data
                    connection.sendall(data)
            except (ConnectionResetError, BrokenPipeError):
                end = "reset"
        with self.ended:
            self.ends.append(end)
            self.ended.notify_all()

    def await_end(self) -> str:
        """Wait for a connection to end, and say how."""
        with self.ended:
            assert self.ended.wait_for(lambda: self.ends, 10)
            return self.ends[-1]


@pytest.fixture
def server() -> Iterator[EchoServer]:
    made = EchoServer()
    yield made
    made.listener.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 10)


def answer(client: socket.socket, said: bytes) -> bytes:
    """Say something and return as many bytes as come back for it."""
    client.sendall(said)
    return read(client, len(said))


def read(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (more := client.recv(count - len(got))):
        got += more
    return got


def is_silent(client: socket.socket) -> bool:
    """Whether nothing comes within a moment, neither bytes nor an end."""
    client.settimeout(0.2)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def test_forwards(client: socket.socket, proxy: Proxy) -> None:
    """Bytes pass both ways."""
    assert answer(client, b"hello" * 100_000) == b"hello" * 100_000
    assert proxy.connections == 1


def test_url(proxy: Proxy) -> None:
    """A client of the proxy has the same user and virtual host."""
    assert proxy.url(URL.format("broker:5672")) == URL.format(f"127.0.0.1:{proxy.port}")


def test_before(server: EchoServer) -> None:
    """A proxy before the broker of a URL forwards to it."""
    with Proxy.before(URL.format(f"127.0.0.1:{server.port}")) as proxy, connect(proxy) as client:
        assert answer(client, b"hello") == b"hello"


def test_end_is_forwarded(client: socket.socket, server: EchoServer) -> None:
    """The server learns that the client has left."""
    assert answer(client, b"x") == b"x"
    client.close()

    assert server.await_end() == "closed"


def test_hold(client: socket.socket, proxy: Proxy, server: EchoServer) -> None:
    """A stalled link passes nothing, loses nothing, and keeps the order."""
    assert answer(client, b"before") == b"before"
    proxy.hold()
    client.sendall(b"during")

    assert is_silent(client)
    assert server.received == b"before"

    proxy.heal()
    client.sendall(b"after")

    assert read(client, 11) == b"duringafter"


def test_hold_one_direction(client: socket.socket, proxy: Proxy, server: EchoServer) -> None:
    """What is said arrives, the answer does not."""
    assert answer(client, b"before") == b"before"
    proxy.hold(Direction.TO_CLIENT)
    client.sendall(b"during")

    assert is_silent(client)
    assert server.received == b"beforeduring"

    proxy.heal()

    assert read(client, 6) == b"during"


def test_hold_hides_the_end(client: socket.socket, proxy: Proxy, server: EchoServer) -> None:
    """Over a stalled link the other side does not learn that this one has left."""
    assert answer(client, b"before") == b"before"
    proxy.hold()
    client.close()
    with connect(proxy) as another:
        another.sendall(b"x")
        assert is_silent(another)

        assert server.ends == []

        proxy.heal()

        assert server.await_end() == "closed"


def test_hold_only_open_connections(client: socket.socket, proxy: Proxy) -> None:
    """A new connection is not held, if told so."""
    assert answer(client, b"before") == b"before"
    proxy.hold(new=False)
    client.sendall(b"during")
    with connect(proxy) as new:
        assert answer(new, b"new") == b"new"

    assert is_silent(client)


def test_drop(client: socket.socket, proxy: Proxy, server: EchoServer) -> None:
    """Dropped bytes never come, and a connection that lost some is reset by the cure."""
    assert answer(client, b"before") == b"before"
    proxy.drop(Direction.TO_BROKER)
    client.sendall(b"during")

    assert is_silent(client)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.await_end() == "reset"
    assert server.received == b"before"


def test_throttle(client: socket.socket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are sent one by one, each after a pause; all of them come. A reader may get several at once."""
    sent: list[tuple[bytes, float]] = []
    send = proxy._loop.sock_sendall

    async def note(sink: socket.socket, data: bytes) -> None:
        sent.append((data, time.monotonic()))
        await send(sink, data)

    monkeypatch.setattr(proxy._loop, "sock_sendall", note)
    proxy.throttle(1, 0.01, Direction.TO_CLIENT)

    assert answer(client, b"slowly") == b"slowly"
    assert [data for data, _ in sent] == [b"slowly", b"s", b"l", b"o", b"w", b"l", b"y"]
    moments = [moment for _, moment in sent[1:]]
    assert all(later - earlier >= 0.01 for earlier, later in pairwise(moments))


def test_reset(client: socket.socket, proxy: Proxy, server: EchoServer) -> None:
    """Both sides get a RST; a new connection works."""
    assert answer(client, b"x") == b"x"

    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.await_end() == "reset"
    assert proxy.connections == 0
    with connect(proxy) as new:
        assert answer(new, b"again") == b"again"


def test_refuse(client: socket.socket, proxy: Proxy) -> None:
    """New connections are refused, the open one works; healed, it accepts on the same port."""
    assert answer(client, b"x") == b"x"
    proxy.refuse()

    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert answer(client, b"still") == b"still"

    proxy.heal()
    with connect(proxy) as new:
        assert answer(new, b"again") == b"again"


def test_target_is_gone(server: EchoServer, proxy: Proxy) -> None:
    """When nobody listens behind the proxy, its clients are reset."""
    server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)
