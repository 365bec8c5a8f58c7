"""A fault of a cluster amid tasks that somebody waits for who knows one node: the queue of who waits goes with it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from leveret import LeveretError, Publisher, ResultMissed, ResultTimeout
from tests.broker.support import await_value
from tests.faults.killed_producer import CONFIRMED
from tests.faults.nodes import at_vhost
from tests.faults.proxy import Proxy
from tests.faults.row import Need, Row
from tests.faults.rows.cluster import see_all_run, urls_of
from tests.faults.rows.confirms import run_producer
from tests.faults.rows.following import (
    PATIENCE_SECONDS,
    PREFETCH,
    collect,
    followed_messages,
    is_reply_queue,
    keep_waiting,
    submit_many,
    waiting_for,
    worker_of,
)
from tests.faults.rows.link import publisher_at
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.settling import held
from tests.faults.stage import Stage

WAITERS = 10
_ORPHANS = 8
_VICTIM, _OTHERS = 2, (1, 3)
"""The management API that rows look at is that of node 1."""


def kill_only_address(stage: Stage) -> None:
    """Kill the node that holds the queue of one who waits and knows no other, and of one who has died before.

    The one hears what it may have missed and goes on by an address that leads to another node. For the other nothing
    is held, though RabbitMQ 4.3 refuses what goes to its queue.
    """
    _prepare(stage)
    alone = at_vhost(stage.nodes.amqp_url(_VICTIM), stage.vhost.name)
    go = stage.folder / "go"
    orphans = [waiting_for(stage, go) for _ in range(_ORPHANS)]
    killed = run_producer(stage, orphans, "--follow", "--kill", CONFIRMED, "--at", str(_ORPHANS), amqp_url=alone)
    stage.expect(killed.returncode == -signal.SIGKILL, f"the producer was not killed: {killed.stderr[-300:]}")
    with Proxy.before(alone) as proxy, publisher_at(stage, proxy.url(alone), PATIENCE_SECONDS) as publisher:
        with waiting_all_the_time(stage, publisher) as errors:
            stage.wait_a_moment()
            with stage.fault():
                stage.breaks = 1
                stage.nodes.kill(_VICTIM)
                proxy.lead_to(stage.nodes.amqp_url(_OTHERS[0]))
                go.touch()
                await_value(lambda: any(isinstance(one, ResultMissed) for one in errors), "what may have been missed")
        hung = [one for one in errors if isinstance(one, ResultTimeout)]
        stage.expect(not hung, f"one that waits has heard nothing: {hung[:1]}")
        collect(stage, submit_many(stage, followed_messages(stage, 20, 0.0, 0.01), publisher))
        stage.await_finished(*stage.account().confirmed)
        await_value(lambda: all(is_reply_queue(name) for name in held(stage)), "nothing held", PATIENCE_SECONDS)
    stage.nodes.start(_VICTIM)
    for name in filter(is_reply_queue, stage.vhost.queues()):
        stage.vhost.api("DELETE", f"queues/{stage.vhost.name}/{name}")


def _prepare(stage: Stage) -> None:
    """See that all nodes run, start a worker at one that stays, and let the new queues settle."""
    see_all_run(stage)
    worker_of(stage, AMQP_URL=urls_of(stage, (*_OTHERS, _VICTIM)))
    time.sleep(SETTLED_SECONDS)


@contextmanager
def waiting_all_the_time(stage: Stage, publisher: Publisher) -> Iterator[list[LeveretError]]:
    """Submit and wait for results in threads while the block runs; yields what they have met instead of one."""
    over, errors = stage.folder / "over", list[LeveretError]()
    with ThreadPoolExecutor(WAITERS) as executor:
        waiting = [executor.submit(keep_waiting, stage, publisher, over, errors.append) for _ in range(WAITERS)]
        try:
            yield errors
        finally:
            over.touch()
        for one in waiting:
            one.result()


def _most_held(stage: Stage) -> int:
    return stage.breaks * (PREFETCH + WAITERS)


_NEEDS = frozenset({Need.NODES, Need.CLUSTER})
_BOUND = f"what the worker held: its prefetch, {PREFETCH}, and {WAITERS} publishes that had no confirm yet"

ROWS = [
    Row(
        93,
        "followed-cluster-address",
        "three nodes: kill -9 of the only one that a producer knows, and one whose tasks still run has died before",
        _BOUND,
        kill_only_address,
        _most_held,
        _NEEDS,
        patience_seconds=PATIENCE_SECONDS,
    ),
]
