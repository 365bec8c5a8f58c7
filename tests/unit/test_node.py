"""The private node without a RabbitMQ: its files, its ports, its refusals, and the command `leveret node`."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from leveret.topology.errors import NodeError
from leveret.topology.link import default_broker
from leveret.topology.local import finding, launch, node, process
from tests.unit.commands import leveret


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a node that was never started."""
    return tmp_path / "check out é日本" / ".rabbitmq"


def this_process(folder: Path) -> node.Node:
    """Return a node whose process is this one."""
    start = process.process_start(os.getpid())
    return node.Node(process.name_of(folder), os.getpid(), 21_001, 21_002, folder, str(start), 21_003, 21_004)


def write(running: node.Node, folder: Path, name: str = "node.json") -> None:
    """Leave the file that a start leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({**asdict(running), "folder": str(folder)}))


def install(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a rabbitmq-server first in PATH."""
    server = tmp_path / "bin" / "rabbitmq-server"
    server.parent.mkdir()
    server.write_text(f"#!/bin/sh\n{script}\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", f"{server.parent}:{os.environ['PATH']}")


def test_urls() -> None:
    """A node's URLs carry its ports."""
    made = node.Node("leveret@localhost", 1, 5673, 15673, Path())

    assert made.amqp_url == "amqp://guest:guest@localhost:5673/"
    assert made.management_url == "http://localhost:15673/"


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is that of the package's checkout, whatever the current folder is."""
    monkeypatch.chdir(tmp_path)

    assert node.home() == Path(__file__).resolve().parents[2] / ".rabbitmq"


def test_home_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is installed elsewhere it is the current folder."""
    monkeypatch.setattr(default_broker, "CHECKOUT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)

    assert node.home() == tmp_path.resolve() / ".rabbitmq"


def test_never_started(folder: Path) -> None:
    """Asking about a node that was never started, or stopping it, leaves nothing behind."""
    assert node.status(folder) is None
    assert node.stop(folder) is False
    assert not folder.exists()


def test_living_process(folder: Path) -> None:
    """A node whose process lives is found."""
    running = this_process(folder)
    write(running, folder)

    assert node.status(folder) == running


def test_recycled_pid(folder: Path) -> None:
    """A process that merely has the same pid is not taken for the node, and not stopped."""
    write(replace(this_process(folder), process_start="long ago", epmd_port=1), folder)

    assert node.status(folder) is None
    assert node.stop(folder) is False
    assert not (folder / "node.json").exists()


def test_copied_checkout(folder: Path, tmp_path: Path) -> None:
    """A copy of a checkout does not take the original's node for its own."""
    write(this_process(folder), folder)
    shutil.copytree(folder, tmp_path / "copy")

    assert node.status(tmp_path / "copy") is None


def test_damaged_file(folder: Path) -> None:
    """A damaged node.json is named; nothing is guessed from it."""
    folder.mkdir(parents=True)
    (folder / "node.json").write_text("{")

    with pytest.raises(NodeError, match=r"node\.json is damaged"):
        node.start(folder)


def test_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a rabbitmq-server the error names what else there is."""
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)

    with pytest.raises(NodeError, match=r"install it .*docker compose up.*AMQP_URL"):
        node.start(folder)


def test_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script itself is preferred to the wrapper that switches to another user."""
    script = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    monkeypatch.setattr(
        shutil, "which", lambda _name, path: script if path == launch._PACKAGED else "/usr/sbin/rabbitmq-server"
    )

    assert node.find_server() == script


def test_quote_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that RabbitMQ hangs on is refused at once."""
    install("exit 0", tmp_path, monkeypatch)

    with pytest.raises(NodeError, match="move the checkout"):
        node.start(tmp_path / "d'Artagnan")


def test_unusable_folder(tmp_path: Path) -> None:
    """A folder that cannot be made is named."""
    (tmp_path / "file").touch()

    with pytest.raises(NodeError, match=f"private node in {tmp_path}/file/.rabbitmq"):
        node.start(tmp_path / "file" / ".rabbitmq")


def test_server_that_ends(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends while starting is reported with the end of its log, and forgotten."""
    install("echo no Erlang here >&2; exit 1", tmp_path, monkeypatch)

    with pytest.raises(NodeError, match=r"(?s)ended while starting.*rabbitmq\.log ends:.*no Erlang here"):
        node.start(folder)
    assert node.status(folder) is None
    assert not (folder / "node.json").exists()


def test_environment(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the caller's environment leads the node to another node's name, data or ports."""
    install("env; exit 1", tmp_path, monkeypatch)
    for name in ("RABBITMQ_NODENAME", "RABBITMQ_MNESIA_DIR", "NODENAME", "ERL_LIBS", "NOTIFY_SOCKET", "HOME"):
        monkeypatch.setenv(name, "/elsewhere")

    with pytest.raises(NodeError):
        node.start(folder)
    assert "/elsewhere" not in (folder / "log" / "rabbitmq.log").read_text()


def test_cookie(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Erlang cookie and the folder are for their owner alone."""
    install("exit 1", tmp_path, monkeypatch)

    with pytest.raises(NodeError):
        node.start(folder)
    assert (folder / ".erlang.cookie").stat().st_mode & 0o777 == 0o400
    assert folder.stat().st_mode & 0o777 == 0o700


def test_given_ports_and_cookie(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may choose the ports and the cookie, which the nodes of one cluster have in common."""
    install("env", tmp_path, monkeypatch)
    folder.mkdir(parents=True)
    launched = launch.launch(folder, launch.Ports(21_001, 21_002, 21_003, 21_004), "SECRET")
    process.until(lambda: not launched.is_alive(), 10)

    assert (launched.amqp_port, launched.management_port) == (21_001, 21_002)
    assert (launched.distribution_port, launched.epmd_port) == (21_003, 21_004)
    assert "ERL_EPMD_PORT=21004" in launch.log_of(folder).read_text()
    assert (folder / ".erlang.cookie").read_text() == "SECRET"


def test_the_password_is_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ reads it once, when it makes its data, so each start gives the same; it is its owner's alone."""
    install("exit 1", tmp_path, monkeypatch)
    passwords = []
    for _ in range(2):
        with pytest.raises(NodeError):
            node.start(folder)
        passwords.append((folder / "password").read_text())

    assert passwords[0] == passwords[1]
    assert f"default_pass = {passwords[0]}\n" in (folder / "rabbitmq.conf").read_text()
    assert {(folder / name).stat().st_mode & 0o777 for name in ("password", "rabbitmq.conf")} == {0o400}


def test_data_that_is_older_than_its_password_keeps_that_of_guest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For RabbitMQ would not read another."""
    install("exit 1", tmp_path, monkeypatch)
    (folder / "data" / "leveret").mkdir(parents=True)
    with pytest.raises(NodeError):
        node.start(folder)

    assert not (folder / "password").exists()
    assert default_broker.node_amqp_url(folder, 5672) == "amqp://guest:guest@localhost:5672/"


def test_free_ports() -> None:
    """So many ports as asked for, each another."""
    assert len(set(launch.free_ports(20))) == 20


def test_standard_ports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard ports are taken when both are free."""
    monkeypatch.setattr(launch, "is_free", lambda _port: True)

    assert launch._choose_ports(folder)[:2] == (5672, 15672)


@pytest.mark.parametrize("taken", [5672, 15672])
def test_ports_move_together(taken: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one standard port is taken, AMQP and management both move."""
    monkeypatch.setattr(launch, "is_free", lambda port: port != taken)
    ports = launch._choose_ports(folder)

    assert not {5672, 15672} & set(ports)
    assert len(set(ports)) == 4


def test_last_ports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node comes back on the ports it had."""
    monkeypatch.setattr(launch, "is_free", lambda _port: True)
    write(this_process(folder), folder, "last-node.json")

    assert launch._choose_ports(folder)[:2] == (21_001, 21_002)


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1")]
)
def test_taken_port(family: socket.AddressFamily, address: str) -> None:
    """A port is taken when something listens where clients of localhost look."""
    try:
        listener = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with listener:
        port = listener.getsockname()[1]

        assert not launch.is_free(port)
    assert launch.is_free(port)


def test_status_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The status command says that nothing runs, with exit status 3; and what runs, with 0."""
    monkeypatch.setattr(node, "home", lambda: tmp_path / ".rabbitmq")

    assert leveret("node", "status") == 3
    assert capsys.readouterr().out == "not running\n"

    running = this_process(tmp_path / ".rabbitmq")
    write(running, running.folder)

    assert leveret("node", "status") == 0
    shown = capsys.readouterr().out
    for part in (running.name, str(running.pid), ":***@localhost:21001/", running.management_url, str(tmp_path)):
        assert part in shown
    assert "log in      user guest, password guest\n" in shown  # its data is older than passwords of its own

    (running.folder / "password").write_text("s3cret")
    assert leveret("node", "status") == 0
    shown = capsys.readouterr().out
    assert f"log in      user guest, password in {running.folder}/password\n" in shown
    assert "s3cret" not in shown


def test_stop_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The stop command is content when nothing runs."""
    monkeypatch.setattr(node, "home", lambda: tmp_path / ".rabbitmq")

    assert leveret("node", "stop") == 0
    assert capsys.readouterr().out == "not running\n"


def test_error_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that fails says why, with exit status 1."""
    (tmp_path / ".rabbitmq").touch()
    monkeypatch.setattr(node, "home", lambda: tmp_path / ".rabbitmq")

    assert leveret("node", "start") == 1
    assert capsys.readouterr().err.startswith(f"leveret node: private node in {tmp_path}/.rabbitmq: ")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help ends in examples, and what the status says."""
    assert leveret("node", "--help") == 0
    *_, examples, statuses = capsys.readouterr().out.rstrip().split("\n\n")

    assert examples.endswith("leveret node stop")
    assert statuses.startswith("Exit status: ")
    assert "3 no node runs (status)" in " ".join(statuses.split())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["begin"], "'begin' is not one of 'start', 'stop', 'status', 'find'"),
        (["start", "--start"], "--start goes with find; to start the private node say: leveret node start"),
        (["status", "--start"], "--start goes with find"),
    ],
)
def test_wrong_usage(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no action, or asks to start where nothing is looked for, is refused with status 2."""
    assert leveret("node", *arguments) == 2
    said = capsys.readouterr().err

    assert said.startswith("leveret node: ")
    assert reason in said


@pytest.mark.parametrize(("options", "may_start"), [([], False), (["--start"], True)])
def test_find_command(
    options: list[str], may_start: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broker that every command uses is shown without its password, and started only when asked for."""

    def find(start: bool, say: Callable[[str], None]) -> finding.Broker:
        assert start is may_start
        say("a slow step")
        return finding.Broker("amqp://user:s3cret@host/", "http://user:s3cret@host:15672/", "AMQP_URL, and so on")

    monkeypatch.setattr(finding, "find", find)

    assert leveret("node", "find", *options) == 0
    shown, said = capsys.readouterr()
    assert shown.splitlines() == [
        "AMQP_URL, and so on",
        "AMQP        amqp://user:***@host/",
        "management  http://user:***@host:15672/",
    ]
    assert said == "a slow step\n"
