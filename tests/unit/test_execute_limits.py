"""Attempts and limits: which attempt a task is in, soft time limits, and reasons that fit message headers."""

from __future__ import annotations

import asyncio
import contextvars
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from leveret.consumers import output
from leveret.consumers.child.execute import Executor
from leveret.consumers.child.outcome import Ending, Outcome
from leveret.consumers.child.protocol import Order
from leveret.consumers.tasks import attempt
from leveret.consumers.tasks.attempt import Attempt, current_attempt
from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.errors import OutsideTask, SoftTimeLimitExceeded
from leveret.topology import queues, registry
from leveret.topology.queues import WorkQueue

AT_ONCE_SECONDS = 0.000_001
FAR_SECONDS = 1000.0
_LATER_SECONDS = 0.2


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue that takes every name; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail", topics=("#",))


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """An executor; the alarm's handler and the current attempt are as before afterwards."""
    monkeypatch.setattr(attempt, "_current", ContextVar("attempt"))
    handler = signal.getsignal(signal.SIGALRM)
    executor = Executor(1024 * 1024, lambda *_: None)
    yield executor
    executor._runner.close()
    signal.signal(signal.SIGALRM, handler)


def run(executor: Executor, name: str, number: int = 1, **kwargs: object) -> Outcome:
    """Execute a message of this task, as attempt and id number so and so."""
    body = json.dumps({"task": name, "kwargs": kwargs}).encode()
    return executor.execute(Order(number, "mail", number, f"id-{number}", None, None, body))


def failure_type(outcome: Outcome) -> str:
    """The type of what went wrong."""
    return outcome.failure.type if outcome.failure else ""


def test_a_soft_limit_waits_until_a_frame_has_left(executor: Executor, mail: WorkQueue) -> None:
    """Half a frame of what a followed task logs would be garbage to the parent; the task is told right after it."""
    sent: list[bytes] = []

    def send(frame: bytes) -> None:
        signal.raise_signal(signal.SIGALRM)
        sent.append(frame)

    @task("mail.log", queue=mail, soft_time_limit=FAR_SECONDS, time_limit=2 * FAR_SECONDS)
    def log() -> None:
        listener = output.listener_here()
        assert listener
        listener.on_print("stdout", "hello\n")
        time.sleep(FAR_SECONDS)

    executor._send = send
    body = json.dumps({"task": "mail.log"}).encode()
    outcome = executor.execute(Order(1, "mail", 1, "id-1", None, None, body, True))

    assert failure_type(outcome) == "SoftTimeLimitExceeded"
    assert len(sent) == 1


def test_outside_a_worker_there_is_no_attempt(mail: WorkQueue) -> None:
    """A task that is called directly, as in a test, runs in no attempt, and asking for it says so."""
    which = task("mail.which", queue=mail)(current_attempt)

    with pytest.raises(OutsideTask, match=r"where no worker runs a task; .* expect this error where .* directly"):
        contextvars.Context().run(which)  # not that of other tests, which may have run an attempt in theirs


def test_a_plain_task_knows_its_attempt(mail: WorkQueue, executor: Executor) -> None:
    """Each order's id, number, queue and task are what the running task sees."""
    seen: list[Attempt] = []

    @task("mail.which", queue=mail)
    def which() -> None:
        seen.append(current_attempt())

    run(executor, "mail.which", 1)
    run(executor, "mail.which", 2)

    assert seen == [Attempt("id-1", 1, "mail", "mail.which"), Attempt("id-2", 2, "mail", "mail.which")]


def test_an_async_task_knows_its_attempt(mail: WorkQueue, executor: Executor) -> None:
    """An `async def` task sees the attempt it runs in too, not the first one of its process."""
    seen: list[Attempt] = []

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


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_a_soft_time_limit_holds_whatever_earlier_tasks_did_to_its_signal(
    handler: Any, mail: WorkQueue, executor: Executor
) -> None:
    """A task that leaves its own handler of the alarm behind takes no other task's limit away."""

    @task("mail.alarm", queue=mail)
    def alarm() -> None:
        signal.signal(signal.SIGALRM, handler)

    @task("mail.loop", queue=mail, soft_time_limit=FAR_SECONDS)
    def loop() -> None:
        signal.raise_signal(signal.SIGALRM)

    run(executor, "mail.alarm")

    assert failure_type(run(executor, "mail.loop")) == "SoftTimeLimitExceeded"


def test_a_closed_loop_is_nothing_to_the_next_task(mail: WorkQueue, executor: Executor) -> None:
    """A plain task that closes the current loop closes its own; one that closes that of async tasks costs the loop."""
    loops: list[asyncio.AbstractEventLoop] = []

    @task("mail.loop", queue=mail)
    async def loop() -> None:
        loops.append(asyncio.get_running_loop())

    @task("mail.close_current", queue=mail)
    def close_current() -> None:
        asyncio.get_event_loop().close()

    @task("mail.close_kept", queue=mail)
    def close_kept() -> None:
        loops[0].close()

    asyncio.set_event_loop(asyncio.new_event_loop())
    names = ["mail.loop", "mail.close_current", "mail.loop", "mail.close_kept", "mail.loop"]
    outcomes = [run(executor, name) for name in names]
    asyncio.set_event_loop(None)

    assert [outcome.failure for outcome in outcomes] == [None] * 5
    assert loops[0] is loops[1] is not loops[2]


@pytest.mark.parametrize("ending", ["return", "raise", "stop"])
def test_what_an_async_task_leaves_behind_is_cancelled(ending: str, mail: WorkQueue, executor: Executor) -> None:
    """However an attempt ends, nothing of it goes on in a later one."""
    seen: list[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            seen.append(name)

    @task("mail.leave", queue=mail)
    async def leave() -> None:
        started = asyncio.create_task(wait("left"))
        await asyncio.sleep(0)
        if ending == "raise":
            raise ValueError
        if ending == "stop":
            asyncio.get_running_loop().stop()
            await wait("itself")
        assert not started.done()

    @task("mail.other", queue=mail)
    async def other() -> None:
        seen.append("other")
        await asyncio.sleep(0)

    failures = [failure_type(run(executor, name)) for name in ("mail.leave", "mail.other")]

    assert failures == [{"return": "", "raise": "ValueError", "stop": "RuntimeError"}[ending], ""]
    assert sorted(seen[:-1]) == (["itself", "left"] if ending == "stop" else ["left"])
    assert seen[-1] == "other"


def stop(loop: asyncio.AbstractEventLoop, _seen: list[str]) -> None:
    loop.stop()


def call_soon(loop: asyncio.AbstractEventLoop, seen: list[str]) -> None:
    seen.append("soon")
    loop.call_soon(call_soon, loop, seen)


def call_later(loop: asyncio.AbstractEventLoop, seen: list[str]) -> None:
    loop.call_later(_LATER_SECONDS, seen.append, "later")


@pytest.mark.parametrize("leave", [stop, call_soon, call_later])
def test_what_an_async_task_leaves_in_the_loop_ends_with_it(leave: Any, mail: WorkQueue, executor: Executor) -> None:
    """A stop, a timer, or what calls itself again and again is nothing to later attempts."""
    seen: list[str] = []

    @task("mail.leave", queue=mail)
    async def leave_it() -> None:
        leave(asyncio.get_running_loop(), seen)

    @task("mail.other", queue=mail)
    async def other() -> None:
        seen.append("other")
        await asyncio.sleep(_LATER_SECONDS)  # an earlier timer would run before this one
        seen.append("ended")

    outcomes = [run(executor, name) for name in ("mail.leave", "mail.other")]

    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert seen[seen.index("other") :] == ["other", "ended"]


def test_what_runs_on_in_the_loop_fails_the_attempt_that_left_it(mail: WorkQueue, executor: Executor) -> None:
    """And not the one that follows."""

    @task("mail.leave", queue=mail)
    async def leave() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, "left")

    @task("mail.other", queue=mail)
    async def other() -> None:
        await asyncio.sleep(0)

    assert [failure_type(run(executor, name)) for name in ("mail.leave", "mail.other")] == ["SystemExit", ""]


def test_what_a_plain_task_sets_in_its_context_ends_with_it(mail: WorkQueue, executor: Executor) -> None:
    """Whether the next one is plain or async; what was set before the first is there for each."""
    variable = ContextVar("variable", default="")
    variable.set("before")
    seen: list[str] = []

    @task("mail.set", queue=mail)
    def set_it() -> None:
        seen.append(variable.get())
        variable.set("changed")

    @task("mail.set_async", queue=mail)
    async def set_async() -> None:
        set_it()

    for name in ("mail.set", "mail.set_async", "mail.set"):
        assert run(executor, name).ending is Ending.RETURNED

    assert seen == ["before"] * 3


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
