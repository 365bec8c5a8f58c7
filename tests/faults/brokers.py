"""The brokers the matrix runs on: nodes it may start and kill, or a broker that is only used.

`private` starts the installed rabbitmq-server. A command with the verbs `start N` (prints the AMQP and the management
URL), `stop N`, `kill N` and `ctl N ARGUMENT…` brings nodes of any other version. A URL is somebody's own broker.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from topology import node, node_process
from topology.broker import Broker
from topology.connection import check
from topology.errors import BrokerError
from topology.node_launch import find_server, is_free
from topology.settings import CHECKOUT

PRIVATE = "private"
_FOLDER = CHECKOUT / ".rabbitmq" / "faults"
_READY_SECONDS = 120.0
_STATISTICS_SECONDS = 1
_FAST_STATISTICS = (
    f"[application:set_env(rabbit, Name, {_STATISTICS_SECONDS * 1000}) "
    "|| Name <- [collect_statistics_interval, quorum_tick_interval]]."
)


class Nodes(Protocol):
    """Nodes under control, numbered from 1."""

    def start(self, number: int) -> Broker:
        """Start a node, or find it running; return once it is ready."""
        ...

    def stop(self, number: int) -> None:
        """Stop a node gracefully."""
        ...

    def kill(self, number: int) -> None:
        """Kill a node with SIGKILL; its data stays."""
        ...

    def ctl(self, number: int, *arguments: str) -> str:
        """Run rabbitmqctl on a node and return what it prints."""
        ...


@dataclass
class Place:
    """A broker to run rows on. Without `nodes` nothing can be done to it but use it."""

    broker: Broker
    version: str
    nodes: Nodes | None = None
    has_fast_statistics: bool = False
    """Whether queues were told to report every second instead of every five; a restarted node forgets that."""


class PrivateNodes:
    """Nodes of the installed rabbitmq-server, each in a folder of its own."""

    def start(self, number: int) -> Broker:
        folder = _FOLDER / str(number)
        _keep_off_standard_ports(folder)
        made = node.start(folder)
        return Broker(made.amqp_url, made.management_url, f"private node {made.name}")

    def stop(self, number: int) -> None:
        node.stop(_FOLDER / str(number))

    def kill(self, number: int) -> None:
        running = self._running(number)
        os.kill(running.pid, signal.SIGKILL)
        node_process.until(lambda: not running.is_alive(), _READY_SECONDS)

    def ctl(self, number: int, *arguments: str) -> str:
        running = self._running(number)
        server = find_server()
        assert server
        environment = {
            "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/bin", "/usr/local/bin")),
            "HOME": str(running.folder),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": running.name,
            "ERL_EPMD_PORT": str(running.epmd_port),
        }
        return _output([str(Path(server).with_name("rabbitmqctl")), "-q", *arguments], environment)

    def _running(self, number: int) -> node.Node:
        running = node.status(_FOLDER / str(number))
        assert running, f"node {number} does not run"
        return running


class CommandNodes:
    """Nodes that a command controls; its own numbers begin at `first`."""

    def __init__(self, command: str, first: int) -> None:
        self._command = shlex.split(command)
        self._first = first

    def start(self, number: int) -> Broker:
        amqp_url, management_url = self._run("start", number).split()[-2:]
        _await_ready(amqp_url)
        return Broker(amqp_url, management_url, f"node {number} of {self._command[0]}")

    def stop(self, number: int) -> None:
        self._run("stop", number)

    def kill(self, number: int) -> None:
        self._run("kill", number)

    def ctl(self, number: int, *arguments: str) -> str:
        return self._run("ctl", number, *arguments)

    def _run(self, verb: str, number: int, *arguments: str) -> str:
        return _output([*self._command, verb, str(self._first + number - 1), *arguments], None)


@contextmanager
def opened(which: str, management_url: str, first_node: int) -> Iterator[Place]:
    """Yield the broker that `--broker` names; a node that was started for it is stopped afterwards."""
    if which.startswith(("amqp://", "amqps://")):
        host = urlsplit(which).hostname
        used = Broker(which, management_url or f"http://{host}:15672/", "a broker that is only used")
        yield Place(used, _version(used))
        return
    nodes: Nodes = PrivateNodes() if which == PRIVATE else CommandNodes(which, first_node)
    broker = nodes.start(1)
    try:
        hasten_statistics(nodes, 1)
        yield Place(broker, _version(broker), nodes, has_fast_statistics=True)
    finally:
        nodes.stop(1)


def hasten_statistics(nodes: Nodes, number: int) -> None:
    """Have queues report their lengths every second instead of every five, until the node's next start."""
    nodes.ctl(number, "stop_app")
    nodes.ctl(number, "eval", _FAST_STATISTICS)
    nodes.ctl(number, "start_app")
    nodes.start(number)


def _keep_off_standard_ports(folder: Path) -> None:
    """A node that is killed on purpose must not be where other programs look for a broker."""
    home = folder.resolve()
    if not (home / "last-node.json").exists() and not (home / "node.json").exists():
        home.mkdir(parents=True, exist_ok=True)
        amqp, management = [port for port in range(21_000 + os.getpid() % 5000, 32_000) if is_free(port)][:2]
        made = node_process.Node(node_process.name_of(home), 0, amqp, management, home)
        document = {**dataclasses.asdict(made), "folder": str(home)}
        (home / "last-node.json").write_text(json.dumps(document))


def _await_ready(amqp_url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            return check(amqp_url)
        except BrokerError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _version(broker: Broker) -> str:
    place = urlsplit(broker.amqp_url)
    login = f"{unquote(place.username or 'guest')}:{unquote(place.password or 'guest')}"
    request = urllib.request.Request(
        broker.management_url.rstrip("/") + "/api/overview",
        headers={"Authorization": "Basic " + base64.b64encode(login.encode()).decode()},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["rabbitmq_version"])


def _output(command: list[str], environment: dict[str, str] | None) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"[:2000])
    return done.stdout
