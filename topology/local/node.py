"""The private RabbitMQ node of this checkout: a real one that shares nothing with the system's node.

start   choose free ports, write its files, launch it, wait until AMQP and management both answer
stop    SIGTERM, wait, and end its epmd
status  which process and ports, or none

All it owns is in one folder: data, log, configuration, cookie, and node.json, which names its process. That
file is written before the process becomes RabbitMQ, so an interrupted start leaves nothing unknown behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Iterator
from pathlib import Path

from leveret.topology.errors import NodeError
from leveret.topology.link.default_broker import node_folder
from leveret.topology.local.launch import find_server, is_free, launch, log_of
from leveret.topology.local.process import READY_SECONDS, Node, forget, read, send, until, wait_until_ready

__all__ = ["Node", "find_server", "home", "start", "status", "stop"]

_STOP_SECONDS = 60.0
_ATTEMPTS = 4


def home() -> Path:
    """Return the folder the node lives in."""
    return node_folder()


def start(folder: Path | None = None) -> Node:
    """Start the node, or find it running; return once AMQP and management answer. Raises `NodeError`."""
    with _opened(folder) as home, _locked(home):
        for _ in range(_ATTEMPTS):
            found = read(home, "node.json")
            if found and not found.is_alive():
                forget(found)
                found = None
            node = found or launch(home)
            missing = wait_until_ready(node)
            if not missing:
                return node
            if node.is_alive():
                problem = f"is not ready after {READY_SECONDS:.0f} s: {missing}; wait on with start, or stop it"
                break
            forget(node)
            ports = (node.amqp_port, node.management_port, node.distribution_port, node.epmd_port)
            taken = [port for port in ports if not is_free(port)]
            problem = f"ended while starting, others have its ports {taken}" if taken else "ended while starting"
            if not (found or taken or "could_not_start_listener" in _end_of_log(home)):  # who took it may have left it
                break
        raise NodeError(f"{node.name} {problem}; {_end_of_log(home)}")


def stop(folder: Path | None = None) -> bool:
    """Stop the node and its epmd, gracefully at first; return False when none ran. Raises `NodeError`."""
    with _opened(folder) as home:
        if not home.is_dir():
            return False
        with _locked(home):
            node = read(home, "node.json")
            if node is None:
                return False
            ran = node.is_alive()
            for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, 10.0)):
                if node.is_alive():
                    send(node, number)
                    until(lambda: not node.is_alive(), seconds)
            if node.is_alive():
                raise NodeError(f"{node.name}, process {node.pid}, outlived SIGKILL; try stop again later")
            forget(node)
            return ran


def status(folder: Path | None = None) -> Node | None:
    """Return the node if its process lives. Raises `NodeError` when its folder cannot be read."""
    with _opened(folder) as home:
        node = read(home, "node.json")
        return node if node and node.is_alive() else None


def _end_of_log(folder: Path) -> str:
    log, data = log_of(folder), folder / "data"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if log.exists() else []
    hint = f"if another version of RabbitMQ wrote {data}, move that away. {log} ends:"
    return "\n  ".join([hint, *(line[:300] for line in lines)])


@contextlib.contextmanager
def _opened(folder: Path | None) -> Iterator[Path]:
    """Yield the folder's real path, and name it in errors of the system."""
    place = (folder or home()).resolve()
    try:
        yield place
    except OSError as error:
        raise NodeError(f"private node in {place}: {error}; check that folder's owner and free space") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one start or stop at a time work on this folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
