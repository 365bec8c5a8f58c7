"""Faults of a cluster of three nodes, whose URLs every producer and worker knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from leveret import Publisher, doctor
from tests.broker.support import await_value
from tests.faults import logged
from tests.faults.nodes import Nodes, at_vhost
from tests.faults.producing import Load
from tests.faults.records import UNKNOWN
from tests.faults.row import Need, Row
from tests.faults.rows.link import publisher_at
from tests.faults.rows.nodes import BOUND, SETTLED_SECONDS, most_duplicates
from tests.faults.stage import PREFETCH, Stage

ALL = (1, 2, 3)
_TIMEOUT_SECONDS = 5.0
_LEEWAY_SECONDS = 2.0
_LATEST = 40
"""Messages: those that are submitted after the fault, and the last of those submitted while it came and went."""


def kill_one(stage: Stage) -> None:
    """Kill one node; the others carry on."""
    _prepare(stage)
    _kill(stage, stage.random.choice(ALL))


def kill_leader(stage: Stage) -> None:
    """Kill the node that leads the work queue; another takes the lead."""
    _prepare(stage)
    leader = stage.nodes.leader(1, stage.vhost.name, logged.faults.name)
    _kill(stage, next(number for number in ALL if stage.nodes.name(number) == leader))


def _kill(stage: Stage, victim: int) -> None:
    with _load(stage, count=200, seconds=4.0):
        stage.wait_a_moment()
        stage.await_running()
        stage.blow()
        stage.breaks = 1
        stage.nodes.kill(victim)
    stage.submit(*stage.messages(20))  # without the killed node
    stage.await_finished(*stage.account().confirmed)
    stage.nodes.start(victim)
    _expect_flow(stage)


def lose_majority(stage: Stage) -> None:
    """Kill two nodes of three, and start one of them again.

    RabbitMQ 4.3 may then keep what consumers held on the lost node for its `consumer_disconnected_timeout`, 60 s.
    """
    _prepare(stage)
    alive, back, gone = stage.random.sample(ALL, 3)
    with publisher_at(stage, stage.vhost.amqp_url, _TIMEOUT_SECONDS) as hasty:
        stage.submit(*stage.messages(5), by=hasty)
        with _load(stage, count=100, seconds=2.0):
            stage.wait_a_moment()
            stage.await_running()
            with stage.fault():
                stage.breaks = 3  # each node that goes, and those connections without a majority that the broker ends
                stage.nodes.kill(back)
                stage.nodes.kill(gone)
                _expect_refused(stage, hasty, f"with node {alive} alone")
                stage.nodes.start(back)
        stage.submit(*stage.messages(20))
        stage.await_finished(*stage.account().confirmed)
        stage.nodes.start(gone)


def rolling_restart(stage: Stage) -> None:
    """Stop and start one node after the other."""
    _prepare(stage)
    with _load(stage, count=300, seconds=10.0) as load, stage.fault():
        for number in ALL:
            stage.breaks += 1
            stage.nodes.stop(number)
            stage.nodes.start(number)
            await_value(lambda: stage.nodes.running(1) == len(ALL), "all nodes")  # as an operator would
        load.wait()
    stage.submit(*stage.messages(20))
    _expect_flow(stage)


def partition(stage: Stage) -> None:
    """Part one node from the two others, which do not stop; no process ends.

    The one refuses the others' cookie from then on, and its connections to them are cut. So both sides see each
    other go at once; a network that swallows packets would take them a minute more to notice.
    """
    _prepare(stage, workers=0)
    lone, *others = stage.random.sample(ALL, 3)
    name = stage.nodes.name(lone)
    _worker(stage, [lone, *others])
    _worker(stage, others)
    time.sleep(SETTLED_SECONDS)
    with (
        publisher_at(stage, urls_of(stage, others)) as majority,
        publisher_at(stage, urls_of(stage, [lone]), _TIMEOUT_SECONDS) as minority,
    ):
        stage.submit(*stage.messages(5), by=minority)
        with Load(majority, stage.submissions_log, stage.messages(150), 0.02) as load:
            stage.wait_a_moment()
            stage.await_running()
            stage.breaks = 2  # when they part, and when they join
            with stage.fault():
                _part(stage.nodes, lone, others)
                try:
                    _expect_refused(stage, minority, f"at node {lone}, parted from the others")
                    _await_doctor(stage, others[0], {f"node {name}"})
                    load.wait()
                finally:
                    _join(stage.nodes, lone, others)
        stage.submit(*stage.messages(20), by=majority)
    await_value(lambda: all(_running(stage.nodes, number) == len(ALL) for number in ALL), "one cluster again")
    _await_doctor(stage, others[0], set())
    with publisher_at(stage, urls_of(stage, [lone])) as again:
        stage.submit(*stage.messages(20), by=again)


def _prepare(stage: Stage, workers: int = 2) -> None:
    """See that all nodes run, start workers at different nodes, and let the new queues settle."""
    see_all_run(stage)
    for _ in range(workers):
        _worker(stage, stage.random.sample(ALL, 3))
    time.sleep(SETTLED_SECONDS)


def see_all_run(stage: Stage) -> None:
    """See that all nodes run, and that they do afterwards."""
    assert stage.nodes.running(1) == len(ALL)
    stage.undo.callback(stage.nodes.start_together, ALL)


def _worker(stage: Stage, numbers: Sequence[int]) -> None:
    """Start a worker that tries the nodes in this order."""
    stage.worker("--prefetch", str(PREFETCH), AMQP_URL=urls_of(stage, numbers))


@contextmanager
def _load(stage: Stage, count: int, seconds: float) -> Iterator[Load]:
    """Submit while the block runs, by a producer that begins at any of the nodes."""
    urls = urls_of(stage, stage.random.sample(ALL, 3))
    with (
        publisher_at(stage, urls, timeout_seconds=120.0) as publisher,
        Load(publisher, stage.submissions_log, stage.messages(count), seconds / count) as load,
    ):
        yield load


def urls_of(stage: Stage, numbers: Sequence[int]) -> str:
    """Return the URL that names these nodes, for the run's virtual host."""
    return ";".join(at_vhost(stage.nodes.amqp_url(number), stage.vhost.name) for number in numbers)


def _expect_flow(stage: Stage) -> None:
    """See that producers are served again, the one from before the fault and the one from after it.

    RabbitMQ 3.10 may refuse messages while it elects a leader, and then goes on refusing on the channels of that time.
    """
    errors = stage.errors()
    refused = [one for one in stage.account().submissions[-_LATEST:] if one.what == UNKNOWN]
    stage.expect(not refused, f"{len(errors)} publishes ended in an error, lately still, the last in: {errors[-1:]}")


def _expect_refused(stage: Stage, publisher: Publisher, where: str) -> None:
    """See that a publish without a majority ends in an error, in time."""
    before = len(stage.errors())
    began = time.monotonic()
    stage.submit(*stage.messages(1), by=publisher)
    seconds = time.monotonic() - began
    stage.expect(len(stage.errors()) > before, f"{where} a message was confirmed")
    stage.expect(seconds <= _TIMEOUT_SECONDS + _LEEWAY_SECONDS, f"{where} submit took {seconds:.1f} s")


def _await_doctor(stage: Stage, at: int, lacks: set[str]) -> None:
    """Ask the doctor at a node which others do not work, until it is these."""
    nodes, vhost = stage.nodes, stage.vhost
    asked = replace(
        vhost.settings, amqp_url=at_vhost(nodes.amqp_url(at), vhost.name), management_url=nodes.management_url(at)
    )

    def is_told() -> bool:
        return {f.about for f in doctor(configured=asked) if f.level == "fail" and f.about.startswith("node ")} == lacks

    await_value(is_told, f"the doctor saying that these do not work: {lacks or 'none'}")


def _part(nodes: Nodes, lone: int, others: Sequence[int]) -> None:
    names = [nodes.name(other) for other in others]
    wrong = ", ".join(f"erlang:set_cookie('{name}', parted), erlang:disconnect_node('{name}')" for name in names)
    nodes.ctl(lone, "eval", f"{wrong}.")


def _join(nodes: Nodes, lone: int, others: Sequence[int]) -> None:
    names = [nodes.name(other) for other in others]
    right = ", ".join(f"erlang:set_cookie('{name}', erlang:get_cookie())" for name in names)
    nodes.ctl(lone, "eval", f"{right}.")


def _running(nodes: Nodes, number: int) -> int:
    """Return how many nodes a node sees; 0 while it has stopped because it has no majority."""
    if nodes.ctl(number, "eval", "rabbit:is_running().").strip() != "true":
        return 0
    return nodes.running(number)


_NEEDS = frozenset({Need.NODES, Need.CLUSTER})


def _row(number: int, name: str, injected: str, run: Callable[[Stage], None]) -> Row:
    return Row(
        number,
        name,
        injected,
        f"{BOUND}, each time connections are lost",
        run,
        most_duplicates,
        _NEEDS,
        patience_seconds=120,
    )


ROWS = [
    _row(28, "cluster-kill-one", "three nodes: kill -9 of one", kill_one),
    _row(28, "cluster-kill-leader", "three nodes: kill -9 of the queue's leader", kill_leader),
    _row(29, "cluster-partition", "three nodes: one is parted from the others", partition),
    _row(30, "cluster-no-majority", "three nodes: kill -9 of two, and one comes back", lose_majority),
    _row(34, "cluster-rolling", "three nodes: a rolling restart", rolling_restart),
]
