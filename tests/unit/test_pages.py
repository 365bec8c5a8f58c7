"""The small server: what it answers, and that nobody who asks can hurt it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from leveret.consumers.measuring import server
from leveret.consumers.measuring.doors import Doors
from leveret.consumers.measuring.server import Door, Page, page_of
from leveret.consumers.worker.pages import open_doors
from leveret.topology.errors import SettingsError
from leveret.topology.settings import CHECKOUT, Settings
from leveret.topology.settings.addresses import Address, CannotListen, read_address


async def fine() -> Page:
    return page_of(200, "fine")


async def broken() -> Page:
    raise RuntimeError("a secret")


@pytest.fixture
def port() -> Iterator[int]:
    doors = Doors({"health": "127.0.0.1:0"})
    (door,) = doors._doors.values()
    with doors.serving({"health": {"/fine": fine, "/broken": broken}}):
        yield door.port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def ask(port: int, request: bytes) -> bytes:
    """Send it, and return all that comes until the other side closes."""
    with connect(port) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /fine HTTP/1.1", b"200 OK", b"fine\n"),
        (b"GET /fine?probe=1 HTTP/1.0", b"200 OK", b"fine\n"),
        (b"HEAD /fine HTTP/1.1", b"200 OK", b""),
        (b"POST /fine HTTP/1.1", b"405 Method Not Allowed", b"a page can be read only: GET\n"),
        (b"GET /../etc/passwd HTTP/1.1", b"404 Not Found", b"there is /fine and /broken\n"),
        (b"GET /broken HTTP/1.1", b"500 Internal Server Error", b"the page could not be made; the log says why\n"),
        (b"GET /fine", b"400 Bad Request", b"this is no request of HTTP/1\n"),
        (b"PRI * HTTP/2.0", b"400 Bad Request", b"this is no request of HTTP/1\n"),
        (b"\x16\x03\x01\xff\xfe", b"400 Bad Request", b"this is no request of HTTP/1\n"),
    ],
)
def test_answers(port: int, request_line: bytes, status: bytes, body: bytes) -> None:
    head, _, text = ask(port, request_line + b"\r\nHost: here\r\n\r\n").partition(b"\r\n\r\n")

    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + status
    assert text == body
    assert f"Content-Length: {len(body) or len('fine ')}".encode() in head


def test_a_head_without_end(port: int) -> None:
    """It is read up to its limit, and no further."""
    with connect(port) as connection:
        connection.sendall(b"GET /fine HTTP/1.1\r\n" + b"X: y\r\n" * 2800)  # over 16 KiB, and no end

        assert connection.recv(100).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_slow_client_has_one_deadline(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends half a request is let go."""
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.1)
    with connect(port) as connection:
        connection.sendall(b"GET /fine HT")

        assert connection.recv(100) == b""


def test_many_silent_clients(port: int) -> None:
    """They do not keep out who comes after them: the oldest give way."""
    silent = [connect(port) for _ in range(300)]
    try:
        assert ask(port, b"GET /fine HTTP/1.1\r\n\r\n").endswith(b"fine\n")
    finally:
        for one in silent:
            one.close()


def test_a_port_is_taken_on_every_interface() -> None:
    door = Door(Address("", 0))
    try:
        with pytest.raises(CannotListen, match=f"^cannot listen at :{door.port}: Address already in use; name another"):
            Door(Address("", door.port))
        with connect(door.port), socket.create_connection(("::1", door.port), timeout=20):
            pass  # both ways lead there
    finally:
        door.socket.close()


def test_who_serves_nothing_loads_nothing() -> None:
    """A worker without --metrics and --health, and a recorder, have loaded none of it."""
    code = """
import sys
import leveret.command.run, leveret.command.recorder
print([name for name in sys.modules if name.startswith(("prometheus_client", "leveret.consumers.measuring"))])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)

    assert ended.stdout == "[]\n"


def test_metrics_are_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is missing it is said how to get it."""
    monkeypatch.delitem(sys.modules, "leveret.consumers.measuring.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(SettingsError, match=r"^metrics need .+ pip install 'leveret\[metrics\]'$"):
        open_doors(Settings(metrics="127.0.0.1:0"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":9090", ("", 9090)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("web-3.example.org:80", ("web-3.example.org", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    read = read_address(text, "it")

    assert tuple(read) == address
    assert str(read) == text


@pytest.mark.parametrize(
    "text", ["", "9090", ":", ":65536", ":-1", "a b:1", "::1:80", "http://a:80", ":80/", "[x]:1", ":٣"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^setting metrics is .*, which is no address to listen at; write it as :9090"
    ):
        read_address(text, "setting metrics")


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(CannotListen, match=f"^cannot listen at {host}:80: .+; name another address"):
        Door(Address(host, 80))
