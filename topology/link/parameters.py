"""What a connection is opened with: a broker's URL as pika takes it, and the name that RabbitMQ's pages show."""

from __future__ import annotations

import os
import ssl

import pika

from leveret.topology.errors import SettingsError
from leveret.topology.settings import Settings, check_amqp_url, mask

CONNECT_TIMEOUT_SECONDS = 10.0
_LONGEST_HEARTBEAT_SECONDS = 65_535


def host_and_pid() -> str:
    """Return what tells this process from all others, as names of connections and consumers show it."""
    return f"{os.uname().nodename}:{os.getpid()}"


def parameters(url: str, role: str, settings: Settings) -> pika.URLParameters:
    """Return pika's parameters for one broker URL; the connection is named by `role`, host and process.

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
    made.socket_timeout = made.stack_timeout = CONNECT_TIMEOUT_SECONDS
    made.client_properties = {"connection_name": f"{role} {host_and_pid()}", "product": "leveret"}
    return made
