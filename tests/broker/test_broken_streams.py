"""A stream of cancels or pauses that the broker breaks at: the work goes on, and what is said elsewhere is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from leveret import Route, cancel, pause
from leveret.topology.apply.declare import declare_streams
from leveret.topology.names import CANCELLED_QUEUE, PAUSED_QUEUE
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers
from tests.broker.test_worker import lose_connection


@pytest.fixture(autouse=True)
def _breaks(vhost: Vhost) -> None:
    """RabbitMQ 4.3 closes the connection of who reads a stream that its coordinator does not know."""
    if vhost.api("GET", "overview")["rabbitmq_version"] < "4":
        pytest.skip("RabbitMQ 3.10 closes no connection for a broken stream")


def write(vhost: Vhost, folder: Path, *ids: str) -> None:
    for task_id in ids:
        vhost.publish_task(Route.direct("jobs"), "jobs.write", task_id, path=str(folder / task_id))


def test_a_worker_starts_all_the_same(vhost: Vhost, workers: Workers, control: BrokerControl, tmp_path: Path) -> None:
    """Cancels are heard though pauses are not; these are once their stream is made anew."""
    vhost.declare(jobs)
    declare_streams(vhost.settings)
    control.forget_stream(vhost.name, PAUSED_QUEUE)
    cancel("two", configured=vhost.settings)
    write(vhost, tmp_path, "one", "two", "three")
    worker = workers.start()
    worker.await_event("done", id="one")
    worker.await_event("done", id="three")

    assert any("does not answer: 541 INTERNAL_ERROR;" in one["message"] for one in worker.events)
    assert worker.find("cancelled", id="two")
    assert not (tmp_path / "two").exists()
    vhost.api("DELETE", f"queues/{vhost.name}/{PAUSED_QUEUE}")
    declare_streams(vhost.settings)
    pause("jobs", configured=vhost.settings)
    worker.await_event("paused by ", queue="jobs")
    assert worker.stop() == 0


def test_a_worker_comes_back_all_the_same(
    vhost: Vhost, workers: Workers, control: BrokerControl, tmp_path: Path
) -> None:
    """Which breaks when the link has been lost."""
    vhost.declare(jobs)
    worker = workers.start()
    for name in (CANCELLED_QUEUE, PAUSED_QUEUE):
        control.forget_stream(vhost.name, name)
    lose_connection(vhost, worker)
    write(vhost, tmp_path, "one")
    worker.await_event("done", id="one")

    assert worker.stop() == 0
