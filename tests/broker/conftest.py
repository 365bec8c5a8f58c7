"""A real RabbitMQ for the tests: found or started as every command does it, with a virtual host for each test."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leveret import LeveretError, Publisher
from leveret.topology.local import finding, node
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders
from tests.broker.scheduling import Schedulers
from tests.broker.support import Restart, Vhost, Workers, warm
from tests.shared import FOLDER, alone, beside_others, find_broker, folder_of


@pytest.fixture(scope="session")
def found_broker(pytestconfig: pytest.Config) -> finding.Broker:
    try:
        # a test that has the broker alone, and stops it, may be the first of another process
        with beside_others(pytestconfig.stash[FOLDER]):
            return find_broker(pytestconfig.stash[FOLDER])
    except LeveretError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"no RabbitMQ: {error}")


@pytest.fixture(scope="session", autouse=True)
def end_of_warm() -> Iterator[None]:
    """Ends what started commands, if any test had it."""
    yield
    if warm.cache_info().currsize:
        warm().close()


@pytest.fixture(scope="session")
def installed_server(found_broker: finding.Broker) -> str:
    """The rabbitmq-server for nodes of a test's own; where there is no broker at all, looking for one installs it."""
    server = node.find_server()
    if server is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("no rabbitmq-server is installed")
    return server


@pytest.fixture(scope="session")
def node_alone(installed_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a node for tests that stop or block it, which then disturbs nobody."""
    folder = tmp_path_factory.mktemp("alone") / ".rabbitmq"
    node.start(folder)
    yield folder
    node.stop(folder)


@pytest.fixture
def node_folder(found_broker: finding.Broker, request: pytest.FixtureRequest) -> Path | None:
    """Where the private node lives that the test uses; None when the broker is no private node."""
    folder = folder_of(found_broker, request.config.stash[FOLDER])
    if "BROKER_CTL" in os.environ or folder is None:
        return None
    if request.node.get_closest_marker("alone"):
        folder = request.getfixturevalue("node_alone")
    return folder


@pytest.fixture
def used_broker(
    found_broker: finding.Broker,
    node_folder: Path | None,
    request: pytest.FixtureRequest,
    pytestconfig: pytest.Config,
) -> Iterator[finding.Broker]:
    """The broker of one test: that of all, which a test marked `alone` waits for, or has a node instead."""
    is_alone = request.node.get_closest_marker("alone") is not None
    if is_alone and node_folder:
        own = node.status(node_folder)
        assert own
        yield finding.Broker(own.amqp_url, own.management_url, "a node for tests that need it alone")
        return
    with (alone if is_alone else beside_others)(pytestconfig.stash[FOLDER]):
        yield found_broker


@pytest.fixture(scope="module")
def broker_of_module(found_broker: finding.Broker, pytestconfig: pytest.Config) -> Iterator[finding.Broker]:
    """The broker of all, which no test stops while a module has something open there."""
    with beside_others(pytestconfig.stash[FOLDER]):
        yield found_broker


@pytest.fixture
def vhost(used_broker: finding.Broker) -> Iterator[Vhost]:
    made = Vhost.create(used_broker)
    yield made
    made.delete()


@pytest.fixture
def control(used_broker: finding.Broker, node_folder: Path | None) -> BrokerControl:
    return BrokerControl(used_broker, node_folder)


@pytest.fixture
def restart_broker(node_folder: Path | None) -> Restart:
    """Stop and start RabbitMQ: with BROKER_CTL, a rabbitmqctl command, or on the private node."""
    if "BROKER_CTL" in os.environ:
        command = shlex.split(os.environ["BROKER_CTL"])

        def restart() -> None:
            for verb in ("stop_app", "start_app"):
                subprocess.run([*command, verb], check=True, capture_output=True)

        return restart
    if node_folder is None:
        pytest.skip("set BROKER_CTL to the rabbitmqctl command of this broker")

    def restart_node() -> None:
        node.stop(node_folder)
        node.start(node_folder)

    return restart_node


@pytest.fixture
def workers(vhost: Vhost, tmp_path: Path) -> Iterator[Workers]:
    """Start workers on the test's virtual host; whatever still runs is killed at the end."""
    made = Workers(vhost, tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
def recorders(vhost: Vhost, tmp_path: Path) -> Iterator[Recorders]:
    """Start recorders on the test's virtual host; whatever still runs is killed at the end."""
    made = Recorders(vhost, tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
def schedulers(vhost: Vhost, tmp_path: Path) -> Iterator[Schedulers]:
    """Start schedulers on the test's virtual host; whatever still runs is killed at the end."""
    made = Schedulers(vhost, tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
def publisher(vhost: Vhost) -> Iterator[Publisher]:
    """A publisher on the test's virtual host, where the queue of the test tasks is declared."""
    vhost.declare(jobs)
    with Publisher(vhost.settings) as made:
        yield made
