"""What is counted of tasks, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from leveret import WorkQueue, task
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.measuring.counting import BOUNDS, OTHER, Counting
from leveret.consumers.measuring.exposition import buckets
from leveret.consumers.settling.settled import Settled
from leveret.consumers.settling.verdict import Verdict
from leveret.topology import queues, registry
from tests.unit.children import delivery_of


@pytest.fixture
def mail() -> Iterator[WorkQueue]:
    registry.forget()
    queues.forget()
    queue = WorkQueue("mail")
    task("mail.send", queue=queue)(lambda: None)
    yield queue
    registry.forget()
    queues.forget()


def settled(task_name: str, verdict: Verdict | None, ending: Ending, seconds: float) -> Settled:
    return Settled(delivery_of("x"), Outcome(ending, task_name, seconds), verdict)


def test_each_verdict_is_counted(mail: WorkQueue) -> None:
    """What never ran has no duration; what came by a link that is gone is counted apart."""
    counting = Counting([mail])
    counting.observe(
        [
            settled("mail.send", Verdict.DONE, Ending.RETURNED, 0.0),
            settled("mail.send", Verdict.DONE, Ending.RETURNED, 2.0),
            settled("mail.send", Verdict.RETRY, Ending.RAISED, 1.0),
            settled("mail.send", Verdict.BURY, Ending.WRONG_ARGUMENTS, 0.0),
            settled("mail.send", None, Ending.RETURNED, 0.5),
        ]
    )
    series = counting.series["mail", "mail.send"]

    assert series.done == 2
    assert series.verdicts == {Verdict.RETRY: 1, Verdict.BURY: 1, None: 1}
    assert series.endings == {Ending.RAISED: 1, Ending.WRONG_ARGUMENTS: 1}
    assert (sum(series.buckets), series.seconds) == (4, 3.5)


def test_names_that_nobody_loaded_are_one_series(mail: WorkQueue) -> None:
    """Anybody may publish any name, and so may not fill memory with series."""
    counting = Counting([mail])
    before = set(counting.series)
    counting.observe([settled(f"name.{number}", Verdict.RETRY, Ending.UNKNOWN_TASK, 0.0) for number in range(100)])

    assert set(counting.series) == before == {("mail", "mail.send"), ("mail", OTHER)}
    assert counting.series["mail", OTHER].verdicts == {Verdict.RETRY: 100}


def test_buckets_add_up() -> None:
    """Each holds what is not above its bound, as Prometheus has it."""
    shown: dict[str, Any] = dict(buckets(BOUNDS, [1, *[0] * (len(BOUNDS) - 1), 2]))

    assert list(shown)[-1] == "+Inf"
    assert (shown["0.001"], shown["1800"], shown["+Inf"]) == (1, 1, 3)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.001, 0), (0.0011, 1), (1800.0, 11), (1800.1, 12)])
def test_a_bound_belongs_to_its_bucket(mail: WorkQueue, seconds: float, bucket: int) -> None:
    counting = Counting([mail])
    counting.observe([settled("mail.send", Verdict.DONE, Ending.RETURNED, seconds)])

    assert counting.series["mail", "mail.send"].buckets[bucket] == 1
