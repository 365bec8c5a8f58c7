"""The nodes that fault tests own: they keep what they confirmed, and form clusters."""

from collections.abc import Iterator
from pathlib import Path

import pika
import pytest

from leveret.topology.errors import NodeError
from tests.faults.nodes import Nodes, PrivateNodes

pytestmark = [pytest.mark.usefixtures("installed_server"), pytest.mark.once]  # of that server's version


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = PrivateNodes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.close()


def is_running(nodes: Nodes, number: int) -> bool:
    try:
        nodes.ctl(number, "ping")
    except NodeError:
        return False
    return True


def publish(url: str, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"kept", pika.BasicProperties(delivery_mode=2))


def get(url: str, queue: str) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        body: bytes | None = connection.channel().basic_get(queue, auto_ack=True)[2]
        return body


def test_stop_and_start(nodes: Nodes, tmp_path: Path) -> None:
    """A stopped node answers no more; started again it has its data, at the same URL."""
    nodes.start(1)
    url = nodes.amqp_url(1)
    publish(url, "stopped")
    nodes.stop(1)
    assert not is_running(nodes, 1)
    nodes.start(1)

    assert nodes.amqp_url(1) == url
    assert get(url, "stopped") == b"kept"


def test_failing_ctl(nodes: Nodes) -> None:
    """What rabbitmqctl says against a command is in the error."""
    nodes.start(1)

    with pytest.raises(NodeError, match="no_such_command"):
        nodes.ctl(1, "no_such_command")


def test_cluster(nodes: Nodes) -> None:
    """Two nodes share their queues, survive the death of one, and part again."""
    with nodes.cluster(2):
        publish(nodes.amqp_url(1), "shared")
        assert nodes.leader(1, "/", "shared") == nodes.name(1)
        nodes.kill(2)
        assert nodes.running(1) == 1
        nodes.start(2)
        assert nodes.running(1) == 2

        assert get(nodes.amqp_url(2), "shared") == b"kept"

    assert [nodes.running(1), nodes.running(2)] == [1, 1]
