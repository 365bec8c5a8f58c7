"""Faults of the broker's node: killed, stopped, out of memory or disk, and a dead-letter queue that is gone or full."""

from __future__ import annotations

import time
from collections.abc import Callable

from leveret import Publisher
from leveret.topology.names import dlq_name
from tests.broker.support import await_value
from tests.faults import logged
from tests.faults.proxy import Proxy
from tests.faults.row import Need, Row
from tests.faults.rows.link import publisher_at
from tests.faults.stage import HELD, PREFETCH, Stage

SETTLED_SECONDS = 3.5
"""A quorum queue that was declared a moment ago may come back empty after kill -9."""
_TIMEOUT_SECONDS = 3.0
_LEEWAY_SECONDS = 1.5
_DLQ = dlq_name(logged.faults.name)

Alarm = tuple[str, str, str]


def kill_node(stage: Stage) -> None:
    """Kill the node and start it again, while tasks are submitted and run."""
    _interrupt(stage, stage.nodes.kill)


def restart_node(stage: Stage) -> None:
    """Stop the node as an operator does, and start it again."""
    _interrupt(stage, stage.nodes.stop)


def _interrupt(stage: Stage, end: Callable[[int], None]) -> None:
    stage.place.has_fast_statistics = False
    for _ in range(2):
        stage.worker("--prefetch", str(PREFETCH))
    time.sleep(SETTLED_SECONDS)
    with stage.load(count=200, seconds=3.0):
        stage.wait_a_moment()
        stage.await_running()
        with stage.fault():
            stage.breaks = 1
            end(1)
            stage.nodes.start(1)
    stage.submit(*stage.messages(20))


def memory_alarm(stage: Stage) -> None:
    """Raise the memory alarm, which blocks publishers, while work is left to do."""
    _alarm(stage, ("set_vm_memory_high_watermark", "0.0000001", "0.4"), "mem_alarm")


def disk_alarm(stage: Stage) -> None:
    """Raise the disk alarm, which blocks publishers, while work is left to do."""
    _alarm(stage, ("set_disk_free_limit", "1000GB", "50MB"), "disk_free_alarm")


def _alarm(stage: Stage, alarm: Alarm, sign: str) -> None:
    command, low, normal = alarm
    stage.worker(PUBLISH_TIMEOUT_SECONDS="120")  # longer than the alarm, or the copy goes out once more
    work = stage.submit(*stage.messages(60), *(stage.message("faults.fail", times=1) for _ in range(10)))
    stage.submit(stage.message("faults.reject", seconds=1.5))  # its copy for the dead-letter queue has to wait
    with (
        Proxy.before(stage.vhost.amqp_url) as proxy,
        publisher_at(stage, stage.vhost.amqp_url, _TIMEOUT_SECONDS) as near,
        publisher_at(stage, proxy.url(stage.vhost.amqp_url), _TIMEOUT_SECONDS) as far,
    ):
        stage.submit(*stage.messages(1), by=near)
        stage.submit(*stage.messages(1), by=far)
        with stage.fault():
            try:
                stage.nodes.ctl(1, command, low)
                await_value(lambda: stage.vhost.api("GET", "nodes")[0].get(sign), f"the node's {sign}")
                for publisher in (near, far, near):
                    _expect_blocked(stage, publisher)
                proxy.reset()  # whoever was blocked and lost the link must hear of the alarm's end all the same
                stage.await_finished(*work)
            finally:
                stage.nodes.ctl(1, command, normal)
        await_value(lambda: stage.vhost.api("GET", "nodes")[0].get(sign) is False, f"the end of the node's {sign}")
        for publisher in (near, far):
            before = stage.account().unknown
            stage.submit(*stage.messages(10), by=publisher)
            refused = stage.account().unknown - before
            stage.expect(not refused, f"after the alarm submit was refused: {stage.errors()[-1:]}")


def _expect_blocked(stage: Stage, publisher: Publisher) -> None:
    began = time.monotonic()
    stage.submit(*stage.messages(1), by=publisher)
    seconds = time.monotonic() - began
    error = stage.errors()[-1:]
    stage.expect(error and error[0].startswith("BrokerBlocked"), f"during the alarm submit ended with {error}")
    stage.expect(
        seconds <= _TIMEOUT_SECONDS + _LEEWAY_SECONDS,
        f"with a timeout of {_TIMEOUT_SECONDS} s, submit took {seconds:.1f} s to say that the broker is blocked",
    )


def dlq_deleted(stage: Stage) -> None:
    """Delete the dead-letter queue, have tasks fail for good, and declare it again."""

    def repair() -> None:
        stage.vhost.declare(logged.faults)

    _without_dlq(stage, lambda: stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{_DLQ}"), repair)


def dlq_full(stage: Stage) -> None:
    """Limit the length of the dead-letter queue by a policy, have tasks fail for good, and raise the limit.

    Not lifted: RabbitMQ 3.10 goes on refusing on a channel where it has refused, when the limit is removed.
    """
    policy = f"policies/{stage.vhost.name}/full"

    def limit(length: int) -> None:
        definition = {"max-length": length, "overflow": "reject-publish"}
        pattern = f"^{_DLQ.replace('.', '[.]')}$"
        stage.vhost.api("PUT", policy, {"pattern": pattern, "definition": definition, "apply-to": "queues"})

    def fill() -> None:
        limit(1)
        stage.submit(*(stage.message("faults.reject", seconds=0.01) for _ in range(3)))

    _without_dlq(stage, fill, lambda: limit(10**6))


def _without_dlq(stage: Stage, take_away: Callable[[], None], give_back: Callable[[], None]) -> None:
    worker = stage.worker()
    with stage.load():
        stage.wait_a_moment()
        with stage.fault():
            take_away()
            for _ in range(10):
                stage.submit(stage.message("faults.reject", seconds=0.01), stage.message("faults.fail", times=9))
            worker.await_event("keeping")
            stage.wait_a_moment()
            give_back()


def most_duplicates(stage: Stage) -> int:
    """Return how many tasks may run twice: each time what every worker held, and a publish that had no confirm."""
    return stage.breaks * (len(stage.started) * stage.held() + 1)


BOUND = f"{HELD}, of each of two, and a publish that had no confirm yet"
_NODES = frozenset({Need.NODES})

ROWS = [
    Row(5, "kill-node", "kill -9 of the broker, and a restart", BOUND, kill_node, most_duplicates, _NODES),
    Row(6, "restart-node", "a graceful stop of the broker, and a start", BOUND, restart_node, most_duplicates, _NODES),
    Row(10, "memory-alarm", "a memory alarm", "0", memory_alarm, needs=_NODES),
    Row(11, "disk-alarm", "a disk alarm", "0", disk_alarm, needs=_NODES),
    Row(12, "dlq-deleted", "the dead-letter queue is deleted for a while", "0", dlq_deleted, patience_seconds=240),
    Row(12, "dlq-full", "the dead-letter queue is full for a while", "0", dlq_full, patience_seconds=240),
]
