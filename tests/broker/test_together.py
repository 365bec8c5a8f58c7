"""Whatever there is can be used in one project, on one queue, at the same time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leveret import Publisher, State, Submitted, TaskFailed, gather, recorded
from leveret.producers import default
from leveret.topology.names import Priority
from tests.broker import together_jobs as jobs
from tests.broker.recording import Recorders
from tests.broker.scheduling import Schedulers
from tests.broker.support import Vhost, Workers, await_value

JOBS = "tests.broker.together_jobs"
LEVELS: tuple[Priority, ...] = ("high", "normal", "low")


@pytest.fixture
def publisher(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    vhost.declare(jobs.together)
    with Publisher(vhost.settings) as made:
        monkeypatch.setattr(default, "_default", made)
        yield made


def submit_all() -> list[Submitted[int]]:
    """Submit each task by each way, with the number of its place among them."""
    sent: list[Submitted[int]] = []

    def number() -> int:
        return len(sent)

    for level in LEVELS:
        for one in (jobs.double, jobs.patient, jobs.again):
            sent.append(one.options(follow=True, priority=level).submit(number=number()))
            sent.append(one.options(follow=True, priority=level, delay=1).submit(number=number()))
        sent.append(jobs.wait.options(follow=True, priority=level, delay=1).submit(number=number()))
        sent.append(jobs.add.options(follow=True, priority=level).submit(number()))
        sent.append(jobs.double.options(follow=True, unique=f"key {level}").submit(number=number()))
        sent.append(jobs.double.options(follow=True, queue="together", delay=1).submit(number=number(), customer=level))
    return sent


def test_all_of_it_at_once(
    publisher: Publisher, vhost: Vhost, workers: Workers, recorders: Recorders, schedulers: Schedulers
) -> None:
    """Each result comes back, what fails for good has failed, the schedule fires, and nothing is left."""
    recorders.start()
    worker = workers.start("--processes", "1", queue="together", tasks=[JOBS])
    schedulers.write("")
    schedulers.launch(tasks=JOBS).await_event("scheduling")
    sent = submit_all()
    refused = jobs.refuse.options(follow=True, priority="high").submit(number=1)

    assert gather(sent, timeout=60) == [2 * place for place in range(len(sent))]
    with pytest.raises(TaskFailed, match="KeyError"):
        refused.result(30)

    def fired() -> bool:
        return any(
            status.state is State.SUCCEEDED and status.id not in sent
            for status in recorded(task="together.double", configured=vhost.settings)
        )

    await_value(fired, "what the schedule has fired")
    schedulers.stop_all()
    levels = ("together", "together.high", "together.low")
    await_value(lambda: not any(map(vhost.count, levels)), "the end of all")
    assert vhost.count("together.dlq") == 1
    assert worker.stop() == 0
    await_value(lambda: vhost.count("tasks.limit.together.at-once") == 4, "all tokens")
