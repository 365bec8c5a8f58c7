"""The two brokers: a virtual host of its own on RabbitMQ for every measurement, and a private Redis."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pika

from benchmarks.processes import Failed, Process, wait_until
from leveret import Settings

_API_TIMEOUT_SECONDS = 30.0
_START_TIMEOUT_SECONDS = 20.0


class RabbitMQ:
    """Makes virtual hosts through the management API and deletes them."""

    def __init__(self, settings: Settings) -> None:
        self._place = urlsplit(settings.first_amqp_url)
        self._management_url = settings.management_url.rstrip("/")
        self._user = unquote(self._place.username or "guest")
        self._password = unquote(self._place.password or "guest")
        self._vhosts: set[str] = set()

    def versions(self) -> dict[str, str]:
        """Return the versions of RabbitMQ and Erlang."""
        overview = json.loads(self._api("GET", "overview"))
        return {"RabbitMQ": overview["rabbitmq_version"], "Erlang": overview["erlang_version"]}

    @contextmanager
    def vhost(self, name: str = "") -> Iterator[str]:
        """Make a virtual host whose queues are quorum queues by default, and yield its AMQP URL; it goes at the end."""
        name = name or f"benchmarks-{uuid.uuid4().hex[:12]}"
        self._vhosts.add(name)
        try:
            self._api("PUT", f"vhosts/{name}", {"default_queue_type": "quorum"})
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            self._api("PUT", f"permissions/{name}/{quote(self._user, safe='')}", rights)
            yield f"{self._place.scheme}://{self._place.netloc}/{name}"
        finally:
            self.delete_vhosts()

    def delete_vhosts(self) -> list[str]:
        """Delete the virtual hosts that were made, and return those that could not be deleted."""
        for name in list(self._vhosts):
            with contextlib.suppress(Failed):
                self._api("DELETE", f"vhosts/{name}")
                self._vhosts.discard(name)
        return sorted(self._vhosts)

    def _api(self, method: str, path: str, document: object = None) -> bytes:
        credentials = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - Settings checked the URL
            f"{self._management_url}/api/{path}",
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_API_TIMEOUT_SECONDS) as answer:  # noqa: S310
                body: bytes = answer.read()
                return body
        except (OSError, urllib.error.HTTPError) as error:
            raise Failed(f"the management API at {self._management_url} did not {method} {path}: {error}") from error


class QueueDepth:
    """Asks RabbitMQ how many messages are ready in a queue."""

    def __init__(self, url: str, queue: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel: Any = self._connection.channel()
        self._queue = queue

    def __call__(self) -> int:
        """Return the number of messages no worker has taken."""
        return int(self._channel.queue_declare(self._queue, passive=True).method.message_count)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(pika.exceptions.AMQPError):
            self._connection.close()


class ListDepth:
    """Asks Redis for the length of a list, or with ZCARD of a sorted set."""

    def __init__(self, url: str, key: str, command: str = "LLEN") -> None:
        place = urlsplit(url)
        self._socket = socket.create_connection((place.hostname or "", place.port or 0), timeout=10)
        self._stream = self._socket.makefile("rb")
        self._question = f"{command} {key}\r\n".encode()

    def __call__(self) -> int:
        """Return the number of messages no worker has taken."""
        self._socket.sendall(self._question)
        return int(self._stream.readline()[1:])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


Depth = QueueDepth | ListDepth


class Redis:
    """A private Redis on a free loopback port, with its data in a folder: appendonly, synced every second."""

    def __init__(self, folder: Path) -> None:
        server = shutil.which("redis-server") or _install()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        options = f"--port {self._port} --bind 127.0.0.1 --save  --appendonly yes --appendfsync everysec"
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.version = subprocess.run([server, "--version"], capture_output=True, text=True, check=False).stdout
        self.version = self.version.partition("v=")[2].split(" ")[0]
        self._process = Process([server, *options.split(" "), "--dir", str(folder)], os.environ, folder)
        wait_until(self._answers, _START_TIMEOUT_SECONDS, "redis-server")

    def _answers(self) -> bool:
        self._process.check()
        with contextlib.suppress(OSError):
            return self._ask("PING") == b"+PONG\r\n"
        return False

    def empty(self) -> None:
        """Forget everything."""
        self._ask("FLUSHALL")

    def _ask(self, question: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(f"{question}\r\n".encode())
            return connection.makefile("rb").readline()


def _install() -> str:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: do not start it
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
            subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, timeout=600, check=False)
    if found := shutil.which("redis-server"):
        return found
    raise Failed("redis-server is not installed")
