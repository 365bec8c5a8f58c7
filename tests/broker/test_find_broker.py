"""`leveret node find`: in which order it looks, and what it starts. Docker, apt and most brokers are played."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from leveret import AccessRefused, BrokerUnreachable, Settings
from leveret.command import main
from leveret.topology.errors import NodeError
from leveret.topology.link import default_broker
from leveret.topology.link.connection import check
from leveret.topology.local import finding, node, provision
from tests.broker.support import Vhost

STANDARD = "amqp://guest:guest@localhost:5672/"
COMPOSE_UP = "docker compose up -d --wait"
APT_UPDATE = "apt-get update"
APT_INSTALL = "apt-get install -y --no-install-recommends rabbitmq-server"


@dataclass
class Machine:
    """What there is on the machine, and what was done to it."""

    folder: Path
    answering: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    running: node.Node | None = None
    server: bool = False
    programs: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    user_id: int = 1000
    commands: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)

    def check(self, amqp_url: str, timeout_seconds: float = 5.0, settings: Settings | None = None) -> None:
        """Answer as link/connection.py does."""
        if amqp_url in self.refusing:
            raise AccessRefused("the broker refused the user")
        if amqp_url not in self.answering:
            raise BrokerUnreachable("the broker does not answer")

    def private(self, amqp_port: int = 21_001) -> node.Node:
        """Return the private node of this machine's checkout."""
        return node.Node("leveret@localhost", 1, amqp_port, 21_002, self.folder / ".rabbitmq")

    def start_node(self) -> node.Node:
        """Start the private node, when there is something to start."""
        if not (self.server or self.running):
            raise NodeError("no rabbitmq-server is installed")
        self.commands.append("start node")
        self.running = self.private()
        return self.running

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Play one command of Docker or apt."""
        line = " ".join(command)
        self.commands.append(line)
        self.environments.append(options.get("env") or {})
        policy = self.folder / "policy-rc.d"
        self.policies.append(policy.read_text() if policy.exists() else "")
        if line in self.failing:
            return subprocess.CompletedProcess(command, 100, f"{line}: it broke\n")
        if line == COMPOSE_UP:
            self.answering.add(STANDARD)
        if line == APT_INSTALL:
            self.server = True
        return subprocess.CompletedProcess(command, 0, "")

    def find(self, start: bool = True) -> finding.Broker:
        """Look for a broker."""
        return finding.find(start, say=self.said.append)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine with nothing on it."""
    machine = Machine(tmp_path)
    for name in ("AMQP_URL", "MANAGEMENT_URL", "LEVERET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(finding, "check", machine.check)
    monkeypatch.setattr(default_broker, "check", machine.check)
    monkeypatch.setattr(provision, "check", machine.check)
    monkeypatch.setattr(provision, "_DEBIAN", tmp_path)
    monkeypatch.setattr(provision, "_SERVICE_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(default_broker, "CHECKOUT", tmp_path)
    monkeypatch.setattr(node, "status", lambda: machine.running)
    monkeypatch.setattr(node, "start", machine.start_node)
    monkeypatch.setattr(node, "find_server", lambda: "rabbitmq-server" if machine.server else None)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in machine.programs else None)
    monkeypatch.setattr(subprocess, "run", machine.run)
    monkeypatch.setattr(os, "geteuid", lambda: machine.user_id)
    for name in ("pyproject.toml", "docker-compose.yml"):
        (tmp_path / name).touch()
    return machine


def test_amqp_url(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """AMQP_URL comes before anything else, and its host tells where the management is."""
    url = "amqp://me:secret@rabbit.example/tasks"
    machine.answering = {url, STANDARD}
    machine.running = machine.private()
    monkeypatch.setenv("AMQP_URL", url)
    found = machine.find()

    assert found.amqp_url == url
    assert found.management_url == "http://rabbit.example:15672/"
    assert found.how == "AMQP_URL, amqp://me:***@rabbit.example/tasks"


def test_management_url(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """MANAGEMENT_URL replaces the guess."""
    machine.answering = {STANDARD}
    monkeypatch.setenv("AMQP_URL", STANDARD)
    monkeypatch.setenv("MANAGEMENT_URL", "https://rabbit.example/ui/")

    assert machine.find().management_url == "https://rabbit.example/ui/"


def test_several_amqp_urls(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several brokers in AMQP_URL one must answer; its management is used."""
    machine.answering = {"amqp://[::1]/"}
    monkeypatch.setenv("AMQP_URL", "amqp://one/;amqp://[::1]/")
    found = machine.find()

    assert found.amqp_url == "amqp://one/;amqp://[::1]/"
    assert found.management_url == "http://[::1]:15672/"


@pytest.mark.parametrize("refuses", [True, False])
def test_amqp_url_that_fails(refuses: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When AMQP_URL does not work that is an error, however many other brokers there are."""
    machine.answering = {STANDARD}
    machine.refusing = {"amqp://elsewhere/"} if refuses else set()
    machine.server = True
    monkeypatch.setenv("AMQP_URL", "amqp://elsewhere/")

    with pytest.raises(AccessRefused if refuses else BrokerUnreachable, match="AMQP_URL decides"):
        machine.find()
    assert machine.commands == []


def test_standard_port(machine: Machine) -> None:
    """A broker on localhost:5672 comes before the private node."""
    machine.answering = {STANDARD}
    machine.running = machine.private()

    assert machine.find() == finding.Broker(STANDARD, "http://localhost:15672/", "RabbitMQ on localhost:5672")


def test_private_node_on_the_standard_port(machine: Machine) -> None:
    """The private node is called so on localhost:5672 too, and its own management is used."""
    machine.answering = {STANDARD}
    machine.running = machine.private(5672)
    found = machine.find()

    assert found.how == f"private node leveret@localhost in {machine.folder / '.rabbitmq'}"
    assert found.management_url == "http://localhost:21002/"


def test_private_node(machine: Machine) -> None:
    """The private node is used when nobody lets guest in on localhost:5672."""
    machine.running = machine.private()
    machine.refusing = {STANDARD}
    machine.answering = {machine.running.amqp_url}

    assert machine.find(start=False).amqp_url == machine.running.amqp_url
    assert (machine.commands, machine.said) == ([], [])


def test_private_node_that_is_starting(machine: Machine) -> None:
    """A private node that does not answer yet is waited for, by who asks to start one."""
    machine.running = machine.private()

    with pytest.raises(BrokerUnreachable):
        machine.find(start=False)
    assert machine.find().amqp_url == machine.running.amqp_url
    assert machine.said == [f"waiting for the private RabbitMQ node in {machine.folder / '.rabbitmq'} …"]


def test_nothing_is_started_unasked(machine: Machine) -> None:
    """Without being asked nothing is started; the error lists the choices."""
    machine.server, machine.user_id = True, 0
    machine.programs = {"docker", "apt-get"}

    with pytest.raises(BrokerUnreachable, match=r"no broker answers.*leveret node start.*docker compose.*AMQP_URL"):
        machine.find(start=False)
    assert (machine.commands, machine.said) == ([], [])


def test_refused_guest(machine: Machine) -> None:
    """A broker that does not let guest in is mentioned when there is no other."""
    machine.refusing = {STANDARD}

    with pytest.raises(BrokerUnreachable, match="localhost:5672 does not let guest in"):
        machine.find()


def test_installed_server(machine: Machine) -> None:
    """An installed rabbitmq-server comes before Docker."""
    machine.server, machine.programs = True, {"docker"}

    assert machine.find().amqp_url == machine.private().amqp_url
    assert machine.commands == ["start node"]
    assert machine.said == [f"starting a private RabbitMQ node in {machine.folder / '.rabbitmq'} …"]


def test_node_that_fails(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the private node cannot start that is an error, and Docker does not hide it."""
    machine.server, machine.programs = True, {"docker"}

    def fail() -> node.Node:
        raise NodeError("it ended while starting")

    monkeypatch.setattr(node, "start", fail)

    with pytest.raises(NodeError, match="ended while starting"):
        machine.find()


def test_docker(machine: Machine) -> None:
    """Docker comes before apt; its broker is the one on localhost:5672."""
    machine.user_id, machine.programs = 0, {"docker", "apt-get"}
    found = machine.find()

    assert (found.amqp_url, found.management_url) == (STANDARD, "http://localhost:15672/")
    assert machine.commands == ["docker info", COMPOSE_UP]
    assert len(machine.said) == 1


def test_docker_that_fails(machine: Machine) -> None:
    """What docker compose said is shown when it fails."""
    machine.programs, machine.failing = {"docker"}, {COMPOSE_UP}

    with pytest.raises(BrokerUnreachable, match=f"(?s)status 100.*AMQP_URL.*{COMPOSE_UP}: it broke"):
        machine.find()


def test_apt(machine: Machine) -> None:
    """As root on Debian rabbitmq-server is installed, without starting the system's service."""
    machine.user_id, machine.programs = 0, {"docker", "apt-get"}
    machine.failing = {"docker info"}

    assert machine.find().amqp_url == machine.private().amqp_url
    assert machine.commands == ["docker info", APT_UPDATE, APT_INSTALL, "start node"]
    assert [said["DEBIAN_FRONTEND"] for said in machine.environments[1:]] == ["noninteractive"] * 2
    assert all("exit 101" in policy for policy in machine.policies[1:])
    assert not (machine.folder / "policy-rc.d").exists()


def test_apt_that_fails(machine: Machine) -> None:
    """What apt said is shown when it fails, and nothing is left behind."""
    machine.user_id, machine.programs = 0, {"apt-get"}
    machine.failing = {APT_UPDATE, APT_INSTALL}

    with pytest.raises(BrokerUnreachable, match=f"(?s)AMQP_URL.*{APT_UPDATE}: it broke.*{APT_INSTALL}: it broke"):
        machine.find()
    assert not (machine.folder / "policy-rc.d").exists()


def test_existing_service_policy(machine: Machine) -> None:
    """A policy about services that the machine has is left as it is."""
    machine.user_id, machine.programs = 0, {"apt-get"}
    policy = machine.folder / "policy-rc.d"
    policy.write_text("of this machine")
    machine.find()

    assert machine.policies == ["of this machine", "of this machine"]
    assert policy.read_text() == "of this machine"


def test_no_root(machine: Machine) -> None:
    """Nothing is installed by who is not root; the error lists the choices."""
    machine.programs = {"apt-get"}

    with pytest.raises(BrokerUnreachable, match="install rabbitmq-server"):
        machine.find()
    assert machine.commands == []


def test_command(machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command shows the broker and no password."""
    url = "amqp://me:secret@rabbit.example/"
    machine.answering = {url}
    monkeypatch.setenv("AMQP_URL", url)
    monkeypatch.setenv("MANAGEMENT_URL", "http://me:secret@rabbit.example:15672/")

    assert main(["node", "find"]) == 0
    shown = capsys.readouterr().out
    assert "amqp://me:***@rabbit.example/" in shown
    assert "http://me:***@rabbit.example:15672/" in shown
    assert "secret" not in shown


def test_command_without_broker(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says in one line that there is none, with exit status 1."""
    assert main(["node", "find"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("leveret node: no broker answers on localhost:5672")
    assert len(shown.err.splitlines()) == 1


def test_interrupted_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while it waits for a node ends it in one line, with the exit status shells expect."""

    def interrupt() -> node.Node:
        raise KeyboardInterrupt

    machine.running = machine.private()
    monkeypatch.setattr(node, "start", interrupt)

    assert main(["node", "find", "--start"]) == 130
    assert capsys.readouterr().err.splitlines()[1:] == ["leveret node: interrupted"]


@pytest.fixture
def real_folder(installed_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a checkout with no broker but the node it may start."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for name in ("AMQP_URL", "MANAGEMENT_URL", "LEVERET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for module in (finding, default_broker):
        monkeypatch.setattr(module, "STANDARD_URL", f"amqp://guest:guest@localhost:{port}/")
    monkeypatch.setattr(default_broker, "CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    yield tmp_path / ".rabbitmq"
    node.stop()


def test_real_node(real_folder: Path) -> None:
    """A private node is started for who asks, and found from then on, by every command."""
    for look in (finding.find, default_broker.running_here):
        with pytest.raises(BrokerUnreachable, match="no broker answers on localhost:5672"):
            look()
    said: list[str] = []
    started = finding.find(start=True, say=said.append)

    assert said == [f"starting a private RabbitMQ node in {real_folder} …"]
    assert finding.find() == started
    assert default_broker.running_here() == (started.amqp_url, started.management_url)
    assert str(real_folder) in started.how


def test_real_refusals(vhost: Vhost) -> None:
    """What a broker refuses is told apart from what may be otherwise the next time."""
    with vhost.limited_user() as url:
        name = urlsplit(url).username
        vhost.api("DELETE", f"permissions/{vhost.name}/{name}")
        for refused, text in (
            (url.replace(":secret@", ":wrong@"), f"refused user '{name}' or its password"),
            (f"{url}-nope", f"no virtual host '{vhost.name}-nope' for user '{name}': .*not found.*; create it"),
            (
                url,
                f"no virtual host '{vhost.name}' for user '{name}': .*refused.*give the right: rabbitmqctl set_permi",
            ),
        ):
            with pytest.raises(AccessRefused, match=text):
                check(refused)
    vhost.api("PUT", f"vhost-limits/{vhost.name}/max-connections", {"value": 0})

    with pytest.raises(BrokerUnreachable, match=r"handshake: .*connection limit \(0\) is reached"):
        check(vhost.settings.first_amqp_url)
