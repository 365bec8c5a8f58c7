"""`leveret node` with real nodes, each in a folder and on ports of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pika
import pytest

from leveret.topology.errors import AccessRefused
from leveret.topology.link.connection import check
from leveret.topology.local import launch, node
from leveret.topology.settings import CHECKOUT

pytestmark = [pytest.mark.usefixtures("installed_server"), pytest.mark.once]  # of that server's version


@pytest.fixture(scope="module", autouse=True)
def _ports_of_our_own() -> Iterator[None]:
    """Prefer ports that nothing else on this machine wants: the standard ones may be taken while a node is down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_STANDARD_PORTS", tuple(launch.free_ports(2)))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder for a node that is gone after the test."""
    folder = tmp_path / ".rabbitmq"
    yield folder
    node.stop(folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[node.Node]:
    """Yield a running node, started twice at once in an awkward folder and a hostile environment."""
    folder = tmp_path_factory.mktemp("two words, é日本") / ".rabbitmq"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RABBITMQ_NODENAME", "RABBITMQ_MNESIA_DIR", "RABBITMQ_NODE_PORT", "ERL_FLAGS"):
            patch.setenv(name, "-elsewhere")
        with ThreadPoolExecutor() as pool:
            one, two = pool.map(node.start, [folder, folder])
    assert one == two
    yield one
    node.stop(folder)


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def publish(url: str, body: bytes) -> None:
    """Leave one persistent message in the durable queue `kept`."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2))


def get(url: str) -> bytes | None:
    """Take one message from `kept`."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        body: bytes | None = connection.channel().basic_get("kept", auto_ack=True)[2]
        return body


def processes_of(folder: Path) -> list[str]:
    """Return the processes whose HOME is the folder: Erlang, its helpers, epmd."""
    mine = f"HOME={folder.resolve()}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mine in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
        except OSError:  # it ended, or belongs to another user
            continue
    return found


def test_start_again(shared: node.Node) -> None:
    """Starting a node that runs returns it: the same process."""
    assert node.start(shared.folder) == shared
    assert node.status(shared.folder) == shared


def test_name(shared: node.Node) -> None:
    """The node's name is its own, whatever the environment says; its data lies in its folder."""
    assert shared.name.startswith("leveret-")
    assert (shared.folder / "data" / shared.name).is_dir()


def test_loopback_only(shared: node.Node) -> None:
    """No port of the node is open to another machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells the address that faces the network
        except OSError:
            pytest.skip("this machine has no network")
        outside = probe.getsockname()[0]

    for port in (shared.amqp_port, shared.management_port, shared.distribution_port, shared.epmd_port):
        socket.create_connection(("127.0.0.1", port), 5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((outside, port), 5)


def test_only_its_user_can_log_in(shared: node.Node) -> None:
    """Its password is its own, and no file that holds it can be read by another user of this machine."""
    with pytest.raises(AccessRefused):
        check(f"amqp://guest:guest@localhost:{shared.amqp_port}/")
    password = (shared.folder / "password").read_text()
    check(f"amqp://guest:{password}@localhost:{shared.amqp_port}/")
    holders = [path for path in shared.folder.iterdir() if path.is_file() and password in path.read_text()]

    assert sorted(path.name for path in holders) == ["password", "rabbitmq.conf"]
    assert [path.stat().st_mode & 0o077 for path in holders] == [0, 0]


@pytest.fixture(scope="module")
def restarted(shared: node.Node) -> node.Node:
    """Return the node after it was stopped, which left nothing of it running, and started with a message in it."""
    publish(shared.amqp_url, b"still here")
    assert node.stop(shared.folder) is True
    assert node.status(shared.folder) is None
    assert node.stop(shared.folder) is False
    eventually(lambda: not processes_of(shared.folder))
    return node.start(shared.folder)


def test_stop_and_start(shared: node.Node, restarted: node.Node) -> None:
    """A message outlives stop and start, and is found at the same URL."""
    assert (restarted.name, restarted.amqp_url, restarted.management_url) == (
        shared.name,
        shared.amqp_url,
        shared.management_url,
    )
    assert get(restarted.amqp_url) == b"still here"


def test_kill(shared: node.Node, restarted: node.Node) -> None:
    """A node that was killed does not count as running; the next start has its data, and leaves no epmd."""
    publish(restarted.amqp_url, b"safe")  # a queue just declared might be gone, which is RabbitMQ's own; this is older
    os.kill(restarted.pid, signal.SIGKILL)
    eventually(lambda: not restarted.is_alive())

    assert node.status(shared.folder) is None
    again = node.start(shared.folder)
    assert get(again.amqp_url) == b"safe"
    assert again.amqp_url == restarted.amqp_url
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", restarted.epmd_port))

    node.stop(shared.folder)
    eventually(lambda: not processes_of(shared.folder))


def test_interrupted_start(folder: Path) -> None:
    """A start that was killed half-way is taken up by the next one."""
    code = f"from leveret.topology.local import node; from pathlib import Path; node.start(Path({str(folder)!r}))"
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT)
    eventually((folder / "node.json").exists)
    eventually(lambda: len(processes_of(folder)) > 0)
    starter.kill()
    starter.wait()
    half_started = json.loads((folder / "node.json").read_text())["pid"]
    taken_up = node.start(folder)

    assert taken_up.pid == half_started
    check(taken_up.amqp_url)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """Yield a checkout of its own, whose node is gone after the test."""
    made = tmp_path / "checkout"
    for package in ("leveret", "topology", "producers", "consumers", "data"):
        shutil.copytree(CHECKOUT / package, made / package, symlinks=True)
    shutil.copy(CHECKOUT / "pyproject.toml", made)
    yield made
    node.stop(made / ".rabbitmq")


def test_command(checkout: Path) -> None:
    """In a checkout the command starts, shows and stops the node of that checkout, and says where it is."""

    def command(action: str) -> tuple[int, str, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "topology.node", action],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    assert command("status") == (3, "not running\n", "")
    started = command("start")
    running = node.status(checkout / ".rabbitmq")

    assert running
    assert started == (
        0,
        f"{running.name} runs as process {running.pid}\nAMQP        amqp://guest:***@localhost:{running.amqp_port}/\n"
        f"management  {running.management_url}\n"
        f"log in      user guest, password in {checkout}/.rabbitmq/password\n"
        f"data        {checkout}/.rabbitmq/data\n",
        "",
    )
    check(running.amqp_url)
    assert command("status") == started
    assert command("stop") == (0, "stopped\n", "")
    assert command("stop") == (0, "not running\n", "")
    eventually(lambda: not processes_of(checkout / ".rabbitmq"))


def test_port_taken_meanwhile(folder: Path) -> None:
    """When another program takes a port between choosing and binding, the node moves to another."""
    thieves: list[socket.socket] = []

    def steal() -> None:
        eventually((folder / "node.json").exists)
        port = json.loads((folder / "node.json").read_text())["amqp_port"]
        thieves.append(socket.create_server(("127.0.0.1", port)))

    thief = threading.Thread(target=steal)
    thief.start()
    moved = node.start(folder)
    thief.join()
    with thieves[0] as listener:
        assert moved.amqp_port != listener.getsockname()[1]
    check(moved.amqp_url)
