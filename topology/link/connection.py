"""Connecting to the broker: `connect` on an asyncio loop, `check` blocking. Only this file opens pika's connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

import pika
from pika import exceptions as pika_errors
from pika.adapters.utils import connection_workflow

from leveret.topology.errors import BrokerError, SettingsError
from leveret.topology.link.explaining import explain
from leveret.topology.link.fast_connection import FastConnection
from leveret.topology.link.name_lookup import LoopServices
from leveret.topology.link.parameters import CONNECT_TIMEOUT_SECONDS, parameters
from leveret.topology.settings import Settings, mask

_GIVE_UP_SECONDS = 60.0  # for all addresses of a host; pika can fall silent, as when there is no free file descriptor
_LONGEST_BACKOFF_SECONDS = 1.0  # a refused connection costs little, and a broker that is back should be used
_LIVED_SECONDS = 1.0  # a link that was lost sooner is worth no more than a try that failed

T = TypeVar("T")
OnLost = Callable[[FastConnection, BaseException], None]

_CANNOT_CONNECT = (pika_errors.AMQPError, connection_workflow.AMQPConnectorException, OSError)


def check(amqp_url: str, timeout_seconds: float = 5.0, settings: Settings | None = None) -> None:
    """Open and close a connection; `settings` say whom to trust in TLS.

    Raises `BrokerUnreachable`, `AccessRefused` or, as `parameters` does, `SettingsError`.
    """
    made = parameters(amqp_url, "leveret check", settings or Settings())
    made.socket_timeout = made.stack_timeout = made.blocked_connection_timeout = timeout_seconds
    made.connection_attempts = 1
    try:
        pika.BlockingConnection(made).close()
    except (*_CANNOT_CONNECT, ValueError) as error:  # the last where the broker left between two steps of connecting
        raise explain(error, amqp_url) from error


async def connect(settings: Settings, role: str, on_lost: OnLost) -> FastConnection:
    """Open a connection on the running loop, to the first broker of the URL that answers.

    `on_lost` is called once with the connection and the cause when the open connection ends. Raises
    `BrokerUnreachable` or `AccessRefused` about the last broker tried, or `SettingsError` about one without confirms.
    """
    failure: BrokerError | None = None
    for url in settings.amqp_urls:
        try:
            return await _connect_one(url, parameters(url, role, settings), on_lost)
        except _CANNOT_CONNECT as error:
            failure = explain(error, url)
            failure.__cause__ = error
    assert failure is not None
    raise failure


async def _connect_one(url: str, made: pika.URLParameters, on_lost: OnLost) -> FastConnection:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[FastConnection] = loop.create_future()

    def on_open(connection: FastConnection) -> None:
        if opened.cancelled():
            connection.close()
        else:
            opened.set_result(connection)

    def on_open_error(_connection: FastConnection, error: BaseException) -> None:
        if not opened.done():
            opened.set_exception(error)

    connection = FastConnection(
        made,
        on_open_callback=on_open,
        on_open_error_callback=on_open_error,
        on_close_callback=on_lost,
        custom_ioloop=LoopServices(loop),
    )
    connection.url = url
    try:
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            await opened
    except (asyncio.CancelledError, TimeoutError) as error:
        if connection.is_open:  # this moment, and nobody is told
            connection.close()
        if isinstance(error, asyncio.CancelledError):
            raise
        raise TimeoutError(f"connecting came to no end within {_GIVE_UP_SECONDS:g} s") from error
    if not (connection.publisher_confirms and connection.basic_nack):
        await close(connection)
        raise SettingsError(
            f"the broker at {mask(url)} has no publisher confirms, without which nobody can tell what it has stored; "
            "set AMQP_URL to a broker that has them, as RabbitMQ does"
        )
    return connection


def server_version(connection: FastConnection) -> tuple[int, ...]:
    """Return the version the broker says it has, as numbers; none when it says nothing of the kind."""
    said = (connection.server_properties or {}).get("version", "")
    return tuple(int(part) for part in re.findall(r"\d+", said if isinstance(said, str) else ""))


def certificate_ends(connection: FastConnection) -> float | None:
    """Return when the broker's certificate is over, in seconds of the epoch; None without TLS."""
    certificate = connection.peer_certificate()
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None


async def close(connection: FastConnection) -> None:
    """Close a connection and wait until what was written to it has left."""
    if connection.is_closed:
        return
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.add_on_close_callback(lambda *_: None if closed.done() else closed.set_result(None))
    if connection.is_open:
        connection.close()
    with contextlib.suppress(TimeoutError):  # a dead link cannot say goodbye; the broker notices by itself
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await closed


def backoff_seconds(failed_tries: int) -> float:
    """Return how long to wait before the next try, with jitter so that many workers do not come at once."""
    return min(_LONGEST_BACKOFF_SECONDS, 0.1 * 2.0 ** min(failed_tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


class Pauses:
    """The pauses before each try to connect, and to connect again: longer while no link lives for a while."""

    def __init__(self) -> None:
        self._tries = 0
        self._opened_at = float("inf")

    def on_open(self) -> None:
        """Note that the try has led to a link."""
        self._opened_at = time.monotonic()

    def next_seconds(self) -> float:
        """Return how long to wait now: not at all before the first try, or after a link that has lived."""
        if time.monotonic() - self._opened_at >= _LIVED_SECONDS:
            self._tries = 0
        self._opened_at = float("inf")
        seconds = backoff_seconds(self._tries - 1) if self._tries else 0.0
        self._tries += 1
        return seconds


def check_any(settings: Settings) -> None:
    """Raise what the last broker of the URL refuses with, unless one of them lets us in."""
    first_that_succeeds(settings, lambda url: check(url, CONNECT_TIMEOUT_SECONDS, settings))


def first_that_succeeds(settings: Settings, attempt: Callable[[str], T]) -> T:
    """Return what the attempt returns for the first broker of the URL for which it raises no `BrokerError`.

    Raises that of the last broker.
    """
    *others, last = settings.amqp_urls
    for url in others:
        with contextlib.suppress(BrokerError):
            return attempt(url)
    return attempt(last)
