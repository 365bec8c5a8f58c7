"""A worker and links that are lost as soon as it consumes."""

from __future__ import annotations

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
