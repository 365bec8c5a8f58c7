"""RabbitMQ nodes that belong to one test: started, stopped, killed and joined to a cluster as it likes.

`PrivateNodes` launches the installed rabbitmq-server. `CommandNodes` asks an external command with the verbs
`start N`, which prints the AMQP and the management URL, `stop N`, `kill N` and `ctl N ARGUMENT…`. Nodes are
numbered from 1.
"""

from __future__ import annotations

import abc
import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

from leveret import BrokerError
from leveret.topology.errors import NodeError
from leveret.topology.link.connection import check
from leveret.topology.local import process
from leveret.topology.local.launch import Ports, environment, find_server, free_ports, launch, log_of
from leveret.topology.local.process import Node
from tests.broker.support import await_value

_COMMAND_SECONDS = 180.0
_END_SECONDS = 60.0


class Nodes(abc.ABC):
    """Nodes of one test; `close` ends them all."""

    @abc.abstractmethod
    def start(self, number: int) -> None:
        """Start a node, or find it running; return once AMQP and management answer. Raises `NodeError`."""

    @abc.abstractmethod
    def stop(self, number: int) -> None:
        """Stop a node gracefully."""

    @abc.abstractmethod
    def kill(self, number: int) -> None:
        """End a node with SIGKILL. What it has written stays."""

    @abc.abstractmethod
    def ctl(self, number: int, *arguments: str) -> str:
        """Run rabbitmqctl on a node and return what it prints. Raises `NodeError` when it fails."""

    @abc.abstractmethod
    def amqp_url(self, number: int) -> str:
        """Return the URL of a node that was started, with the virtual host `/`."""

    @abc.abstractmethod
    def management_url(self, number: int) -> str:
        """Return the URL of a started node's management."""

    @abc.abstractmethod
    def close(self) -> None:
        """End every node this test has started."""

    @abc.abstractmethod
    def name(self, number: int) -> str:
        """Return the Erlang name of a running node."""

    def start_together(self, numbers: Sequence[int]) -> None:
        """Start nodes at the same time, as members of a cluster that wait for each other need it."""
        with ThreadPoolExecutor(len(numbers)) as pool:
            list(pool.map(self.start, numbers))

    @contextlib.contextmanager
    def cluster(self, count: int = 3) -> Iterator[Sequence[int]]:
        """Join the first nodes to a cluster; yields their numbers. Afterwards each stands alone again."""
        first, *others = numbers = range(1, count + 1)
        self.start_together(numbers)
        self._leave_cluster(others)
        name = self.name(first)
        for number in others:
            self._without_app(number, ("reset",), ("join_cluster", name))
        await_value(lambda: self.running(first) == count, f"{count} running nodes in the cluster of {name}")
        try:
            yield numbers
        finally:
            self.start_together(numbers)
            self._leave_cluster(others)

    def running(self, number: int) -> int:
        """Return how many nodes of its cluster a node sees running."""
        status = json.loads(self.ctl(number, "cluster_status", "--formatter", "json"))
        return len(status["running_nodes"])

    def leader(self, number: int, vhost: str, queue: str) -> str:
        """Return the name of the node that leads a quorum queue, as a node of the cluster knows it."""
        answer = self.ctl(number, "list_queues", "-p", vhost, "name", "leader", "--formatter", "json")
        return next(str(row["leader"]) for row in json.loads(answer) if row["name"] == queue)

    def _leave_cluster(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if self.running(number) > 1:
                self._without_app(number, ("reset",))

    def _without_app(self, number: int, *commands: Sequence[str]) -> None:
        for command in (("stop_app",), *commands, ("start_app",), ("await_startup",)):
            self.ctl(number, *command)
        await_value(lambda: answers(self.amqp_url(number)), f"node {number}")


def at_vhost(amqp_url: str, vhost: str) -> str:
    """Return the URL of a node for one of its virtual hosts."""
    return urlsplit(amqp_url)._replace(path=f"/{quote(vhost, safe='')}").geturl()


class PrivateNodes(Nodes):
    """Nodes launched from the installed rabbitmq-server, which share a folder, an epmd, a cookie and a password."""

    def __init__(self, folder: Path | None = None, configuration: str = "") -> None:
        self._made = folder is None
        self._folder = folder or Path(tempfile.mkdtemp(prefix="leveret-nodes-"))
        self._configuration = configuration
        self._cookie = secrets.token_hex(20)
        self._password = secrets.token_hex(20)
        self._epmd_port = free_ports(1)[0]
        self._ports: dict[int, Ports] = {}
        self._nodes: dict[int, Node] = {}

    def start(self, number: int) -> None:
        node = self._nodes.get(number)
        if node is None or not node.is_alive():
            node = self._nodes[number] = self._launch(number)
        missing = process.wait_until_ready(node)
        if missing:
            self._made = False  # the log stays, for whoever wants to know why
            raise NodeError(f"{node.name} did not start: {missing}; see {log_of(node.folder)}")

    def _launch(self, number: int) -> Node:
        folder = self._folder / str(number)
        if number not in self._ports:
            amqp, management, distribution = free_ports(3)
            self._ports[number] = Ports(amqp, management, distribution, self._epmd_port)
            (folder / "conf.d").mkdir(parents=True)
            (folder / "conf.d" / "more.conf").write_text(self._configuration)
        return launch(folder, self._ports[number], self._cookie, self._password)

    def stop(self, number: int) -> None:
        self._end(number, signal.SIGTERM)

    def kill(self, number: int) -> None:
        self._end(number, signal.SIGKILL)

    def _end(self, number: int, how: signal.Signals) -> None:
        node = self._nodes[number]
        process.send(node, how)
        process.until(lambda: not node.is_alive(), _END_SECONDS)
        if node.is_alive():
            raise NodeError(f"{node.name}, process {node.pid}, outlived {how.name}; see {log_of(node.folder)}")

    def ctl(self, number: int, *arguments: str) -> str:
        node = self._nodes[number]
        server = find_server()
        assert server
        return _run(
            [str(Path(server).with_name("rabbitmqctl")), "-q", "-n", node.name, *arguments],
            environment(node.folder, self._ports[number]),
        )

    def name(self, number: int) -> str:
        return self._nodes[number].name

    def amqp_url(self, number: int) -> str:
        return self._nodes[number].amqp_url

    def management_url(self, number: int) -> str:
        return self._nodes[number].management_url

    def close(self) -> None:
        for number, node in self._nodes.items():
            if node.is_alive():
                self.kill(number)
        for node in list(self._nodes.values())[:1]:
            process.forget(node)  # ends the epmd of all
        if self._made:
            shutil.rmtree(self._folder)


class CommandNodes(Nodes):
    """Nodes an external command runs; the test's node 1 is `first` to the command, 2 the one after, and so on."""

    def __init__(self, command: Sequence[str], first: int = 1) -> None:
        self._command = list(command)
        self._shift = first - 1
        self._urls: dict[int, tuple[str, str]] = {}
        self._names: dict[int, str] = {}

    def _tell(self, verb: str, number: int, *arguments: str) -> str:
        return _run([*self._command, verb, str(number + self._shift), *arguments])

    def start(self, number: int) -> None:
        amqp_url, management_url = self._tell("start", number).split()
        self._urls[number] = amqp_url, management_url
        await_value(lambda: answers(amqp_url), f"node {number} at {amqp_url}")

    def stop(self, number: int) -> None:
        self._tell("stop", number)
        await_value(lambda: not answers(self.amqp_url(number)), f"the end of node {number}")

    def kill(self, number: int) -> None:
        self._tell("kill", number)
        await_value(lambda: not answers(self.amqp_url(number)), f"the end of node {number}")

    def ctl(self, number: int, *arguments: str) -> str:
        return self._tell("ctl", number, "-q", *arguments)

    def name(self, number: int) -> str:
        if number not in self._names:  # each call of rabbitmqctl takes a second of processor time
            self._names[number] = self.ctl(number, "eval", "node().").strip().strip("'")
        return self._names[number]

    def amqp_url(self, number: int) -> str:
        return self._urls[number][0]

    def management_url(self, number: int) -> str:
        return self._urls[number][1]

    def close(self) -> None:
        for number in self._urls:
            if answers(self.amqp_url(number)):
                self.stop(number)


def answers(amqp_url: str) -> bool:
    """Whether a broker at this URL takes a connection."""
    try:
        check(amqp_url)
    except BrokerError:
        return False
    return True


def _run(command: Sequence[str], variables: dict[str, str] | None = None) -> str:
    try:
        ended = subprocess.run(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"{' '.join(command)} has not ended after {_COMMAND_SECONDS:.0f} s") from error
    except OSError as error:
        raise NodeError(f"cannot run {command[0]}: {error.strerror}") from error
    if ended.returncode:
        said = (ended.stderr + ended.stdout).strip()[-1000:]
        raise NodeError(f"{' '.join(command)} ended with status {ended.returncode}: {said}")
    return ended.stdout
