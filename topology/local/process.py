"""A private node's process: which it is, whether it answers, and clearing up behind it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from leveret.topology.errors import BrokerError, NodeError
from leveret.topology.link.connection import check
from leveret.topology.link.default_broker import NODE_LOGIN, node_amqp_url, node_password

READY_SECONDS = 120.0


@dataclass(frozen=True)
class Node:
    """A private node whose process lives, though it may still be starting. node.json holds the same."""

    name: str
    pid: int
    amqp_port: int
    management_port: int
    folder: Path
    process_start: str = ""
    """Tells the process from a later one with the same pid."""
    distribution_port: int = 0
    epmd_port: int = 0

    @property
    def amqp_url(self) -> str:
        """For clients of this machine's user; RabbitMQ lets guest in from this machine only."""
        return node_amqp_url(self.folder, self.amqp_port)

    @property
    def login(self) -> str:
        """How to log in to the management UI."""
        file = self.folder / NODE_LOGIN
        return f"user guest, password in {file}" if file.exists() else "user guest, password guest"

    @property
    def management_url(self) -> str:
        """Of the management UI, and with /api of its HTTP API."""
        return f"http://localhost:{self.management_port}/"

    def is_alive(self) -> bool:
        """Return whether its process still runs."""
        return process_start(self.pid) == self.process_start


def process_start(pid: int) -> str | None:
    """Return when this process started, in the system's own terms; None when it has ended."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, began = fields[0], f"{fields[19]} ticks after boot {boot_id.read_text().strip()}"
    else:
        command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
        environment = {"PATH": os.defpath, "LC_ALL": "C"}
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        state, _, began = answer.stdout.strip().partition(" ")
    return began.strip() if state and state[0] not in "ZX" else None


def read(folder: Path, name: str) -> Node | None:
    """Return the node, unless the file came here with a copy of another checkout."""
    path = folder / name
    try:
        node = Node(**{**json.loads(path.read_text()), "folder": folder})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise NodeError(f"{path} is damaged: {error}; end the node's process by hand, remove the file") from error
    return node if node.name == name_of(folder) else None


def write(node: Node) -> None:
    """Write node.json, whole or not at all."""
    new = node.folder / "node.json.new"
    new.write_text(json.dumps({**asdict(node), "folder": str(node.folder)}, indent=2) + "\n")
    new.replace(node.folder / "node.json")


def forget(node: Node) -> None:
    """Clear up behind an ended process. Its ports stay known, for the next start."""
    until(lambda: _epmd_has_ended(node.epmd_port), 5.0)
    (node.folder / "node.json").replace(node.folder / "last-node.json")


def _epmd_has_ended(port: int) -> bool:
    """Ask epmd to end, with the KILL request of its protocol; it refuses while a node is registered."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
            connection.sendall(b"\0\1k")
            return connection.recv(2) not in (b"OK", b"NO")  # then it is something else
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError):
        return True


def send(node: Node, number: int) -> None:
    """Send its process a signal."""
    try:
        os.kill(node.pid, number)
    except ProcessLookupError:  # it ended just now
        return
    except PermissionError as error:
        raise NodeError(f"{node.name} runs as another user; stop process {node.pid} as that user") from error


def wait_until_ready(node: Node) -> str:
    """Return what does not answer when the time is over or the process has ended; empty when all does."""
    missing = ""

    def settled() -> bool:
        nonlocal missing
        missing = _missing(node)
        return not missing or not node.is_alive()

    until(settled, READY_SECONDS)
    return missing


def _missing(node: Node) -> str:
    """Ask the node for its listeners first: on a port lost to another broker, that one would answer AMQP."""
    import http.client  # workers import this file, and only who starts a node pays for it

    connection = http.client.HTTPConnection("localhost", node.management_port, timeout=5)
    login = base64.b64encode(f"guest:{node_password(node.folder)}".encode()).decode()
    try:
        connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {login}"})
        overview = json.loads(connection.getresponse().read())
        if overview.get("node") != node.name:
            return f"port {node.management_port} does not answer as its management: {str(overview)[:100]}"
        listening = [(listener["protocol"], listener["port"]) for listener in overview["listeners"]]
        if ("amqp", node.amqp_port) not in listening:
            return f"no AMQP listener on port {node.amqp_port}"
        check(node.amqp_url)
    except (OSError, http.client.HTTPException, ValueError, BrokerError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return ""


def name_of(folder: Path) -> str:
    """Return the node name: RabbitMQ finds its data by it, and each checkout has its own."""
    return f"leveret-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}@localhost"


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
