"""What is wrong: the facts are gathered, then every check looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from leveret.producers.doctor import of_broker, of_nodes, of_queues, of_workers
from leveret.producers.doctor.facts import Facts
from leveret.producers.doctor.finding import Finding, fail
from leveret.producers.doctor.gathering import gather
from leveret.topology import queues
from leveret.topology.errors import BrokerError
from leveret.topology.link import daemon_thread, default_broker
from leveret.topology.message import check_name
from leveret.topology.names import dlq_name, work_queue_of
from leveret.topology.settings import Settings, load

CHECKS: tuple[Callable[[Facts], Iterable[Finding]], ...] = (
    *of_broker.CHECKS,
    *of_nodes.CHECKS,
    *of_queues.CHECKS,
    *of_workers.CHECKS,
)
"""All that is looked at, in the order in which it is shown."""


def doctor(*only: str, configured: Settings | None = None) -> list[Finding]:
    """Say what is wrong with the broker, its queues and the workers; with names, of these work queues only.

    Looked at are the queues of this program, those that workers take, and those that are on the broker. Whatever does
    not answer is a finding itself, and takes some seconds at most. Without settings those of the environment hold.
    Raises `SettingsError`, and `MessageError` for a name that no queue can have.
    """
    return daemon_thread.call(lambda: asyncio.run(doctor_async(*only, configured=configured)))


async def doctor_async(*only: str, configured: Settings | None = None) -> list[Finding]:
    """Do as `doctor` does, awaitable."""
    names = [_work_queue(name) for name in only]
    try:
        resolved = await daemon_thread.start(default_broker.resolve, configured or load())
    except BrokerError as error:
        return [fail("broker", str(error))]
    return judge(await gather(resolved, queues.known(), names))


def judge(facts: Facts) -> list[Finding]:
    """Return what every check finds in these facts."""
    return [finding for check in CHECKS for finding in check(facts)]


def _work_queue(name: str) -> str:
    """Return the work queue that is meant by a name: its own, or that of its DLQ, of a tier or of a level."""
    check_name(dlq_name(name), "queue")
    named = work_queue_of(name)
    return queue.name if (queue := queues.with_level(named)) else named
