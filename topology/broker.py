"""Which broker this checkout uses; the first of these that is there.

1. AMQP_URL, when it is set: that broker or an error, never another one in its place
2. a RabbitMQ that lets guest in on localhost:5672
3. the private node of this checkout, when it runs

and for who asks to start one:

4. the private node, from an installed rabbitmq-server
5. docker-compose.yml, when a Docker engine answers
6. rabbitmq-server from apt-get, as root on Debian or Ubuntu, for the private node
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from topology import command, node
from topology.connection import check, first_that_succeeds
from topology.errors import AccessRefused, BrokerError, BrokerUnreachable, NodeError
from topology.provision import CHOICES, STANDARD_URL, Say, install_server, start_docker
from topology.settings import Settings, load, mask


@dataclass(frozen=True)
class Broker:
    """A broker that answered, and in one line how it was found."""

    amqp_url: str = field(repr=False)  # it holds a password
    management_url: str = field(repr=False)
    how: str


def resolve(configured: Settings) -> Settings:
    """Return the settings with the broker filled in: the one that is set, or the one that runs here.

    Raises `BrokerUnreachable` when none is set and none runs.
    """
    if configured.amqp_url:
        management_url = configured.management_url or _management_url(configured.first_amqp_url)
        return replace(configured, management_url=management_url)
    found = find(configured=configured)
    return replace(configured, amqp_url=found.amqp_url, management_url=found.management_url)


def find(start: bool = False, say: Say = lambda _line: None, configured: Settings | None = None) -> Broker:
    """Return the broker to use, started if `start` and need be; `say` gets a line before each slow step.

    Raises `BrokerUnreachable`, `AccessRefused` or `NodeError`, and `SettingsError` for an unusable AMQP_URL.
    """
    configured = configured or load()
    found = _named(configured) if configured.amqp_url else _of_this_machine(start, say)
    return replace(found, management_url=configured.management_url or found.management_url)


def _of_this_machine(start: bool, say: Say) -> Broker:
    try:
        check(STANDARD_URL)
        return _standard("RabbitMQ on localhost:5672")
    except BrokerUnreachable:
        problem = "no broker answers on localhost:5672"
    except AccessRefused:
        problem = "the broker on localhost:5672 does not let guest in"
    if broker := _running_node(start, say):
        return broker
    if start:
        if broker := _installed_node(say):
            return broker
        if start_docker(say):
            return _standard("RabbitMQ in Docker, from docker-compose.yml")
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
    return Broker(configured.amqp_url, _management_url(url), f"AMQP_URL, {mask(configured.amqp_url)}")


def _standard(how: str) -> Broker:
    private = _private_node_at(STANDARD_URL)
    return _private(private) if private else Broker(STANDARD_URL, _management_url(STANDARD_URL), how)


def _private(private: node.Node) -> Broker:
    how = f"private node {private.name} in {private.folder}"
    return Broker(private.amqp_url, private.management_url, how)


def _management_url(amqp_url: str) -> str:
    if private := _private_node_at(amqp_url):
        return private.management_url
    place = urlsplit(amqp_url)
    host = place.hostname or "localhost"
    # Who asks for TLS must not find the password sent in the clear to another port.
    scheme, port = ("https", 15671) if place.scheme == "amqps" else ("http", 15672)
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def _private_node_at(amqp_url: str) -> node.Node | None:
    place = urlsplit(amqp_url)
    with contextlib.suppress(NodeError):  # its folder may be another user's; the broker answers all the same
        running = node.status()
        if running and (place.hostname, place.port or 5672) == ("localhost", running.amqp_port):
            return running
    return None


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
    say(f"starting a private RabbitMQ node in {node.checkout() / '.rabbitmq'} …")
    return _private(node.start())


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the broker that would be used; return 1 when there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m topology.broker",
        description="Show which broker this checkout uses, with --start start one when there is none.",
        epilog="examples:\n  python -m topology.broker\n  python -m topology.broker --start\n"
        "  AMQP_URL=amqp://user:password@host:5672/ python -m topology.broker",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--start", action="store_true", help="start one when none is there, or install it")
    options = parser.parse_args(arguments)
    return command.run("topology.broker", lambda: _show(find(options.start, _tell)))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _show(broker: Broker) -> int:
    print(f"{broker.how}\nAMQP        {mask(broker.amqp_url)}\nmanagement  {mask(broker.management_url)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
