"""The brokers the matrix runs on: nodes it may start and kill, or a broker that is only used.

`private` starts the installed rabbitmq-server. A command with the verbs `start N` (prints the AMQP and the management
URL), `stop N`, `kill N` and `ctl N ARGUMENT…` brings nodes of any other version. A URL is somebody's own broker.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from leveret import Settings
from leveret.topology.access.management import Management
from leveret.topology.local.finding import Broker
from tests.faults.nodes import CommandNodes, Nodes, PrivateNodes

PRIVATE = "private"
# A cluster's side without a majority has to stop; RabbitMQ before 4.0 is told so, later ones know nothing else.
_CONFIGURATION = "cluster_partition_handling = pause_minority\n"
_STATISTICS_SECONDS = 1
_FAST_STATISTICS = (
    f"[application:set_env(rabbit, Name, {_STATISTICS_SECONDS * 1000}) "
    "|| Name <- [collect_statistics_interval, quorum_tick_interval]]."
)


@dataclass
class Place:
    """A broker to run rows on. Without `nodes` nothing can be done to it but use it."""

    broker: Broker
    version: str
    nodes: Nodes | None = None
    has_fast_statistics: bool = False
    """Whether queues were told to report every second instead of every five; a restarted node forgets that."""


@contextmanager
def opened(which: str, management_url: str, first_node: int) -> Iterator[Place]:
    """Yield the broker that `--broker` names; nodes that were started for it are stopped afterwards."""
    if which.startswith(("amqp://", "amqps://")):
        host = urlsplit(which).hostname
        used = Broker(which, management_url or f"http://{host}:15672/", "a broker that is only used")
        yield Place(used, _version(used))
        return
    nodes = nodes_of(which, first_node)
    try:
        nodes.start(1)
        broker = Broker(nodes.amqp_url(1), nodes.management_url(1), f"node 1 of {which}")
        hasten_statistics(nodes, 1)
        yield Place(broker, _version(broker), nodes, has_fast_statistics=True)
    finally:
        nodes.close()


def nodes_of(which: str, first_node: int = 1) -> Nodes:
    """Return the nodes, none of which runs yet, that `private` or a command stands for."""
    if which == PRIVATE:
        return PrivateNodes(configuration=_CONFIGURATION)
    return CommandNodes(shlex.split(which), first_node)


@contextmanager
def clustered(place: Place) -> Iterator[Place]:
    """Yield three nodes in the place of one, joined to a cluster; the broker's URL names all of them."""
    assert place.nodes
    with place.nodes.cluster(3) as numbers:
        urls = ";".join(place.nodes.amqp_url(number) for number in numbers)
        broker = Broker(urls, place.broker.management_url, f"three nodes, the first being {place.broker.how}")
        yield Place(broker, place.version, place.nodes)


def hasten_statistics(nodes: Nodes, number: int) -> None:
    """Have queues report their lengths every second instead of every five, until the node's next start."""
    nodes.ctl(number, "stop_app")
    nodes.ctl(number, "eval", _FAST_STATISTICS)
    nodes.ctl(number, "start_app")
    nodes.start(number)


def _version(broker: Broker) -> str:
    settings = Settings(amqp_url=broker.amqp_url, management_url=broker.management_url)
    return str(Management(settings, timeout_seconds=30).call("GET", "overview")["rabbitmq_version"])
