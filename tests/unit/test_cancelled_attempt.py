"""A cancel inside a child: raised in the code of the task that is meant, and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from leveret import Cancelled, WorkQueue, task
from leveret.consumers.child.execute import Executor
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.child.signals import CANCELLING
from leveret.topology import queues, registry
from leveret.topology.message import TaskMessage


class Child:
    """An executor, and what its parent has cancelled."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.executor = Executor(1024 * 1024, lambda *_: None, lambda: self.cancelled)

    def cancel(self, number: int) -> None:
        """Say that this order is to end, as the parent does."""
        self.cancelled = number
        os.kill(os.getpid(), CANCELLING)

    def run(self, function: Callable[[], object], number: int = 1) -> Outcome:
        name = f"mail.{function.__name__}"
        body = TaskMessage.create(name).body
        return self.executor.execute(Order(number, "mail", 1, "the-id", "application/json", "utf-8", body))


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail")


@pytest.fixture
def child() -> Iterator[Child]:
    former = {number: signal.getsignal(number) for number in (signal.SIGALRM, CANCELLING)}
    yield Child()
    for number, handler in former.items():
        signal.signal(number, handler)


def test_it_is_raised_in_the_task(mail: WorkQueue, child: Child) -> None:
    """No `except Exception` lets it through to nowhere, and the next task is not meant."""

    @task("mail.first", queue=mail)
    def first() -> None:
        with contextlib.suppress(Exception):
            child.cancel(1)
            time.sleep(60)

    @task("mail.second", queue=mail)
    def second() -> None:
        os.kill(os.getpid(), CANCELLING)

    assert child.run(first)._replace(duration_seconds=0) == Outcome(Ending.CANCELLED, "mail.first", 0)
    child.cancelled = 0  # as the board says once another has begun
    assert child.run(second, 2).ending is Ending.RETURNED


def test_it_is_raised_once(mail: WorkQueue, child: Child) -> None:
    """However often the parent asks: cleaning up is not interrupted."""
    cleaned: list[str] = []

    @task("mail.first", queue=mail)
    def first() -> None:
        try:
            child.cancel(1)
            time.sleep(60)
        finally:
            for _ in range(3):
                child.cancel(1)
                cleaned.append("up")

    assert child.run(first).ending is Ending.CANCELLED
    assert cleaned == ["up"] * 3


def test_who_returns_has_succeeded_and_who_raises_says_what(mail: WorkQueue, child: Child) -> None:
    """Also where a task raises it of its own accord: that has failed."""

    @task("mail.first", queue=mail)
    def first() -> None:
        with contextlib.suppress(Cancelled):
            child.cancel(1)
            time.sleep(60)

    @task("mail.second", queue=mail)
    def second() -> None:
        try:
            child.cancel(2)
            time.sleep(60)
        finally:
            raise ValueError("while cleaning up")

    @task("mail.third", queue=mail)
    def third() -> None:
        raise Cancelled("nobody asked")

    assert child.run(first).ending is Ending.RETURNED
    outcome = child.run(second, 2)
    assert outcome.failure
    assert (outcome.ending, outcome.failure.message) == (Ending.CANCELLED, "while cleaning up")
    child.cancelled = 0
    assert child.run(third, 3).ending is Ending.RAISED


def test_a_coroutine_is_cancelled_in_its_loop(mail: WorkQueue, child: Child) -> None:
    """And the loop serves the next one."""

    @task("mail.first", queue=mail)
    async def first() -> None:
        asyncio.get_running_loop().call_later(0.01, child.cancel, 1)
        await asyncio.sleep(60)

    @task("mail.second", queue=mail)
    async def second() -> None:
        await asyncio.sleep(0)

    assert child.run(first)._replace(duration_seconds=0) == Outcome(Ending.CANCELLED, "mail.first", 0)
    assert child.run(second, 2).ending is Ending.RETURNED


def test_between_tasks_nothing_is_raised(child: Child) -> None:
    """Only the code of a task is interrupted; whoever was not, is asked again."""
    child.cancel(1)
