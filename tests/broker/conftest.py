"""A real RabbitMQ for the tests: found or started as every command does it, with a virtual host for each test."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers import Publisher
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import Restart, Vhost, Workers
from topology import broker, node
from topology.errors import LeveretError


@pytest.fixture(scope="session")
def found_broker() -> Iterator[broker.Broker]:
    ran_before = node.status()
    try:
        found = broker.find(start=True)
    except LeveretError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"no RabbitMQ: {error}")
    yield found
    if ran_before is None:
        node.stop()


@pytest.fixture(scope="session")
def installed_server(found_broker: broker.Broker) -> str:
    """The rabbitmq-server for nodes of a test's own; where there is no broker at all, looking for one installs it."""
    server = node.find_server()
    if server is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("no rabbitmq-server is installed")
    return server


@pytest.fixture
def vhost(found_broker: broker.Broker) -> Iterator[Vhost]:
    made = Vhost.create(found_broker)
    yield made
    made.delete()


@pytest.fixture
def control(found_broker: broker.Broker) -> BrokerControl:
    return BrokerControl(found_broker)


@pytest.fixture
def restart_broker(found_broker: broker.Broker) -> Restart:
    """Stop and start RabbitMQ: with BROKER_CTL, a rabbitmqctl command, or on the private node."""
    if "BROKER_CTL" in os.environ:
        command = shlex.split(os.environ["BROKER_CTL"])

        def restart() -> None:
            for verb in ("stop_app", "start_app"):
                subprocess.run([*command, verb], check=True, capture_output=True)

        return restart
    running = node.status()
    if running is None or running.amqp_url != found_broker.amqp_url:
        pytest.skip("set BROKER_CTL to the rabbitmqctl command of this broker")

    def restart_node() -> None:
        node.stop()
        node.start()

    return restart_node


@pytest.fixture
def workers(vhost: Vhost, tmp_path: Path) -> Iterator[Workers]:
    """Start workers on the test's virtual host; whatever still runs is killed at the end."""
    made = Workers(vhost, tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
def publisher(vhost: Vhost) -> Iterator[Publisher]:
    """A publisher on the test's virtual host, where the queue of the test tasks is declared."""
    vhost.declare(jobs)
    with Publisher(vhost.settings) as made:
        yield made
