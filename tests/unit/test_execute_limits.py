"""Attempts and limits: which attempt a task is in, soft time limits, and reasons that fit message headers."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator

import pytest

from consumers import attempt, registry
from consumers.attempt import Attempt, current_attempt
from consumers.errors import SoftTimeLimitExceeded
from consumers.execute import Executor
from consumers.outcome import Ending, Outcome
from consumers.task import task
from consumers.wire import Order
from topology import queues
from topology.queues import WorkQueue

AT_ONCE_SECONDS = 0.000_001
FAR_SECONDS = 1000.0


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue that takes every name; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail", topics=("#",))


@pytest.fixture
def executor() -> Iterator[Executor]:
    """An executor; the alarm's handler and the current attempt are as before afterwards."""
    handler = signal.getsignal(signal.SIGALRM)
    executor = Executor(1024 * 1024, lambda *_: None)
    yield executor
    executor._runner.close()
    signal.signal(signal.SIGALRM, handler)
    attempt._current.set(None)


def run(executor: Executor, name: str, number: int = 1, **kwargs: object) -> Outcome:
    """Execute a message of this task, as attempt and id number so and so."""
    body = json.dumps({"task": name, "kwargs": kwargs}).encode()
    return executor.execute(Order(number, "mail", number, f"id-{number}", None, None, body))


def failure_type(outcome: Outcome) -> str:
    """The type of what went wrong."""
    return outcome.failure.type if outcome.failure else ""


def test_outside_a_worker_there_is_no_attempt(mail: WorkQueue) -> None:
    """A task that is called directly, as in a test, runs in no attempt."""
    which = task("mail.which", queue=mail)(current_attempt)

    assert which() is None


def test_a_plain_task_knows_its_attempt(mail: WorkQueue, executor: Executor) -> None:
    """Each order's id, number, queue and task are what the running task sees."""
    seen: list[Attempt | None] = []

    @task("mail.which", queue=mail)
    def which() -> None:
        seen.append(current_attempt())

    run(executor, "mail.which", 1)
    run(executor, "mail.which", 2)

    assert seen == [Attempt("id-1", 1, "mail", "mail.which"), Attempt("id-2", 2, "mail", "mail.which")]


def test_an_async_task_knows_its_attempt(mail: WorkQueue, executor: Executor) -> None:
    """An `async def` task sees the attempt it runs in too, not the first one of its process."""
    seen: list[Attempt | None] = []

    @task("mail.which", queue=mail)
    async def which() -> None:
        await asyncio.sleep(0)
        seen.append(current_attempt())

    run(executor, "mail.which", 1)
    run(executor, "mail.which", 2)

    assert seen == [Attempt("id-1", 1, "mail", "mail.which"), Attempt("id-2", 2, "mail", "mail.which")]


def test_a_soft_time_limit_is_raised_inside_a_plain_task(mail: WorkQueue, executor: Executor) -> None:
    """A task that loops on hears of its limit where it is."""

    @task("mail.loop", queue=mail, soft_time_limit=AT_ONCE_SECONDS)
    def loop() -> None:
        while True:
            pass

    outcome = run(executor, "mail.loop")

    assert (outcome.ending, failure_type(outcome)) == (Ending.RAISED, "SoftTimeLimitExceeded")


def test_a_soft_time_limit_is_raised_inside_an_async_task(mail: WorkQueue, executor: Executor) -> None:
    """A task that awaits what never comes is cancelled, and the reason is the limit."""

    @task("mail.wait", queue=mail, soft_time_limit=AT_ONCE_SECONDS)
    async def wait() -> None:
        await asyncio.Event().wait()

    outcome = run(executor, "mail.wait")

    assert (outcome.ending, failure_type(outcome)) == (Ending.RAISED, "SoftTimeLimitExceeded")


def test_a_task_may_clean_up_at_its_soft_limit(mail: WorkQueue, executor: Executor) -> None:
    """A task that catches the limit and returns has returned, and is not reminded again."""

    @task("mail.clean", queue=mail, soft_time_limit=FAR_SECONDS)
    def clean() -> None:
        with pytest.raises(SoftTimeLimitExceeded):
            signal.raise_signal(signal.SIGALRM)
        signal.raise_signal(signal.SIGALRM)

    assert run(executor, "mail.clean").ending is Ending.RETURNED


def test_an_alarm_between_tasks_does_nothing(mail: WorkQueue, executor: Executor) -> None:
    """A late alarm meets no task that it could fail, and no timer is left behind."""

    @task("mail.quick", queue=mail, soft_time_limit=FAR_SECONDS)
    def quick() -> None: ...

    outcome = run(executor, "mail.quick")
    signal.raise_signal(signal.SIGALRM)

    assert outcome.ending is Ending.RETURNED
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_task_without_a_limit_is_not_interrupted(mail: WorkQueue, executor: Executor) -> None:
    """Without a soft limit an alarm is nothing to the task."""

    @task("mail.calm", queue=mail)
    def calm() -> None:
        signal.raise_signal(signal.SIGALRM)

    assert run(executor, "mail.calm").ending is Ending.RETURNED


def test_async_tasks_share_one_loop(mail: WorkQueue, executor: Executor) -> None:
    """What a module keeps for the loop, such as a session, stays usable from task to task."""
    loops: list[asyncio.AbstractEventLoop] = []

    @task("mail.loop", queue=mail)
    async def loop() -> None:
        loops.append(asyncio.get_running_loop())

    run(executor, "mail.loop")
    run(executor, "mail.loop")

    assert loops[0] is loops[1]


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("x" * 500_000, {}), ("\ud800", {}), ("mail.known", {"x" * 500_000: 1}), ("mail.known", {"\ud800": 1})],
    ids=["long name", "surrogate name", "long keyword", "surrogate keyword"],
)
def test_a_hostile_message_has_a_reason_that_fits(
    name: str, kwargs: dict[str, int], mail: WorkQueue, executor: Executor
) -> None:
    """A reason that quotes the message is UTF-8 and short, as it goes into headers of one frame."""

    @task("mail.known", queue=mail)
    def known() -> None: ...

    outcome = run(executor, name, **kwargs)
    parts = [outcome.task, *(outcome.failure or ())]

    assert outcome.failure
    assert sum(len(part.encode()) for part in parts) <= 10_000
