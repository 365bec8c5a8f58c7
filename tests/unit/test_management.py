"""The management API's client: whom it tells the password, and what it says when something else answers."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from leveret.producers.doctor.asking_management import clock_off
from leveret.producers.not_routed import advice
from leveret.topology.access.management import Management, bare_url
from leveret.topology.errors import AccessRefused, BrokerError, BrokerUnreachable
from leveret.topology.names import Route
from leveret.topology.settings import Settings
from tests.certificates import Authority


class Answering:
    """An HTTP server that answers every request the same way and keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status, self.body, self.headers = 200, b"{}", {"X": "y"}
        self.asked: list[tuple[str, str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.command, self.path, self.headers["Authorization"]))
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(outer.status)
                for header in outer.headers.items():
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(outer.body)

            do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.place = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


def login(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(("credentials", "expected"), [("", "amqp-user:p@ss"), ("ui:s%40id@", "ui:s@id")])
def test_who_asks(credentials: str, expected: str, server: Answering) -> None:
    """The user of MANAGEMENT_URL, or else the one of AMQP_URL; every part of the path is escaped."""
    server.body = json.dumps({"a": 1}).encode()
    settings = Settings("amqp://amqp-user:p%40ss@host/", f"http://{credentials}{server.place}/rabbit")

    assert Management(settings).call("GET", "queues", "/", "a b?#") == {"a": 1}
    assert server.asked == [("GET", "/rabbit/api/queues/%2F/a%20b%3F%23", login(expected))]


def test_the_time_that_an_answer_tells_is_kept(server: Answering) -> None:
    """A server of this machine goes by the same clock."""
    api = Management(Settings("amqp://u:p@host/", f"http://{server.place}/"))
    began = time.time()
    api.call("GET", "whoami")

    assert clock_off(api.date, began, time.time()) == 0.0


def test_a_redirect_is_not_followed(server: Answering, other: Answering) -> None:
    """Where the answer leads somewhere else, nobody asks there."""
    server.status, server.headers = 302, {"Location": f"http://{other.place}/"}

    with pytest.raises(BrokerError, match="GET /api/overview with 302 Found, a redirect; set MANAGEMENT_URL"):
        Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "overview")
    assert other.asked == []


def test_no_proxy_is_told_the_password(server: Answering, other: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is for the web, not for the broker next door."""
    monkeypatch.setenv("http_proxy", f"http://{other.place}/")
    Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "overview")

    assert len(server.asked) == 1
    assert other.asked == []


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, AccessRefused, "does not let user 'u' do that .GET /api/x.: because; .*set_user_tags u administrator"),
        (403, AccessRefused, "because"),
        (400, BrokerError, "refused GET /api/x: 400 because"),
        (500, BrokerError, "500 because"),
    ],
)
def test_a_refusal_is_explained(status: int, error: type[Exception], text: str, server: Answering) -> None:
    """What RabbitMQ answers is told with what to do next."""
    server.status, server.body = status, b'{"error": "e", "reason": "because"}'

    with pytest.raises(error, match=text):
        Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "x")


def test_the_reason_of_a_refusal_is_made_printable(server: Answering) -> None:
    """It may be the text of whoever listens there."""
    server.status = 400
    server.body = json.dumps({"reason": "\x1b[2J\r\nforged\N{LINE SEPARATOR}\x9b\ud800"}).encode()

    with pytest.raises(BrokerError, match="forged") as refused:
        Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "x\x1b")
    assert str(refused.value).isprintable()


def test_what_is_not_there_is_none(server: Answering) -> None:
    """404 is an answer."""
    server.status = 404

    assert Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "users", "nobody") is None


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"{"])
def test_something_else_answers(body: bytes, server: Answering) -> None:
    """A page that is no JSON is not the management API."""
    server.body = body

    with pytest.raises(BrokerUnreachable, match="enable it on the broker"):
        Management(Settings("amqp://u:p@host/", f"http://{server.place}/")).call("GET", "x")


def test_https_is_verified_with_the_same_files(tmp_path: Path) -> None:
    """With our authority and client certificate the API answers; without either it is not asked."""
    authority = Authority(tmp_path, "ca")
    client, key = map(str, authority.issue("client"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(*authority.issue("server", "127.0.0.1"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # which refuses a client within the handshake
    server = Answering(context)
    try:
        url = f"https://{server.place}/"
        all_of_it = Settings("", url, tls_ca_file=str(authority.file), tls_cert_file=client, tls_key_file=key)
        no_authority = Settings("", url, tls_cert_file=client, tls_key_file=key)
        no_client = Settings("", url, tls_ca_file=str(authority.file))

        for settings, text in ((no_authority, "set TLS_CA_FILE"), (no_client, "does not answer")):
            with pytest.raises(BrokerUnreachable, match=text):
                Management(settings).call("GET", "overview")
        assert server.asked == []
        assert Management(all_of_it).call("GET", "overview") == {}
    finally:
        server.close()


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b'{"no":"list"}'), (200, b'["x",{"other":1}]')])
def test_advice_needs_no_management_api(server: Answering, status: int, body: bytes) -> None:
    """Whatever the management API or its URL is like, who could not route a message is told what to do."""
    server.status, server.body = status, body
    for url in (f"http://{server.place}/", "http://u:s3cret@localhost.invalid/", "https://127.0.0.1:9/"):
        told = advice(Settings("amqp://h/", url), "a", Route.topic("a"))

        assert "declare" in told
        assert "s3cret" not in told


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host:15672", "http://host:15672/"),
        ("http://u:p@host/x?y#z", "http://host/x/"),
        ("https://[::1]:1/", "https://[::1]:1/"),
    ],
)
def test_a_url_to_show(url: str, expected: str) -> None:
    """Without user, password and what else does not belong to the place."""

    assert bare_url(url) == expected
