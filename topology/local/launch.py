"""Launching a private node: an installed rabbitmq-server with ports, files and an environment of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from leveret.topology.errors import NodeError
from leveret.topology.link.default_broker import NODE_LOGIN, node_password
from leveret.topology.local.process import Node, name_of, process_start, read, write

_STANDARD_PORTS = (5672, 15672)
_OTHER_PORTS = range(20_000, 32_768)  # below those that outgoing connections occupy
_PACKAGED = "/usr/lib/rabbitmq/bin"
_SERVER_FOLDERS = (_PACKAGED, "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/rabbitmq/sbin", "/usr/sbin")
_ERLANG_FOLDERS = ("/usr/bin", "/bin", "/usr/local/bin", "/opt/homebrew/bin")
# A background shell waits at `read` until node.json names it, and only then becomes RabbitMQ. If its starter
# is killed before that, `read` meets the end of the pipe and the shell ends too.
_GATE = 'exec 3<&0; { read -r _ <&3 && exec "$0" 3<&-; } </dev/null >"$1" 2>&1 & echo $!'


class Ports(NamedTuple):
    """Where a node listens: for clients, for browsers, for other nodes, and where nodes ask for each other."""

    amqp: int
    management: int
    distribution: int
    epmd: int


def find_server() -> str | None:
    """Return the path of an installed rabbitmq-server, or None."""
    found = shutil.which("rabbitmq-server", path=_path(*_SERVER_FOLDERS))
    # What packages put into /usr/sbin switches to the user rabbitmq; the real script lies with its library.
    packaged = shutil.which("rabbitmq-server", path=_PACKAGED)
    return packaged if found and packaged and found.startswith(("/usr/sbin/", "/sbin/")) else found


def launch(folder: Path, ports: Ports | None = None, cookie: str | None = None, password: str | None = None) -> Node:
    """Start the process and write node.json; it is not ready yet.

    Free ports, a new cookie and, at the first start, a new password are chosen unless given: nodes of one cluster have
    their epmd port, cookie and password in common. Raises `NodeError`.
    """
    server = find_server()
    if server is None:
        raise NodeError(
            "no rabbitmq-server is installed, so no private node can start; install it (apt-get install "
            "rabbitmq-server, brew install rabbitmq), run docker compose up -d --wait, or set AMQP_URL"
        )
    if {"'", '"'} & set(str(folder)):
        raise NodeError(f"RabbitMQ's disk monitor hangs on a quote in a path; move the checkout: {folder}")
    ports = ports or _choose_ports(folder)
    _write_files(folder, ports, cookie or secrets.token_hex(20), password or secrets.token_hex(20))
    log = log_of(folder)
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
    waiting_end, opening_end = os.pipe()
    try:
        shell = subprocess.run(
            ["/bin/sh", "-c", _GATE, server, str(log)],
            stdin=waiting_end,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment(folder, ports),
            cwd=folder,
            start_new_session=True,
        )
        node = Node(
            name=name_of(folder),
            pid=int(shell.stdout),
            amqp_port=ports.amqp,
            management_port=ports.management,
            folder=folder,
            process_start=str(process_start(int(shell.stdout))),
            distribution_port=ports.distribution,
            epmd_port=ports.epmd,
        )
        write(node)
        os.write(opening_end, b"go\n")
    finally:
        os.close(waiting_end)
        os.close(opening_end)
    return node


def environment(folder: Path, ports: Ports) -> dict[str, str]:
    """Return all the node, and a rabbitmqctl for it, get to know.

    RABBITMQ_*, ERL_* or NOTIFY_SOCKET of the caller would lead them astray.
    """
    return {
        "PATH": _path(*_ERLANG_FOLDERS),
        "HOME": str(folder),  # of the Erlang cookie
        "RUNNING_UNDER_SYSTEMD": "true",  # the script turns into Erlang instead of waiting for it: one pid
        "RABBITMQ_NODENAME": name_of(folder),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",  # to stdout, where Erlang reports why it could not even start
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # +fnl: the management of RabbitMQ 3.10 crashes on paths beyond Latin-1 unless they are taken as bytes
        "ERL_FLAGS": "+fnl -kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_CRASH_DUMP_SECONDS": "0",
    }


def _write_files(folder: Path, ports: Ports, cookie: str, password: str) -> None:
    for name in ("data", "log"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (folder / "advanced.config").write_text("[].\n")
    _choose_password(folder, password)
    _write_secret(
        folder / "rabbitmq.conf",
        f"default_pass = {node_password(folder)}\n"
        f"listeners.tcp.1 = 127.0.0.1:{ports.amqp}\n"
        f"management.tcp.ip = 127.0.0.1\n"
        f"management.tcp.port = {ports.management}\n"
        "disk_free_limit.absolute = 50MB\n",
    )
    _write_secret(folder / ".erlang.cookie", cookie)  # a new one each time


def _choose_password(folder: Path, password: str) -> None:
    """Keep the password for good, for RabbitMQ reads it when it makes its data; data without one has guest's own."""
    if not (folder / NODE_LOGIN).exists() and not any((folder / "data").iterdir()):
        _write_secret(folder / f"{NODE_LOGIN}.new", password)
        (folder / f"{NODE_LOGIN}.new").replace(folder / NODE_LOGIN)  # whole, should this be killed now


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # a start may have been killed amid writing it, and others may have it open
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
        file.write(text)


def _choose_ports(folder: Path) -> Ports:
    """Choose four ports. Those for AMQP and management stay, are standard, or both move.

    Both, because tools guess one from the other: 5672 of one broker beside 15672 of another misleads them.
    """
    last = read(folder, "last-node.json")
    wanted = [(last.amqp_port, last.management_port)] if last else []
    distribution, epmd, *moved = free_ports(4)
    amqp, management = next((pair for pair in (*wanted, _STANDARD_PORTS) if all(map(is_free, pair))), moved)
    return Ports(amqp, management, distribution, epmd)


def free_ports(count: int) -> list[int]:
    """Return so many ports that nobody uses at the moment."""
    ports = random.SystemRandom().sample(_OTHER_PORTS, len(_OTHER_PORTS))
    return list(itertools.islice(filter(is_free, ports), count))


def is_free(port: int) -> bool:
    """Nothing may answer on either loopback address, for clients of `localhost` try both."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((address, port), 0.5):
            return False
    return True


def log_of(folder: Path) -> Path:
    """Return the log of the last start; the one before is kept as rabbitmq.log.1."""
    return folder / "log" / "rabbitmq.log"


def _path(*more: str) -> str:
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *more))
