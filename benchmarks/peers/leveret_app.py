"""leveret's sending side: submit, which returns after its confirm, and submit_many; results come by handles."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from benchmarks.work import DELAY_SECONDS, Calls
from leveret import TaskMessage, submit, submit_many
from leveret import gather as gather_results

TIMEOUT_SECONDS = 120


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


def many_followed(calls: Calls) -> None:
    """Submit for who records, though nobody does: workers tell how each ends, and nobody waits for it."""
    submit_many(_followed_messages(calls, "record"))


def delayed(calls: Calls) -> None:
    """Submit each for later."""
    from benchmarks import tasks  # as below

    for task, kwargs in calls:
        getattr(tasks, task).options(delay=DELAY_SECONDS).submit(**kwargs)


def result(task: str, kwargs: dict[str, Any]) -> Any:
    """Submit and wait."""
    return _followed(task, True).submit(**kwargs).result(timeout=TIMEOUT_SECONDS)


def gather(calls: Calls) -> list[Any]:
    """Submit all and wait for all."""
    return gather_results(submit_many(_followed_messages(calls, True)), timeout=TIMEOUT_SECONDS)


def _followed_messages(calls: Calls, follow: Any) -> Iterator[TaskMessage]:
    for task, group in groupby(calls, key=lambda call: call[0]):
        followed = _followed(task, follow)
        yield from (followed.message(**kwargs) for _, kwargs in group)


def _followed(task: str, follow: Any) -> Any:
    from benchmarks import tasks  # only here: elsewhere is submitted by name, as by a program without the tasks

    return getattr(tasks, task).options(follow=follow)
