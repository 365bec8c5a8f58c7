"""leveret's sending side: submit, which returns after its confirm, and submit_many."""

from itertools import groupby

from benchmarks.work import Calls
from leveret import submit, submit_many


def start() -> None:
    """Connect, which the publisher does with its first message; `leveret declare` has run."""
    submit("bench.noop")


def one_by_one(calls: Calls) -> None:
    """Submit each after the confirm of the one before."""
    for task, kwargs in calls:
        submit(f"bench.{task}", **kwargs)


def many(calls: Calls) -> None:
    """Submit with the confirms outstanding side by side; where tasks are mixed, run after run of the same task."""
    for task, group in groupby(calls, key=lambda call: call[0]):
        submit_many(f"bench.{task}", (kwargs for _, kwargs in group))
