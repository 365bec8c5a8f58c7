"""What workers tell is read as it was written, and what no worker tells is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from leveret.topology import workers
from leveret.topology.errors import UnreadableMessage


def told(**changed: Any) -> dict[str, Any]:
    """What a worker with one queue and one running task tells."""
    return {
        "version": 1,
        "worker": "web-3:812",
        "host": "web-3",
        "pid": 812,
        "since": 1785585600.5,
        "leveret": "0.1.0",
        "is_stopping": False,
        "processes": {"least": 1, "most": 4, "now": 2, "desired": 3},
        "memory_bytes": 70_000_000,
        "window_seconds": 60.0,
        "queues": [queue_told()],
        "queue_count": 1,
        "children": [{"pid": 815, "kind": "plain", "running": 1}],
        "running": [running_told()],
        "running_count": 1,
        "ignored_questions": 0,
        "limits": [
            {"name": "mail", "tokens": 3, "per_seconds": None, "has_key": False, "in_use": 1, "waiting": 2},
            {"name": "mail", "tokens": 20, "per_seconds": 1.0, "has_key": False, "in_use": 0, "waiting": 0},
        ],
        **changed,
    }


def queue_told(**changed: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "retry_delays": [5.0, 30.0],
        "prefetch": 4,
        "waiting": 2,
        "running": 1,
        "finished": 100,
        "failed": 20,
        "retried": 7,
        "oldest_seconds": 127.0,
        "seconds_each": 0.5,
        "places": 1,
        "paused": None,
        "priorities": False,
        **changed,
    }


def running_told(**changed: Any) -> dict[str, Any]:
    return {
        "id": "4daf65d3",
        "task": "shop.ok",
        "queue": "shop",
        "attempt": 1,
        "of": 3,
        "seconds": 0.3,
        "limit": 1500.0,
        "pid": 815,
        "progress": None,
        **changed,
    }


def test_what_is_told_is_read() -> None:
    """Every field, and what a newer worker tells besides is left out."""
    full = told(running=[running_told(progress={"done": 3.0, "total": 4.0, "note": "pages"})])

    assert workers.as_json(workers.read({**full, "weather": "fine"})) == full


def test_what_workers_tell_of_a_limit_is_put_together() -> None:
    """Of one name, number and period; a worker of a former version, which tells nothing of limits, is read, too."""
    former = {name: value for name, value in told().items() if name != "limits"}
    infos = [workers.read(one) for one in (told(), told(), former)]

    assert [(one.name, one.tokens, one.in_use, one.waiting) for one in workers.limits_of(infos)] == [
        ("mail", 3, 2, 4),
        ("mail", 20, 0, 0),
    ]


def test_a_worker_that_knows_no_priorities_has_none() -> None:
    """One of an earlier version tells the rest."""
    queue = queue_told()
    del queue["priorities"]

    (read,) = workers.read(told(queues=[queue])).queues

    assert not read.priorities


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        "info",
        {"version": 1, "error": "no"},
        told(version=2),
        told(pid=-1),
        told(pid=2**70),
        told(worker="x" * 256),
        told(since="yesterday"),
        told(since=1e300),
        told(window_seconds=0),
        told(queues=[queue_told(name="q" * 250)]),
        told(queues=[queue_told(name="\ud800")]),
        told(queues=[queue_told(places=0)]),
        told(queues=[queue_told(retry_delays=[1e300])]),
        told(queues=[queue_told(paused={"by": "me"})]),
        told(queues=[queue_told()] * 101),
        told(running=[running_told(limit=-1)]),
        told(running=[running_told(progress={"done": "half"})]),
        told(running=[running_told(id=None)]),
    ],
)
def test_what_no_worker_tells_is_refused(wrong: object) -> None:
    """With a reason in one line."""
    with pytest.raises(UnreadableMessage, match="an answer that no worker gives: "):
        workers.read(wrong)
