"""Inline: what a test submits runs in its process, as a worker would run it, when the test says so."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from leveret import (
    Batch,
    BatchFailed,
    Cancelled,
    LeveretError,
    Limit,
    MessageError,
    MessageTooLarge,
    NotFollowed,
    NotRouted,
    PartlySubmitted,
    Publisher,
    PublishError,
    Rate,
    Reject,
    ResultTimeout,
    RetryLater,
    Route,
    SoftTimeLimitExceeded,
    TaskCancelled,
    TaskFailed,
    TaskMessage,
    WorkQueue,
    as_completed,
    cancel,
    current_attempt,
    current_attempts,
    gather,
    pause,
    progress,
    publish,
    submit,
    submit_async,
    submit_many,
    task,
)
from leveret.consumers.child.board import Progress
from leveret.consumers.settling.verdict import Verdict
from leveret.consumers.tasks.attempt import attempt_here
from leveret.consumers.tasks.task import Task
from leveret.producers import default
from leveret.testing import EndlessWork, Inline, Ran, in_process, inline
from leveret.topology import limits, queues, registry
from leveret.topology.events import Kind
from leveret.topology.settings import Settings
from leveret.topology.status import State

Send = Task[..., Any]


@dataclass(frozen=True)
class Receipt:
    """What a task returns that is more than JSON."""

    on: date
    lines: tuple[str, ...]


class Desk:
    """A queue, and what its tasks have seen."""

    def __init__(self) -> None:
        self.queue = WorkQueue("mail", retry_delays=(5, 60), fanout=True)
        self.seen: list[Any] = []

    def task(self, function: Callable[..., Any], **options: Any) -> Send:
        """Make a task of a function, by its name."""
        made: Send = task(f"mail.{function.__name__}", queue=self.queue, **options)(function)
        return made


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return Desk()


@pytest.fixture
def send(desk: Desk) -> Send:
    def send(to: str, copies: int = 1) -> None:
        desk.seen.append((to, copies))

    return desk.task(send)


def course_of(attempts: list[Ran]) -> list[tuple[int, float, Verdict]]:
    return [(ran.attempt, ran.at, ran.verdict) for ran in attempts]


def test_nothing_runs_before_the_test_says_so(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """As with a real worker, what stands behind `submit` cannot count on its work being done."""
    sent = send.submit("a", copies=2)
    (waiting,) = leveret_inline.waiting

    assert desk.seen == []
    assert (waiting.id, waiting.task, waiting.args, waiting.kwargs) == (sent, "mail.send", ["a"], {"copies": 2})
    assert (waiting.queue, waiting.attempt, waiting.due) == ("mail", 1, 0.0)

    (ran,) = leveret_inline.run()

    assert desk.seen == [("a", 2)]
    assert (ran.id, ran.task, ran.verdict, ran.failure, ran.result) == (sent, "mail.send", Verdict.DONE, None, None)
    assert leveret_inline.submitted == [waiting]
    assert leveret_inline.waiting == []
    assert leveret_inline.run() == []


async def _submit_async(send: Send) -> None:
    await submit_async(send, "a")
    await send.submit_async("a")
    await send.options(id="x").submit_async("a")


def _publish_by_own(send: Send) -> None:
    with Publisher(Settings(amqp_url="amqp://nowhere.invalid/")) as publisher:
        publisher.publish(send.message("a"))


WAYS: dict[str, Callable[[Send], object]] = {
    "by function": lambda send: submit(send, "a"),
    "by name": lambda send: submit("mail.send", "a"),
    "the task's own": lambda send: send.submit("a"),
    "options": lambda send: send.options(queue="mail", timeout=5).submit("a"),
    "fanout": lambda send: send.options(exchange="fanout").submit("a"),
    "topic": lambda send: send.options(routing_key="mail.other").submit("a"),
    "many messages": lambda send: submit_many([send.message("a"), send.message("a")]),
    "many calls": lambda send: submit_many("mail.send", [{"to": "a"}, {"to": "a"}], Route.direct("mail")),
    "publish": lambda send: publish(send.message("a"), Route.direct("mail")),
    "async": lambda send: asyncio.run(_submit_async(send)),
    "a publisher of its own": _publish_by_own,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_submitting_leads_here(leveret_inline: Inline, desk: Desk, send: Send, way: str) -> None:
    """By function, by name, many, and by a publisher of the program's own."""
    WAYS[way](send)
    leveret_inline.run()

    assert {*desk.seen} == {("a", 1)}
    assert len(desk.seen) == {"many messages": 2, "many calls": 2, "async": 3}.get(way, 1)


def test_a_publisher_that_was_there_before_leads_here_too(desk: Desk, send: Send) -> None:
    """As one that a module of the program has made when it was imported."""
    with Publisher(Settings(amqp_url="amqp://guest:guest@127.0.0.1:1/")) as publisher, inline() as here:
        followed = publisher.publish(send.options(follow=True).message("a"))
        publisher.submit_many("mail.send", [{"to": "b"}])

        assert followed.result() is None

        here.run()

    assert desk.seen == [("a", 1), ("b", 1)]


def test_a_test_that_is_over_leaves_the_process_as_it_was(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its publisher says so instead of losing what it is given, and the default one is that of before."""
    before = cast(Publisher, object())
    monkeypatch.setattr(default, "_default", before)
    with inline():
        publisher = Publisher()
        publisher.submit("mail.send", "a")

    with pytest.raises(PublishError, match="is over; make a new one"):
        publisher.submit("mail.send", "b")
    assert default._default is before


def test_arguments_and_results_travel_as_json(leveret_inline: Inline, desk: Desk) -> None:
    """And come out as what the annotations say, on both ways."""

    def receipt(on: date, lines: tuple[str, ...]) -> Receipt:
        desk.seen.append((on, lines))
        return Receipt(on, lines)

    sent = desk.task(receipt).options(follow=True).submit(date(2026, 5, 1), ["a", "b"])
    leveret_inline.run()

    assert json.loads(leveret_inline.submitted[0].body)["args"] == ["2026-05-01", ["a", "b"]]
    assert desk.seen == [(date(2026, 5, 1), ("a", "b"))]
    assert sent.result() == leveret_inline.attempts[0].result == Receipt(date(2026, 5, 1), ("a", "b"))


@pytest.mark.parametrize(
    ("submitting", "error", "said"),
    [
        (lambda: submit("mail.send", 5), MessageError, "to: "),
        (lambda: submit("mail.sent", "a"), MessageError, "did you mean 'mail.send'"),
        (lambda: submit("mail.send", object()), MessageError, "cannot be written as JSON"),
        (lambda: publish(TaskMessage.create("mail.send", ["a"]), Route.direct("mial")), NotRouted, "is 'mail'"),
        (lambda: publish(TaskMessage.create("mail.send", ["a"]), Route("no", "k")), NotRouted, "no exchange 'no'"),
        (lambda: submit_many("mail.send", [{"to": "a"}, {"to": 5}]), PartlySubmitted, "1 of 2"),
        (lambda: submit("mail.send", "a" * 2_000_000), MessageTooLarge, "over the limit"),
    ],
)
def test_what_a_publisher_refuses_is_refused(
    leveret_inline: Inline, send: Send, submitting: Callable[[], object], error: type[Exception], said: str
) -> None:
    """With the same errors as on a broker."""
    with pytest.raises(error, match=said):
        submitting()

    assert len(leveret_inline.submitted) == (error is PartlySubmitted)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b'{"task": "mail.send", "args": [5]}', "WrongArguments"), (b"[1]", "UnreadableMessage")],
)
def test_what_a_worker_cannot_run_is_dead_at_once(leveret_inline: Inline, send: Send, body: bytes, kind: str) -> None:
    """A message that was made by hand is not checked before."""
    publish(TaskMessage("mail.send", body))
    with pytest.raises(TaskFailed, match=kind):
        leveret_inline.run()

    (dead,) = leveret_inline.dead
    assert (dead.attempts, dead.failure.type, dead.body) == (1, kind, body)


def test_retries_follow_the_clock_of_the_test(leveret_inline: Inline, desk: Desk) -> None:
    """Which nobody waits for; the id and the number are those of an attempt."""

    def flaky() -> None:
        desk.seen.append(current_attempt())
        if current_attempt().number < 3:
            raise ConnectionError("busy")

    before = attempt_here()
    sent = desk.task(flaky).submit()
    ran = leveret_inline.run()

    assert course_of(ran) == [(1, 0.0, Verdict.RETRY), (2, 5.0, Verdict.RETRY), (3, 65.0, Verdict.DONE)]
    assert desk.seen == [(sent, number, "mail", "mail.flaky") for number in (1, 2, 3)]
    assert leveret_inline.now == 65.0
    assert len(leveret_inline.submitted) == 1
    assert attempt_here() is before


def test_delays_follow_the_clock_of_the_test(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """What is delayed runs when it is due, by every exchange, and behind what is due before."""
    delayed = send.options(delay=90, exchange="fanout").submit(to="later")
    at = send.options(at=datetime.now(UTC) + timedelta(hours=1), queue="mail").submit(to="much later")
    first = send.submit(to="now")
    assert [message.due for message in leveret_inline.waiting] == [0.0, 90.0, 3600.0]

    assert [ran.id for ran in leveret_inline.run(89)] == [first.id]
    assert [(ran.id, ran.at) for ran in leveret_inline.run()] == [(delayed.id, 90.0), (at.id, 3600.0)]


def test_a_task_may_ask_to_be_run_later(leveret_inline: Inline, desk: Desk) -> None:
    """As the attempt it is, and told to who follows it."""

    @task("mail.poll", queue=desk.queue)
    def poll() -> str:
        desk.seen.append(current_attempt().number)
        if len(desk.seen) == 1:
            raise RetryLater(10, "not there yet")
        if len(desk.seen) == 2:
            raise ValueError("it is broken")
        if len(desk.seen) == 3:
            raise RetryLater(3)
        return "there"

    sent = poll.options(follow=True).submit()
    leveret_inline.run(0)
    assert (sent.status().state, sent.status().reason) == (State.DELAYED, "not there yet")
    assert [(ran.attempt, ran.at) for ran in leveret_inline.run()] == [(1, 10.0), (2, 15.0), (2, 18.0)]
    assert sent.result(timeout=1) == "there"
    assert len(leveret_inline.submitted) == 1


def test_who_asks_to_be_run_later_for_ever_is_buried(leveret_inline: Inline, desk: Desk) -> None:
    """After a thousand times, with the reason."""

    @task("mail.poll", queue=desk.queue)
    def poll() -> None:
        raise RetryLater(1, "never there")

    poll.submit()
    ran = leveret_inline.run(check=False)
    (dead,) = leveret_inline.dead

    assert (len(ran), ran[-1].verdict, dead.attempts) == (1001, Verdict.BURY, 1)
    assert dead.failure.type == "RetriedLaterTooOften"
    assert "never there" in dead.reason


def test_the_clock_can_be_moved_by_some_seconds(leveret_inline: Inline, desk: Desk) -> None:
    """What is due later stays, and can be looked at."""

    def fail() -> None:
        raise ValueError("no")

    desk.task(fail).submit()

    assert course_of(leveret_inline.run(seconds=0)) == [(1, 0.0, Verdict.RETRY)]
    assert leveret_inline.run(seconds=4.5) == []
    assert leveret_inline.now == 4.5
    assert [(message.attempt, message.due) for message in leveret_inline.waiting] == [(2, 5.0)]
    assert course_of(leveret_inline.run(seconds=10)) == [(2, 5.0, Verdict.RETRY)]
    assert leveret_inline.now == 14.5


def test_what_has_failed_for_good_fails_the_run(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """From what the task raised, after all else has run; the dead message has what a worker gives it."""

    def fail() -> None:
        raise ValueError("no such mailbox")

    desk.task(fail).submit()
    submit("mail.fail")
    send.submit("a")
    with pytest.raises(TaskFailed, match=r"'mail.fail' .* attempt 3: ValueError: no such .* 1 more") as failed:
        leveret_inline.run()

    assert isinstance(failed.value.__cause__, ValueError)
    assert failed.value.lies_in == "mail.dlq"
    assert desk.seen == [("a", 1)]
    dead = leveret_inline.dead[0]
    assert (dead.task, dead.queue, dead.attempts, dead.error) == ("mail.fail", "mail", 3, failed.value.__cause__)
    assert dead.reason == "ValueError: no such mailbox"
    assert dead.failure.traceback.count("File ") == 1  # nothing of ours
    assert dead.headers["failure-message"] == "no such mailbox"
    assert leveret_inline.run() == []  # it was told of


def test_a_rejection_is_not_tried_again(leveret_inline: Inline, desk: Desk) -> None:
    """And a test that is about that has it run without raising."""

    def refuse() -> None:
        raise Reject("no use")

    desk.task(refuse).submit()

    assert course_of(leveret_inline.run(check=False)) == [(1, 0.0, Verdict.BURY)]
    assert leveret_inline.dead[0].reason == "Reject: no use"


def test_priorities_decide_what_runs_first(leveret_inline: Inline, desk: Desk) -> None:
    """Of what waits at the same time; the order within a level is that of submitting, and a retry keeps its level."""
    ranked = WorkQueue("ranked", retry_delays=(5,), priorities=True)

    @task("ranked.note", queue=ranked)
    def note(text: str) -> None:
        desk.seen.append(text)
        if text == "high, again" and desk.seen.count(text) == 1:
            note.options(priority="low").submit("low, last")
            raise ValueError("not yet")

    for level, text in [("low", "low"), ("normal", "a"), ("high", "high, again"), ("normal", "b"), ("high", "high")]:
        note.options(priority=level).submit(text)  # type: ignore[arg-type]
    waiting = [message.args[0] for message in leveret_inline.waiting]
    leveret_inline.run()

    assert waiting == ["high, again", "high", "a", "b", "low"]
    assert desk.seen == [*waiting, "low, last", "high, again"]


def test_what_a_task_names_never_retries(leveret_inline: Inline, desk: Desk) -> None:
    """It is dead after its first attempt, with the reason; what else it raises is tried again."""
    errors = iter([ValueError("once"), KeyError("final")])

    def fail() -> None:
        raise next(errors)

    desk.task(fail, never=(LookupError,)).submit()

    assert [ran.verdict for ran in leveret_inline.run(check=False)] == [Verdict.RETRY, Verdict.BURY]
    assert leveret_inline.dead[0].reason == "KeyError: 'final'"


def test_tasks_that_submit_tasks_are_run_to_the_end(
    leveret_inline: Inline, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless there is none."""

    def count(down: int) -> None:
        desk.seen.append(down)
        if down:
            submit("mail.count", down - 1)

    desk.task(count)
    submit("mail.count", 3)
    leveret_inline.run()

    assert desk.seen == [3, 2, 1, 0]

    monkeypatch.setattr(in_process, "_MOST_ATTEMPTS", 1000)
    submit("mail.count", -1)
    with pytest.raises(EndlessWork, match=r"1,000 .*'mail\.count'"):
        leveret_inline.run()


def test_who_waits_for_a_result_has_it_run(leveret_inline: Inline, desk: Desk) -> None:
    """Also in a task, and with all ways of waiting; nothing more than it takes is run."""

    def double(number: int) -> int:
        return 2 * number

    def sum_of(numbers: list[int]) -> int:
        made = submit_many([double_task.options(follow=True).message(number) for number in numbers])
        return sum(int(one.result()) for one in made)

    double_task = desk.task(double)
    total = desk.task(sum_of).options(follow=True).submit([1, 2, 3])
    later = double_task.options(follow=True).submit(5)

    assert total.result() == 12
    assert later.status().state is State.SUCCEEDED  # it stood before those that the task submitted
    assert gather(double_task.options(follow=True).submit(number) for number in (7, 8)) == [14, 16]
    handles = [double_task.options(follow=True).submit(number) for number in (1, 2)]
    assert {one.result() for one in as_completed(handles)} == {2, 4}
    assert [kind for kind, _ in double_task.options(follow=True).submit(3).events()] == [Kind.SUCCEEDED]


def test_results_that_are_not_to_be_had(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """Raise what they raise in production; timeouts go by the clock of the test."""

    def fail() -> None:
        raise ValueError("no")

    failing = desk.task(fail).options(follow=True).submit()

    with pytest.raises(ResultTimeout, match="retrying"):
        failing.result(timeout=10)
    assert leveret_inline.now == 10.0
    with pytest.raises(TaskFailed, match=r"attempt 3 of 3: ValueError: no; its message lies in mail\.dlq"):
        failing.result(timeout=60)
    with pytest.raises(NotFollowed):
        send.submit("a").result()


def test_what_is_cancelled_does_not_run(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """Waiting or to be tried again; the cancel is told to who follows it. There is nothing to pause."""

    def fail() -> None:
        raise ValueError("no")

    waiting = send.options(follow=True).submit("a")
    retrying = desk.task(fail).submit()
    send.submit("b")
    cancel(waiting, reason="wrong list")
    leveret_inline.run(seconds=0)
    cancel(retrying)
    leveret_inline.run()

    assert desk.seen == [("b", 1)]
    assert [(ran.task, ran.verdict) for ran in leveret_inline.attempts] == [
        ("mail.fail", Verdict.RETRY),
        ("mail.send", Verdict.DONE),
    ]
    with pytest.raises(TaskCancelled, match="wrong list"):
        waiting.result()
    with pytest.raises(LeveretError, match="cannot be paused; leveret_broker"):
        pause("mail")


def test_a_task_that_waits_for_itself_is_told(leveret_inline: Inline, desk: Desk) -> None:
    """It would wait for ever."""

    def wait() -> None:
        desk.seen[0].result()

    desk.seen.append(desk.task(wait).options(follow=True).submit())
    with pytest.raises(TaskFailed, match="nothing more waits"):
        leveret_inline.run()


def test_async_tasks_share_a_loop_of_their_own(leveret_inline: Inline, desk: Desk) -> None:
    """As in a process of a worker; what one leaves there is ended."""
    ended: list[str] = []

    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("left")

    async def note() -> None:
        desk.seen.append(asyncio.get_running_loop())
        kept.append(asyncio.create_task(left()))
        await asyncio.sleep(0)

    kept: list[asyncio.Task[None]] = []
    desk.task(note)
    submit_many("mail.note", [{}, {}])
    leveret_inline.run()

    assert desk.seen[0] is desk.seen[1]
    assert ended == ["left", "left"]


def test_in_an_async_test_tasks_run_beside_its_loop(leveret_inline: Inline, desk: Desk) -> None:
    """They find none, or that of their own; one may wait for another."""

    async def add(a: int, b: int) -> int:
        return a + b

    async def add_more(a: int) -> int:
        return int(await add_task.options(follow=True).submit(a, 10).result_async())

    def plain() -> int:
        return asyncio.run(add(1, 1))

    add_task = desk.task(add)
    tasks = [desk.task(one).options(follow=True) for one in (add_more, plain)]

    async def the_test() -> list[int]:
        more, alone = await tasks[0].submit_async(1), await tasks[1].submit_async()
        return [await more.result_async(), alone.result()]

    assert asyncio.run(the_test()) == [11, 2]


def test_the_loop_of_an_async_test_goes_on_where_it_awaits_the_run(leveret_inline: Inline, desk: Desk) -> None:
    """So a task can talk to what the test serves."""

    def ask() -> None:
        asked.wait()

    asked = threading.Event()
    desk.task(ask).submit()

    async def the_test() -> None:
        running = asyncio.create_task(leveret_inline.run_async())
        await asyncio.sleep(0)
        asked.set()
        await running

    asyncio.run(asyncio.wait_for(the_test(), 60))

    assert len(leveret_inline.attempts) == 1


def test_what_the_test_has_in_its_context_does_not_travel(leveret_inline: Inline, desk: Desk) -> None:
    """Nor does what a task puts into its own come back."""
    user = contextvars.ContextVar("user", default="nobody")

    def look() -> None:
        desk.seen.append(user.get())
        user.set("task")

    user.set("test")
    desk.task(look)
    submit_many("mail.look", [{}, {}])
    leveret_inline.run()

    assert desk.seen == ["nobody", "nobody"]
    assert user.get() == "test"


def test_progress_can_be_looked_at(leveret_inline: Inline, desk: Desk) -> None:
    """Of each attempt the last that it told."""

    def load() -> None:
        progress(1, 3)
        progress(2, 3, "half")

    desk.task(load)
    submit_many("mail.load", [{}, {}])

    assert [ran.progress for ran in leveret_inline.run()] == [Progress(2.0, 3.0, "half")] * 2


@pytest.fixture
def alarm() -> Iterator[list[int]]:
    """An alarm of somebody else, which rings in an hour; what rang."""
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 3600)
    yield rang
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_limits_interrupt_a_task(leveret_inline: Inline, desk: Desk, alarm: list[int]) -> None:
    """The soft one can be caught, the other one ends what goes on; the alarm is then again that of before."""

    def loop() -> None:
        try:
            while True:
                pass
        except SoftTimeLimitExceeded as error:
            desk.seen.append(str(error))
        while True:
            pass

    handler = signal.getsignal(signal.SIGALRM)
    desk.task(loop, soft_time_limit=0.02, time_limit=0.05).submit()
    leveret_inline.run(check=False)

    assert desk.seen == ["the task overran its soft time limit"] * 3
    assert "TimeLimitExceeded: the task overran its time limit" in leveret_inline.dead[0].reason
    assert signal.getsignal(signal.SIGALRM) is handler
    assert 3000 < signal.getitimer(signal.ITIMER_REAL)[0] < 3600
    assert alarm == []


def test_an_alarm_that_is_earlier_is_left_alone(leveret_inline: Inline, desk: Desk, alarm: list[int]) -> None:
    """Such as that of a plugin by which a test may take only so long."""

    class TooLong(BaseException):
        """What ends the test."""

    def loop() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while True:
            pass

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, end)
    desk.task(loop, time_limit=7200).submit()
    with pytest.raises(TooLong):
        leveret_inline.run()

    assert leveret_inline.dead == []


def test_limits_of_async_tasks(leveret_inline: Inline, desk: Desk) -> None:
    """They are cancelled, in an async test as well."""

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            desk.seen.append("soft")
            raise

    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    desk.task(wait, soft_time_limit=0.01)
    desk.task(deaf, soft_time_limit=0.01, time_limit=0.02)

    async def the_test() -> None:
        submit("mail.wait")
        submit("mail.deaf")
        leveret_inline.run(check=False)

    asyncio.run(the_test())

    assert desk.seen == ["soft"] * 3
    assert [dead.failure.type for dead in leveret_inline.dead] == ["SoftTimeLimitExceeded", "TimeLimitExceeded"]


def test_a_limit_that_nothing_could_interrupt_is_noticed_afterwards(leveret_inline: Inline, desk: Desk) -> None:
    """A worker would have killed the process."""

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(0.02)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.sigtimedwait([signal.SIGALRM], 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])

    desk.task(block, time_limit=0.01).submit()
    leveret_inline.run(check=False)

    assert leveret_inline.dead[0].failure.type == "TimeLimitExceeded"


@pytest.mark.parametrize("end", [SystemExit(3), asyncio.CancelledError(), Cancelled()])
def test_what_ends_a_task_does_not_end_the_test(leveret_inline: Inline, desk: Desk, end: BaseException) -> None:
    """As it does not end a worker."""

    def leave() -> None:
        raise end

    desk.task(leave).submit()
    leveret_inline.run(check=False)

    assert leveret_inline.dead[0].error is end


def test_ctrl_c_is_meant_for_the_test(leveret_inline: Inline, desk: Desk) -> None:
    """It ends at once, whatever a worker would do."""

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    desk.task(interrupt).submit()
    with pytest.raises(KeyboardInterrupt):
        leveret_inline.run()


def test_a_process_that_a_task_forks_does_not_go_on_with_the_test(leveret_inline: Inline, desk: Desk) -> None:
    """It ends where it leaves the task."""

    def fork() -> None:
        desk.seen.append(os.fork())

    desk.task(fork).submit()
    leveret_inline.run()

    assert os.waitstatus_to_exitcode(os.waitpid(desk.seen[0], 0)[1]) == 0


def test_many_threads_may_submit(leveret_inline: Inline, desk: Desk, send: Send) -> None:
    """Nothing is lost, nothing runs twice."""
    threads = [threading.Thread(target=submit_many, args=(send, [{"to": "a"}] * 50)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(leveret_inline.run()) == len(desk.seen) == 400


def _python(text: str, *options: str, folder: Path) -> str:
    ended = subprocess.run(
        [sys.executable, *options, "-c", text], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )

    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_pytest_loads_nothing_before_a_test_asks(tmp_path: Path) -> None:
    """A project that does not use the fixtures pays for one small module."""
    (tmp_path / "test_other.py").write_text("import sys\ndef test(): print('\\nLOADED', *sorted(sys.modules))\n")
    code = "import pytest, sys; sys.exit(pytest.main(['-q', '-s', '-p', 'no:cacheprovider', 'test_other.py']))"
    (line,) = (line for line in _python(code, folder=tmp_path).splitlines() if line.startswith("LOADED"))
    loaded = {name for name in line.split() if name.partition(".")[0] in ("leveret", "pika", "msgspec", "kombu")}

    assert loaded == {"leveret", "leveret.testing", "leveret.testing.plugin"}


def test_limits_are_passed_at_once(leveret_inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other worker is there, and nothing runs beside it; what makes no key is refused as ever."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(limits, "_known", {})
    queue = WorkQueue("limited", at_once=1, rate=Rate(1, per_seconds=3600))
    seen: list[str] = []

    @task("limited.run", queue=queue, limit=Limit(at_once=1, key="{customer}"))
    def run(customer: Any) -> None:
        seen.append(customer)

    for _ in range(3):
        run.submit("ann")
    with pytest.raises(MessageError, match="takes text or a number"):
        run.submit(["ann"])
    leveret_inline.run(seconds=0)

    assert seen == ["ann"] * 3


def test_without_pytest_it_is_a_context(tmp_path: Path) -> None:
    """And pytest is not loaded."""
    code = """
import sys
from leveret import WorkQueue, task
from leveret.testing import inline
mail = WorkQueue("mail")
@task("mail.send", queue=mail, follow=True)
def send(to: str) -> str:
    return to.upper()
with inline() as here:
    print(send.submit("a").result(), len(here.attempts), "pytest" in sys.modules)
"""

    assert _python(code, folder=tmp_path) == "A 1 False\n"


def test_a_batch_is_handed_over_as_a_list(leveret_inline: Inline, desk: Desk) -> None:
    """When it is full, or when its first call has waited long enough by the test's clock."""

    def load(calls: list[int]) -> list[int]:
        desk.seen.append((leveret_inline.now, calls))
        return [2 * call for call in calls]

    made = desk.task(load, batch=Batch(3, within_seconds=2))
    sent = [made.options(follow=True).submit(number) for number in range(4)]

    leveret_inline.run(1)
    assert desk.seen == [(0.0, [0, 1, 2])]
    assert len(leveret_inline.waiting) == 1
    made.submit(4)
    ran = leveret_inline.run()

    assert desk.seen == [(0.0, [0, 1, 2]), (2.0, [3, 4])]
    assert [one.verdict for one in ran] == [Verdict.DONE] * 2
    assert [one.result() for one in sent] == [0, 2, 4, 6]


def test_some_of_a_batch_come_back(leveret_inline: Inline, desk: Desk) -> None:
    """Each by its own delay, and into a later batch."""

    def load(calls: list[int]) -> None:
        progress(1, 2)
        desk.seen.append((leveret_inline.now, calls, [each.number for each in current_attempts()]))
        if 1 in calls and leveret_inline.now < 5:
            raise BatchFailed({calls.index(1): ValueError("not yet")})

    made = desk.task(load, batch=Batch(2, within_seconds=2))
    made.submit(0)
    made.submit(1)
    first, second, third = leveret_inline.run()

    assert desk.seen == [(0.0, [0, 1], [1, 1]), (7.0, [1], [2])]
    assert [one.verdict for one in (first, second, third)] == [Verdict.DONE, Verdict.RETRY, Verdict.DONE]
    assert isinstance(second.error, ValueError)
    assert first.progress is not None


def test_a_unique_task_is_there_once(leveret_inline: Inline, send: Send) -> None:
    """Until it has ended, or for its time by the test's clock."""
    first = send.options(unique="a").submit("a")
    second = send.options(unique="a").submit("a")
    timed = send.options(unique="b", for_seconds=60).submit("b")

    assert (first.was_already_there, second.was_already_there, second.id) == (False, True, first.id)
    leveret_inline.run()
    assert not send.options(unique="a").submit("a").was_already_there
    assert send.options(unique="b").submit("b") == timed
    leveret_inline.run(60)
    assert not asyncio.run(send.options(unique="b").submit_async("b")).was_already_there


def test_a_unique_task_that_was_not_submitted_or_failed_frees_its_key(
    leveret_inline: Inline, desk: Desk, send: Send
) -> None:
    """As with a recorder."""
    with pytest.raises(NotRouted):
        send.options(unique="a", queue="nowhere").submit("a")

    def fail() -> None:
        raise Reject("no")

    failing = desk.task(fail)
    assert not failing.options(unique="a", for_seconds=60).submit().was_already_there
    leveret_inline.run(check=False)
    sent = send.options(unique="a").submit("a")
    assert not sent.was_already_there
    sent.cancel()
    leveret_inline.run()
    assert not send.options(unique="a").submit("a").was_already_there
