"""A connection for declaring, by kombu."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import kombu

from leveret.topology.link.asking import ANSWER_TIMEOUT_SECONDS
from leveret.topology.link.connection import check, first_that_succeeds
from leveret.topology.link.explaining import explain
from leveret.topology.link.parameters import CONNECT_TIMEOUT_SECONDS, parameters
from leveret.topology.settings import Settings


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
    made = parameters(url, "leveret declare", settings)
    connection = kombu.Connection(
        hostname=made.host,
        port=made.port,
        userid=made.credentials.username,
        password=made.credentials.password,
        virtual_host=made.virtual_host,
        transport="pyamqp",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
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
        check(url, CONNECT_TIMEOUT_SECONDS, settings)  # pika tells the causes apart
        raise explain(error, url) from error
