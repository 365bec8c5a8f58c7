"""A fault of a cluster for what is around the work: scheduler, recorder, and who waits for results."""

from __future__ import annotations

import dataclasses
import time

from leveret import ResultMissed, ResultTimeout, State, Submitted
from tests.faults.row import Need, Row
from tests.faults.rows.cluster import see_all_run, urls_of
from tests.faults.rows.following import JOBS, PATIENCE_SECONDS, submit_many
from tests.faults.rows.following_in_cluster import WAITERS, waiting_all_the_time
from tests.faults.rows.link import publisher_at
from tests.faults.rows.nodes import SETTLED_SECONDS
from tests.faults.rows.recording import recorders_of, see_recorded, sqlite_of
from tests.faults.rows.schedules import await_fires, fired, most_with_the_broker, see_none_strange, start_scheduler
from tests.faults.stage import HELD, Stage

_MANY = 300
_VICTIM, _OTHERS = 2, (1, 3)


def kill_one(stage: Stage) -> None:
    """Kill the node by which they have declared their queues; meanwhile it is fired, recorded, answered and told."""
    see_all_run(stage)
    urls = urls_of(stage, (_VICTIM, *_OTHERS))
    recorders_of(stage).start(AMQP_URL=urls)
    handles: list[Submitted[None]] = []
    with (
        fired(stage, "--tasks", JOBS) as schedulers,
        publisher_at(stage, urls, PATIENCE_SECONDS) as publisher,
        waiting_all_the_time(stage, publisher) as errors,
    ):
        start_scheduler(schedulers, AMQP_URL=urls)
        time.sleep(SETTLED_SECONDS)
        _submit(stage, handles)
        stage.wait_a_moment()
        stage.breaks = 1
        with stage.fault():
            stage.nodes.kill(_VICTIM)
            await_fires(schedulers)
            _submit(stage, handles)
            see_recorded(stage, sqlite_of(stage), handles)
            state = handles[-1].status().state
            stage.expect(state is State.SUCCEEDED, f"who asks hears {state} of a task that has succeeded")
            stage.nodes.start(_VICTIM)
        await_fires(schedulers)
    wrong = [one for one in errors if isinstance(one, (ResultMissed, ResultTimeout))]
    stage.expect(not wrong, f"a result did not come: {wrong[:1]}")


def _submit(stage: Stage, handles: list[Submitted[None]]) -> None:
    """Submit what only the record follows."""
    handles += submit_many(stage, [dataclasses.replace(one, follow="record") for one in stage.messages(_MANY)])


ROWS = [
    Row(
        92,
        "around-cluster-kill",
        "three nodes: kill -9 of the one by which scheduler, recorder and who waits for results declared their queues",
        f"what was fired in the moment before; {HELD}; {WAITERS} publishes that had no confirm yet",
        kill_one,
        lambda stage: most_with_the_broker(stage) + WAITERS,
        frozenset({Need.NODES, Need.CLUSTER}),
        afterwards=see_none_strange,
        patience_seconds=120,
    )
]
