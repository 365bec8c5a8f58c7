"""Find the broker to use, and start one on this machine where there is none.

AMQP_URL decides when it is set; then what runs here (default_broker.py); and for who asks to start one:

1. the private node of this checkout, from an installed rabbitmq-server
2. docker-compose.yml, when a Docker engine answers
3. rabbitmq-server from apt-get, as root on Debian or Ubuntu, for the private node
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from leveret.topology.errors import BrokerError, BrokerUnreachable
from leveret.topology.link.connection import check, first_that_succeeds
from leveret.topology.link.default_broker import CHOICES, STANDARD_URL, ask_standard_port, management_url_of
from leveret.topology.local import node
from leveret.topology.local.provision import Say, install_server, start_docker
from leveret.topology.settings import Settings, load, mask


@dataclass(frozen=True)
class Broker:
    """A broker that answered, and in one line how it was found."""

    amqp_url: str = field(repr=False)  # it holds a password
    management_url: str = field(repr=False)
    how: str


def find(start: bool = False, say: Say = lambda _line: None, configured: Settings | None = None) -> Broker:
    """Return the broker to use, started if `start` and need be; `say` gets a line before each slow step.

    Raises `BrokerUnreachable`, `AccessRefused` or `NodeError`, and `SettingsError` for an unusable AMQP_URL.
    """
    configured = configured or load()
    found = _named(configured) if configured.amqp_url else _of_this_machine(start, say)
    return replace(found, management_url=configured.management_url or found.management_url)


def _of_this_machine(start: bool, say: Say) -> Broker:
    url, problem = ask_standard_port()
    if url:
        return _standard(url, "RabbitMQ on localhost:5672")
    if broker := _running_node(start, say):
        return broker
    if start:
        if broker := _installed_node(say):
            return broker
        if start_docker(say):
            return _standard(STANDARD_URL, "RabbitMQ in Docker, from docker-compose.yml")
        if install_server(say) and (broker := _installed_node(say)):
            return broker
    raise BrokerUnreachable(f"{problem}, and the private node of this checkout does not run; {CHOICES}")


def _named(configured: Settings) -> Broker:
    def url_that_answers(url: str) -> str:
        check(url, settings=configured)
        return url

    try:
        url = first_that_succeeds(configured, url_that_answers)
    except BrokerError as error:
        raise type(error)(f"AMQP_URL decides; unset it to use a broker of this machine: {error}") from error
    return Broker(configured.amqp_url, management_url_of(url), f"AMQP_URL, {mask(configured.amqp_url)}")


def _standard(url: str, how: str) -> Broker:
    running = node.status()
    if running and running.amqp_url == url:
        return _private(running)
    return Broker(url, management_url_of(url), how)


def _private(private: node.Node) -> Broker:
    how = f"private node {private.name} in {private.folder}"
    return Broker(private.amqp_url, private.management_url, how)


def _running_node(start: bool, say: Say) -> Broker | None:
    running = node.status()
    if running is None:
        return None
    try:
        check(running.amqp_url)
    except BrokerUnreachable:
        if not start:
            raise
        say(f"waiting for the private RabbitMQ node in {running.folder} …")
        running = node.start()
    return _private(running)


def _installed_node(say: Say) -> Broker | None:
    if node.find_server() is None:
        return None
    say(f"starting a private RabbitMQ node in {node.home()} …")
    return _private(node.start())
