"""Connecting to the broker, and saying in its own words why that failed. The only file that opens connections.

pika moves messages (`connect`, on an asyncio loop; `check`, blocking). kombu declares (`declaring`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import re
import shlex
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pika
from pika import exceptions as pika_errors
from pika.adapters.utils import connection_workflow

from topology import headers, tls
from topology.errors import AccessRefused, BrokerError, BrokerUnreachable, SettingsError
from topology.fast_connection import FastConnection
from topology.settings import Settings, check_amqp_url, mask, vhost_of

_CONNECT_TIMEOUT_SECONDS = 10.0
_GIVE_UP_SECONDS = 60.0  # for all addresses of a host; pika can fall silent, as when there is no free file descriptor
_LONGEST_HEARTBEAT_SECONDS = 65_535
ANSWER_TIMEOUT_SECONDS = 40.0  # a cluster without a majority answers a declare after 15 to 30 s
_LONGEST_BACKOFF_SECONDS = 1.0  # a refused connection costs little, and a broker that is back should be used

headers.install()

T = TypeVar("T")
OnLost = Callable[[FastConnection, BaseException], None]

_CANNOT_CONNECT = (pika_errors.AMQPError, connection_workflow.AMQPConnectorException, OSError)
# pika takes every end of a handshake for a refusal. A limit that was reached is none, for others will leave.
_REFUSAL = re.compile(r"ACCESS_REFUSED|NOT_ALLOWED(?!.* limit \(\d+\) is reached)")


def parameters(url: str, role: str, settings: Settings) -> pika.URLParameters:
    """Return pika's parameters for one broker URL; `role` is what the management UI shows as connection name.

    Raises `SettingsError` for a URL pika refuses, or a TLS file that cannot be used.
    """
    check_amqp_url(url)
    try:
        made = pika.URLParameters(url)
    except (ValueError, TypeError, SyntaxError, OSError, ssl.SSLError) as error:  # it evaluates some values as Python
        raise SettingsError(f"AMQP_URL {mask(url)!r} is not usable: {error}") from error
    if "heartbeat=" not in url:
        made.heartbeat = settings.heartbeat_seconds
    if (made.heartbeat or 0) > _LONGEST_HEARTBEAT_SECONDS:
        raise SettingsError(
            f"AMQP_URL {mask(url)!r} is not usable: its heartbeat is {made.heartbeat} s; the longest that AMQP has is "
            f"{_LONGEST_HEARTBEAT_SECONDS} s"
        )
    if made.ssl_options:
        made.ssl_options = pika.SSLOptions(settings.tls_files.context(), made.host)
    made.socket_timeout = made.stack_timeout = _CONNECT_TIMEOUT_SECONDS
    made.client_properties = {"connection_name": role, "product": "leveret"}
    return made


def check(amqp_url: str, timeout_seconds: float = 5.0, settings: Settings | None = None) -> None:
    """Open and close a connection; `settings` say whom to trust in TLS.

    Raises `BrokerUnreachable`, `AccessRefused` or, as `parameters` does, `SettingsError`.
    """
    made = parameters(amqp_url, "leveret check", settings or Settings())
    made.socket_timeout = made.stack_timeout = made.blocked_connection_timeout = timeout_seconds
    made.connection_attempts = 1
    try:
        pika.BlockingConnection(made).close()
    except _CANNOT_CONNECT as error:
        raise explain(error, amqp_url) from error


async def connect(settings: Settings, role: str, on_lost: OnLost) -> FastConnection:
    """Open a connection on the running loop, to the first broker of the URL that answers.

    `on_lost` is called once with the connection and the cause when the open connection ends. Raises
    `BrokerUnreachable` or `AccessRefused` about the last broker tried.
    """
    failure: BrokerError | None = None
    for url in settings.amqp_url.split(";"):
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
        custom_ioloop=loop,
    )
    connection.url = url
    try:
        return await asyncio.wait_for(opened, _GIVE_UP_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"connecting came to no end within {_GIVE_UP_SECONDS:g} s") from error


async def open_channel(connection: FastConnection) -> Any:
    """Open a channel. Raises `BrokerUnreachable` when it, or the connection, is closed before it is open."""
    opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_open(channel: Any) -> None:
        if not opened.done():
            opened.set_result(channel)

    def on_close(_channel: Any, reason: BaseException) -> None:
        if not opened.done():
            opened.set_exception(explain(reason, connection.url))

    try:
        # A callback of the channel, which the end of the connection also calls: one of the connection would outlive it.
        connection.channel(on_open_callback=on_open).add_on_close_callback(on_close)
    except pika_errors.AMQPError as error:
        raise explain(error, connection.url) from error
    return await opened


def server_version(connection: FastConnection) -> tuple[int, ...]:
    """Return the version the broker says it has, as numbers; none when it says nothing of the kind."""
    said = (connection.server_properties or {}).get("version", "")
    return tuple(int(part) for part in re.findall(r"\d+", said if isinstance(said, str) else ""))


async def close(connection: FastConnection) -> None:
    """Close a connection and wait until what was written to it has left."""
    if connection.is_closed:
        return
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.add_on_close_callback(lambda *_: None if closed.done() else closed.set_result(None))
    if connection.is_open:
        connection.close()
    with contextlib.suppress(TimeoutError):  # a dead link cannot say goodbye; the broker notices by itself
        await asyncio.wait_for(closed, _CONNECT_TIMEOUT_SECONDS)


def backoff_seconds(failed_tries: int) -> float:
    """Return how long to wait before the next try, with jitter so that many workers do not come at once."""
    return min(_LONGEST_BACKOFF_SECONDS, 0.1 * 2.0 ** min(failed_tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


@contextlib.contextmanager
def declaring(settings: Settings) -> Iterator[Any]:
    """Open a kombu connection for declaring, to the first broker of the URL that lets us in; yields it.

    Raises `BrokerUnreachable` or `AccessRefused` about the last broker tried.
    """
    connection = first_that_succeeds(settings, functools.partial(_open_for_declaring, settings))
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError):  # a dead link cannot say goodbye
            connection.release()


def _open_for_declaring(settings: Settings, url: str) -> Any:
    import kombu  # only who declares pays for it

    made = parameters(url, "leveret declare", settings)
    connection = kombu.Connection(
        hostname=made.host,
        port=made.port,
        userid=made.credentials.username,
        password=made.credentials.password,
        virtual_host=made.virtual_host,
        transport="pyamqp",
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        ssl=settings.tls_files.kombu_options(made.host) if made.ssl_options else False,
        transport_options={
            "client_properties": made.client_properties,
            "read_timeout": ANSWER_TIMEOUT_SECONDS,
            "write_timeout": ANSWER_TIMEOUT_SECONDS,
        },
    )
    try:
        return connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    except (*connection.connection_errors, *connection.channel_errors) as error:
        check(url, _CONNECT_TIMEOUT_SECONDS, settings)  # pika tells the causes apart
        raise explain(error, url) from error


def check_any(settings: Settings) -> None:
    """Raise what the last broker of the URL refuses with, unless one of them lets us in."""
    first_that_succeeds(settings, lambda url: check(url, _CONNECT_TIMEOUT_SECONDS, settings))


def first_that_succeeds(settings: Settings, attempt: Callable[[str], T]) -> T:
    """Return what the attempt returns for the first broker of the URL for which it raises no `BrokerError`.

    Raises that of the last broker.
    """
    *others, last = settings.amqp_url.split(";")
    for url in others:
        with contextlib.suppress(BrokerError):
            return attempt(url)
    return attempt(last)


def explain(error: BaseException, url: str) -> BrokerError:
    """Turn a client library's connection error into ours: which broker, what happened, what to do next."""
    where = f"the broker at {mask(url)}"
    cause = _innermost(error)
    text = str(cause) or type(cause).__name__
    user, vhost = unquote(urlsplit(url).username or "guest"), vhost_of(url)
    was_refused = _REFUSAL.search(text) is not None
    if isinstance(cause, pika_errors.AuthenticationError) or (
        isinstance(cause, pika_errors.ProbableAuthenticationError) and was_refused
    ):
        return AccessRefused(
            f"{where} refused user {user!r} or its password; check AMQP_URL (guest may log in from localhost only)"
        )
    if isinstance(cause, pika_errors.ProbableAccessDeniedError) and was_refused:
        return AccessRefused(
            f"{where} has no virtual host {vhost!r} for user {user!r}: {text}; create it, or give the right: "
            f"rabbitmqctl set_permissions -p {shlex.quote(vhost)} {shlex.quote(user)} '.*' '.*' '.*'"
        )
    if isinstance(cause, (pika_errors.ProbableAuthenticationError, pika_errors.ProbableAccessDeniedError)):
        return BrokerUnreachable(
            f"the connection to {where} ended during the handshake: {text}; try again, and look into the broker's log "
            "if that does not help"
        )
    if isinstance(cause, (pika_errors.IncompatibleProtocolError, pika_errors.ProtocolVersionMismatch)):
        if urlsplit(url).scheme == "amqps":
            return BrokerUnreachable(tls.explain_alert(text, where))
        return BrokerUnreachable(
            f"{where} does not speak AMQP 0-9-1 ({text}); check host and port in AMQP_URL, and "
            "use amqps:// if this is its TLS port"
        )
    if isinstance(cause, ssl.SSLError):
        return BrokerUnreachable(tls.explain(cause, where))
    if isinstance(cause, (connection_workflow.AMQPConnectorStackTimeout, pika_errors.ConnectionOpenAborted)):
        return BrokerUnreachable(
            f"{where} accepted the connection and then did not answer in time; look into its log, for it may be "
            "starting or overloaded, and check host and port in AMQP_URL"
        )
    return BrokerUnreachable(
        f"{where} does not answer: {_reply(cause)}; start one (python -m topology.node start), or set AMQP_URL"
    )


def _innermost(error: BaseException) -> BaseException:
    """Dig out the error that started it from under pika's layers of workflow errors."""
    if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
        return _innermost(error.exceptions[-1])
    if isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
        return _innermost(error.exception)
    if isinstance(error, pika_errors.AMQPConnectionError) and type(error) is pika_errors.AMQPConnectionError:
        inner = error.args[0] if error.args else error.__cause__
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _reply(error: BaseException) -> str:
    if isinstance(error, (pika_errors.ConnectionClosed, pika_errors.ChannelClosed)):
        return f"{error.reply_code} {error.reply_text}"
    return str(error) or type(error).__name__
