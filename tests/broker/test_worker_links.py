"""A worker and links of no use: they are lost as soon as it consumes, or take nothing that is published."""

from __future__ import annotations

import pytest

from leveret import Route
from leveret.topology.names import dlq_name
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import Vhost, Workers, await_value
from tests.faults.proxy import Proxy


def test_links_that_are_lost_at_once_are_opened_with_pauses(vhost: Vhost, workers: Workers) -> None:
    """Longer ones each time, up to a second, also where it gets as far as consuming."""
    vhost.declare(jobs)

    def consuming_again(times: int) -> str:
        """What it says of the last of so many."""
        again = await_value(lambda: worker.find("consuming again")[times - 1 :], "the next link")
        return str(again[0]["message"])

    with Proxy.before(vhost.amqp_url) as proxy:
        worker = workers.start(AMQP_URL=proxy.url(vhost.amqp_url))
        for times in range(1, 8):
            proxy.reset()
            said = consuming_again(times)
        status = worker.stop()

    assert float(said.split()[3]) >= 0.5
    assert status == 0


@pytest.mark.alone
def test_what_an_alarm_blocks_is_kept(vhost: Vhost, workers: Workers, control: BrokerControl) -> None:
    """A dead message stays with its worker, which says in the broker's words why, until the alarm has ended."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct(jobs.name), "jobs.unknown", "dead")
    with control.memory_alarm():
        await_value(lambda: any(node.get("mem_alarm") for node in vhost.api("GET", "nodes")), "the alarm")
        worker = workers.start("--until-empty", PUBLISH_TIMEOUT_SECONDS="1")
        said = worker.await_event("keeping dead until 'tasks.dead' takes it for 'jobs'")["message"]
        assert vhost.count(dlq_name(jobs.name)) == 0

    assert "blocks publishers (low on memory); message dead was not confirmed within 1 s" in said
    assert worker.wait() == 0
    assert set(vhost.ids_in(dlq_name(jobs.name))) == {"dead"}  # what was given up arrives, too
    assert vhost.counts(jobs) == {}
