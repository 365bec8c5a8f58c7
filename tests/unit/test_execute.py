"""The life of an attempt: whatever a message or a task does, it ends in one outcome."""

from __future__ import annotations

import asyncio
import functools
import json
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from leveret.consumers.child.execute import Executor
from leveret.consumers.child.outcome import Ending, Failure, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.errors import Reject
from leveret.topology import queues, registry
from leveret.topology.queues import WorkQueue

LIMIT_BYTES = 1024 * 1024
FAR_SECONDS = 1000.0


class Desk:
    """An executor with a queue, what its tasks did, and what it said had begun."""

    def __init__(self) -> None:
        self.queue = WorkQueue("mail", topics=("#",))
        self.begun: list[tuple[int, float, float, str]] = []
        self.seen: list[Any] = []
        self.executor = Executor(LIMIT_BYTES, lambda *begun: self.begun.append(begun))

    def run(self, body: bytes | str, *args: Any, number: int = 1, **kwargs: Any) -> Outcome:
        """Execute a message: a raw body, or a task's name with arguments."""
        if isinstance(body, str):
            body = json.dumps({"task": body, "args": args, "kwargs": kwargs}).encode()
        return self.executor.execute(Order(number, "mail", 2, f"id-{number}", None, None, body))


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk of its own; queues, tasks, the alarm's handler and the attempt are as before afterwards."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(attempt, "_current", ContextVar("attempt"))
    handler = signal.getsignal(signal.SIGALRM)
    desk = Desk()
    yield desk
    desk.executor._runner.close()
    signal.signal(signal.SIGALRM, handler)


def reason(outcome: Outcome) -> Failure:
    """The failure of an outcome that has one."""
    assert outcome.failure is not None
    return outcome.failure


def test_a_task_that_returns_has_returned(desk: Desk) -> None:
    """The arguments of the message reach the function, and what it returns is no failure."""

    @task("mail.send", queue=desk.queue)
    def send(to: str, *, subject: str) -> str:
        desk.seen.append((to, subject))
        return "anything"

    outcome = desk.run("mail.send", "a@example.org", subject="hi")

    assert (outcome.ending, outcome.task, outcome.failure) == (Ending.RETURNED, "mail.send", None)
    assert outcome.duration_seconds >= 0
    assert desk.seen == [("a@example.org", "hi")]


def test_what_begins_is_told_with_its_deadline(desk: Desk) -> None:
    """The parent hears number, deadline and name before the task runs."""

    @task("mail.send", queue=desk.queue, time_limit=100)
    def send() -> None:
        desk.seen.extend(desk.begun)

    desk.run("mail.send", number=7)
    desk.run("mail.send", number=8)
    (first, _, first_deadline, name), (second, _, second_deadline, _) = desk.begun

    assert (first, second, name) == (7, 8, "mail.send")
    assert first_deadline <= second_deadline
    assert desk.seen[0] == desk.begun[0]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ValueError("no"), Ending.RAISED),
        (Reject("never"), Ending.REJECTED),
        (SystemExit(3), Ending.RAISED),
        (KeyboardInterrupt(), Ending.RAISED),
        (GeneratorExit(), Ending.RAISED),
        (asyncio.CancelledError(), Ending.RAISED),
        (TimeoutError("its own"), Ending.RAISED),
        (RecursionError(), Ending.RAISED),
        (MemoryError(), Ending.RAISED),
        (ExceptionGroup("two", [ValueError(), KeyError()]), Ending.RAISED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_task_that_raises_fails_and_the_next_one_runs(
    error: BaseException, ending: Ending, asynchronous: bool, desk: Desk
) -> None:
    """Any exception, sys.exit's and Ctrl-C's included, ends this attempt only."""

    def plain(fail: bool) -> None:
        if fail:
            raise error

    async def waiting(fail: bool) -> None:
        await asyncio.sleep(0)
        plain(fail)

    task("mail.send", queue=desk.queue, soft_time_limit=FAR_SECONDS)(waiting if asynchronous else plain)
    outcome, after = desk.run("mail.send", True), desk.run("mail.send", False)

    assert (outcome.ending, outcome.task) == (ending, "mail.send")
    assert reason(outcome).type == type(error).__name__
    assert "in plain" in reason(outcome).traceback
    assert reason(outcome).fingerprint == f"{type(error).__name__}@test_execute.py:plain"
    assert after.ending is Ending.RETURNED


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain decorator, as it is written for plain functions."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def late(function: Callable[..., Any]) -> Callable[..., Any]:
    """An async decorator that does not await what it calls."""

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def other_task(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function under another name."""
    return task("mail.other", queue=WorkQueue("mail", topics=("#",)))(function)


@pytest.mark.parametrize("soft_time_limit", [None, FAR_SECONDS])
@pytest.mark.parametrize("decorator", [traced, late, other_task])
def test_an_async_task_runs_whatever_decorators_hide_it(
    decorator: Callable[..., Any], soft_time_limit: float | None, desk: Desk
) -> None:
    """Not the outermost function tells whether a task is async, but what calling it gave."""

    @decorator
    async def send(to: str) -> None:
        await asyncio.sleep(0)
        desk.seen.append(to)
        if to == "b":
            raise Reject("no such address")

    task("mail.send", queue=desk.queue, soft_time_limit=soft_time_limit)(send)

    assert [desk.run("mail.send", to).ending for to in "ab"] == [Ending.RETURNED, Ending.REJECTED]
    assert desk.seen == ["a", "b"]


@pytest.mark.parametrize("decorator", [traced, late])
def test_a_generator_that_nobody_runs_is_a_failure(decorator: Callable[..., Any], desk: Desk) -> None:
    """A body that has not run is not a task that is done, and the reason says what to write instead."""

    def lines() -> Iterator[int]:
        yield 1

    async def later_lines() -> AsyncIterator[int]:
        yield 1

    for name, function in (("mail.a", lines), ("mail.b", later_lines)):
        task(name, queue=desk.queue)(decorator(function))
        outcome = desk.run(name)

        assert (outcome.ending, reason(outcome).type) == (Ending.RAISED, "TypeError")
        assert reason(outcome).message.startswith(f"task '{name}' returned a generator, whose body nobody runs; ")


def test_what_else_a_task_returns_does_not_matter(desk: Desk) -> None:
    """What can be awaited again and again, as a connection pool can, is awaited once."""

    class Pool:
        def __await__(self) -> Iterator[None]:
            desk.seen.append("awaited")
            yield from asyncio.sleep(0).__await__()
            return self  # type: ignore[return-value]

    for name, returned in (("mail.pool", Pool()), ("mail.list", [1]), ("mail.class", Pool)):
        task(name, queue=desk.queue)(lambda returned=returned: returned)

        assert desk.run(name).ending is Ending.RETURNED
    assert desk.seen == ["awaited"]


def test_a_plain_tasks_traceback_begins_with_the_task(desk: Desk) -> None:
    """The worker's own frames are left out."""

    @task("mail.send", queue=desk.queue)
    def send() -> None:
        sys.exit("enough")

    lines = reason(desk.run("mail.send")).traceback.splitlines()

    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in send")


def test_a_failed_attempt_keeps_the_rejects_reason(desk: Desk) -> None:
    """The text of a `Reject` is what the DLQ will show."""

    @task("mail.send", queue=desk.queue)
    def send() -> None:
        raise Reject("no such address")

    assert reason(desk.run("mail.send")).message == "no such address"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            {"args": []},
            r"missing a required argument: 'to'; mail.send\(to, subject=''\).* was called with no arguments",
        ),
        ({"args": [1, 2, 3]}, "too many positional arguments; .* was called with 3 positional"),
        ({"args": [1], "kwargs": {"to": 2}}, "multiple values for argument 'to'; .* with 1 positional, to=…"),
        ({"kwargs": {"to": 1, "cc": 2}}, "unexpected argument 'cc'; .* with to=…, cc=…"),
    ],
)
def test_arguments_that_do_not_fit_are_told_without_running(call: dict[str, Any], said: str, desk: Desk) -> None:
    """Message and signature stand side by side; values, which may be secret, are not shown."""

    @task("mail.send", queue=desk.queue)
    def send(to, subject="") -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        desk.seen.append(to)

    outcome = desk.run(json.dumps({"task": "mail.send", **call}).encode())

    assert (outcome.ending, outcome.task, reason(outcome).type) == (Ending.WRONG_ARGUMENTS, send.name, "WrongArguments")
    assert re.search(said, reason(outcome).message)
    assert desk.seen == desk.begun == []


def test_a_type_error_of_the_task_itself_is_worth_a_retry(desk: Desk) -> None:
    """Only arguments that do not fit the signature count as such."""

    @task("mail.send", queue=desk.queue)
    def send(to: str) -> int:
        return len(to) + "1"  # type: ignore[operator]

    assert desk.run("mail.send", "a").ending is Ending.RAISED


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (LookupError("no"), Ending.REJECTED),
        (KeyError("a subclass"), Ending.REJECTED),
        (SystemExit(1), Ending.REJECTED),
        (ValueError("another"), Ending.RAISED),
        (Exception("a parent"), Ending.RAISED),
    ],
)
def test_what_a_task_names_never_retries(error: BaseException, ending: Ending, is_async: bool, desk: Desk) -> None:
    """These exceptions and their subclasses are final, with their own type as the reason."""

    def plain() -> None:
        raise error

    async def waits() -> None:
        raise error

    task("mail.send", queue=desk.queue, never=(LookupError, SystemExit))(waits if is_async else plain)

    outcome = desk.run("mail.send")

    assert (outcome.ending, reason(outcome).type) == (ending, type(error).__qualname__)


def test_an_unknown_task_names_the_known_ones(desk: Desk) -> None:
    """A name that is not in the registry is told with those that are."""

    @task("mail.send", queue=desk.queue)
    def send() -> None: ...

    outcome = desk.run("mail.sned")

    assert (outcome.ending, outcome.task) == (Ending.UNKNOWN_TASK, "mail.sned")
    assert reason(outcome).message == "no task 'mail.sned' is known to this worker; it knows: mail.send"
    assert desk.begun == []


@pytest.mark.parametrize("body", [b"hello", b"", b"[]", b"x" * (LIMIT_BYTES + 1)])
def test_an_unreadable_message_is_an_outcome_too(body: bytes, desk: Desk) -> None:
    """What cannot be decoded has no task, no traceback, and a reason."""
    outcome = desk.run(body)

    assert (outcome.ending, outcome.task) == (Ending.UNREADABLE, "")
    assert reason(outcome).type in ("UnreadableMessage", "MessageTooLarge")
    assert reason(outcome).message
    assert reason(outcome).traceback == ""
