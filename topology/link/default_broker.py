"""Which broker is used: the one of AMQP_URL, else the first of these that runs on this machine.

1. a RabbitMQ that lets guest in on localhost:5672
2. the private node of this checkout (`leveret node start`)

AMQP_URL is never replaced: that broker, or an error.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from leveret.topology.errors import AccessRefused, BrokerUnreachable
from leveret.topology.link.connection import check
from leveret.topology.settings import CHECKOUT, Settings

NODE_LOGIN = "password"
"""The file in the folder of a private node that holds the password of guest."""
STANDARD_URL = "amqp://guest:guest@localhost:5672/"
CHOICES = (
    "install rabbitmq-server and run leveret node start; or run docker compose up -d --wait; or set AMQP_URL to a "
    "broker elsewhere, amqp://user:password@host:5672/"
)


class LocalBroker(NamedTuple):
    """A broker of this machine."""

    amqp_url: str
    management_url: str


def resolve(configured: Settings) -> Settings:
    """Return the settings with the broker filled in: the one that is set, or the one that runs here.

    Raises `BrokerUnreachable` when none is set and none runs.
    """
    if configured.amqp_url:
        management_url = configured.management_url or management_url_of(configured.first_amqp_url)
        return replace(configured, management_url=management_url)
    found = running_here()
    return replace(
        configured, amqp_url=found.amqp_url, management_url=configured.management_url or found.management_url
    )


def running_here() -> LocalBroker:
    """Return the broker that runs on this machine. Raises `BrokerUnreachable` when there is none."""
    url, problem = ask_standard_port()
    if url:
        return LocalBroker(url, management_url_of(url))
    if node := private_node():
        try:
            check(node.amqp_url)
            return node
        except BrokerUnreachable as error:
            problem = f"{problem}, nor does the private node of {node_folder()}: {error}"
    else:
        problem = f"{problem}, and no private node runs in {node_folder()}"
    raise BrokerUnreachable(f"{problem}; {CHOICES}")


def ask_standard_port() -> tuple[str, str]:
    """Return the URL of the RabbitMQ on localhost:5672 that lets guest in, or else an empty one and why none does.

    Where the private node has that port, its password is tried first: each wrong one is an error in RabbitMQ's log.
    """
    node = private_node()
    urls = [node.amqp_url] if node and urlsplit(node.amqp_url).port == urlsplit(STANDARD_URL).port else []
    for url in dict.fromkeys((*urls, STANDARD_URL)):
        try:
            check(url)
            return url, ""
        except BrokerUnreachable:
            return "", "no broker answers on localhost:5672"
        except AccessRefused:
            continue
    return "", "the broker on localhost:5672 does not let guest in"


def management_url_of(amqp_url: str) -> str:
    """Return where the management API of a broker is, unless somebody says otherwise."""
    place = urlsplit(amqp_url)
    host, node = place.hostname or "localhost", private_node()
    if node and (host, place.port or 5672) == ("localhost", urlsplit(node.amqp_url).port):
        return node.management_url
    # Who asks for TLS must not find the password sent in the clear to another port.
    scheme, port = ("https", 15671) if place.scheme == "amqps" else ("http", 15672)
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def node_folder() -> Path:
    """Return the folder of the private node: in this checkout, or in the current folder where there is none."""
    checkout = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()
    return (checkout / ".rabbitmq").resolve()


def private_node() -> LocalBroker | None:
    """Read from its file where the private node listens; whether it still does is for the caller to see."""
    try:
        node = json.loads((node_folder() / "node.json").read_text(encoding="utf-8"))
        management_port, amqp_url = int(node["management_port"]), node_amqp_url(node_folder(), int(node["amqp_port"]))
    except (OSError, ValueError, TypeError, KeyError):  # none was started, or the file is for its owner to mend
        return None
    return LocalBroker(amqp_url, f"http://localhost:{management_port}/")


def node_amqp_url(folder: Path, port: int) -> str:
    """Return the URL of the private node in a folder, with the password that only the folder's owner can read."""
    return f"amqp://guest:{node_password(folder)}@localhost:{port}/"


def node_password(folder: Path) -> str:
    """Return the password of guest: RabbitMQ's own where the node's data is older than its password."""
    file = folder / NODE_LOGIN
    return file.read_text(encoding="utf-8") if file.exists() else "guest"
