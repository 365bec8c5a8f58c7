"""The task decorator: what becomes a task, what is refused, and that a task stays a function."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import pytest

from leveret.consumers.tasks.defining import DEFAULT_TIME_LIMIT_SECONDS, task
from leveret.consumers.tasks.kind import Kind
from leveret.consumers.tasks.task import Task
from leveret.topology import queues, registry
from leveret.topology.errors import MessageError, TaskModuleError
from leveret.topology.queues import WorkQueue


@pytest.fixture(autouse=True)
def mail(monkeypatch: pytest.MonkeyPatch) -> WorkQueue:
    """A queue to define tasks on; tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    return WorkQueue("mail")


def test_a_task_has_a_name_a_queue_and_limits(mail: WorkQueue) -> None:
    """What the decorator was given is what the task says, and the registry finds it."""

    @task("mail.send", queue=mail, time_limit=30, soft_time_limit=20)
    def send(to: str) -> None:
        """Send it."""

    assert (send.name, send.queue, send.time_limit, send.soft_time_limit) == ("mail.send", mail, 30.0, 20)
    assert registry.get("mail.send") is send
    assert repr(send) == "<task mail.send on queue mail>"


def test_limits_have_defaults(mail: WorkQueue) -> None:
    """Without limits a task has 25 minutes, below the broker's own half hour, and no soft limit."""

    @task("mail.send", queue=mail)
    def send() -> None:
        """Send it."""

    assert (send.time_limit, send.soft_time_limit) == (DEFAULT_TIME_LIMIT_SECONDS, None)
    assert DEFAULT_TIME_LIMIT_SECONDS < 30 * 60


def test_a_task_is_still_its_function(mail: WorkQueue) -> None:
    """Called directly a task runs here and now, and keeps name, docstring and signature."""

    @task("mail.add", queue=mail)
    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    assert (add(1), add(1, b=5)) == (3, 6)
    assert (vars(add)["__name__"], add.__doc__, add.__module__) == ("add", "Add two numbers.", __name__)
    assert inspect.signature(add) == add.arguments.signature == inspect.signature(add.function)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add()  # type: ignore[call-arg]


def test_an_async_task_is_awaited_when_called(mail: WorkQueue) -> None:
    """Calling an `async def` task gives what can be awaited."""

    @task("mail.add", queue=mail)
    async def add(a: int, b: int) -> int:
        return a + b

    assert asyncio.run(add(1, 2)) == 3


@pytest.mark.parametrize("name", ["", None, 5, b"mail.send", "mail." + "x" * 251, "mail." + "é" * 126])
def test_a_bad_name_is_refused(name: Any, mail: WorkQueue) -> None:
    """A name is 1 to 255 bytes of text."""
    with pytest.raises(TaskModuleError, match=r"cannot name a task; use @task\('mail.send', queue=…\)"):
        task(name, queue=mail)


@pytest.mark.parametrize("queue", [None, "mail", 5])
def test_a_queue_must_be_one(queue: Any) -> None:
    """A queue's name is not a queue."""
    with pytest.raises(TaskModuleError, match=r"task 'mail.send': queue is .*, not a WorkQueue"):
        task("mail.send", queue=queue)


def test_a_name_out_of_the_queues_topics_is_refused(mail: WorkQueue) -> None:
    """A task that submitting would not reach is refused with the topics there are."""
    with pytest.raises(TaskModuleError, match=r"'fax.send' is on queue 'mail', whose topics mail.# do not match"):
        task("fax.send", queue=mail)


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({"time_limit": 0}, "0"),
        ({"time_limit": -1}, "-1"),
        ({"time_limit": True}, "True"),
        ({"time_limit": "30"}, "'30'"),
        ({"time_limit": None}, "None"),
        ({"time_limit": float("nan")}, "nan"),
        ({"soft_time_limit": 0}, "0"),
        ({"soft_time_limit": -0.5}, "-0.5"),
        ({"soft_time_limit": False}, "False"),
        ({"soft_time_limit": "1"}, "'1'"),
        ({"time_limit": 10, "soft_time_limit": 10.5}, "10.5"),
        ({"time_limit": float("inf")}, "inf"),
        ({"time_limit": float("inf"), "soft_time_limit": 5}, "inf"),
        ({"time_limit": 10**400}, "10+"),
        ({"soft_time_limit": float("inf")}, "inf"),
        ({"soft_time_limit": float("nan")}, "nan"),
    ],
)
def test_an_impossible_limit_is_refused(limits: dict[str, Any], shown: str, mail: WorkQueue) -> None:
    """A limit is a positive number of seconds that a timer can hold, and the soft one is not the larger."""
    with pytest.raises(TaskModuleError, match=f"task 'mail.send': a time limit of {shown} is not possible"):
        task("mail.send", queue=mail, **limits)


class Sender:
    """What can be called like a function, but has no name."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "shown"), [(functools.partial(print, "x"), "functools.partial"), (Sender(), "<.*Sender"), (5, "5")]
)
def test_what_has_no_name_of_its_own_is_refused(function: Any, shown: str, mail: WorkQueue) -> None:
    """Two of them could not be told apart, so that one task could replace another unseen."""
    with pytest.raises(TaskModuleError, match=f"task 'mail.send' is {shown}.*, no function .*; define one with def"):
        task("mail.send", queue=mail)(function)


@pytest.mark.parametrize(
    ("options", "is_async", "reason"),
    [
        ({"threads": True}, True, "is async def, which threads=True is not for"),
        ({"concurrency": 5}, False, "concurrency=5 is for tasks that run side by side, and this is a plain function"),
        ({"concurrency": 0}, True, "with concurrency=0 none could ever run; give 1 or more"),
        ({"concurrency": -1, "threads": True}, False, "with concurrency=-1 none could ever run"),
        ({"concurrency": True}, True, "concurrency is True, not a number of tasks"),
        ({"concurrency": "5"}, True, "concurrency is '5', not a number of tasks"),
        ({"concurrency": 2.5}, True, r"concurrency is 2\.5, not a number of tasks"),
    ],
)
def test_what_cannot_run_side_by_side_is_refused(
    options: dict[str, Any], is_async: bool, reason: str, mail: WorkQueue
) -> None:
    """With the task's name, and with what to write instead."""

    def plain() -> None: ...

    async def waiting() -> None: ...

    with pytest.raises(TaskModuleError, match=f"task 'mail.send'.* {reason}"):
        task("mail.send", queue=mail, **options)(waiting if is_async else plain)


@pytest.mark.parametrize("never", [ValueError, "ValueError", None, ("ValueError",), (ValueError("no"),), (int,), (7,)])
def test_what_never_retries_is_a_tuple_of_exception_classes(never: Any, mail: WorkQueue) -> None:
    """Anything else is refused when the task is defined, with what to write."""
    with pytest.raises(TaskModuleError, match=r"task 'mail.send': .*never=\(ValueError,\)"):
        task("mail.send", queue=mail, never=never)


def test_a_task_may_name_no_exception_that_never_retries(mail: WorkQueue) -> None:
    """None is what there is by default; a list is as good as a tuple."""
    none = task("mail.none", queue=mail, never=())(lambda: None)
    some = task("mail.some", queue=mail, never=[ValueError, OSError])(lambda: None)

    assert (none.never, some.never) == ((), (ValueError, OSError))


def test_the_kind_of_a_task(mail: WorkQueue) -> None:
    """A plain function is safe beside others only where its author says so."""

    async def waiting() -> None: ...

    assert task("mail.a", queue=mail)(print).kind is Kind.PLAIN
    assert task("mail.b", queue=mail, threads=True, concurrency=2)(len).kind is Kind.THREADS
    assert task("mail.c", queue=mail, concurrency=2)(waiting).kind is Kind.ASYNC


def test_the_type_of_a_task_is_public(mail: WorkQueue) -> None:
    """The decorator makes a `Task`."""

    assert isinstance(task("mail.send", queue=mail)(print), Task)


@pytest.mark.parametrize("args", [(), ("a",)])
@pytest.mark.parametrize("kwargs", [{}, {"to": "a"}, {"subject": "b"}, {"to": "a", "subject": "b"}, {"cc": "c"}])
@pytest.mark.parametrize("kind", ["plain", "keyword only", "positional only", "anything"])
def test_a_call_is_checked_as_python_would(
    kind: str, args: tuple[str, ...], kwargs: dict[str, str], mail: WorkQueue
) -> None:
    """What can be called passes, and what cannot is told with signature and call; the quick way decides the same."""

    def plain(to: str, subject: str = "") -> None: ...

    def keyword_only(*, to: str, subject: str = "") -> None: ...

    def positional_only(to: str, /, subject: str = "") -> None: ...

    def anything(*args: str, **kwargs: str) -> None: ...

    functions: dict[str, Any] = {
        "plain": plain,
        "keyword only": keyword_only,
        "positional only": positional_only,
        "anything": anything,
    }
    function = functions[kind]
    made = task("mail.send", queue=mail)(function)
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(
            MessageError, match=r"^task 'mail\.send' cannot be called like this: .*; mail\.send.* was called"
        ):
            made.check(list(args), kwargs)
    else:
        made.check(list(args), kwargs)


def test_a_refused_call_shows_names_and_no_values(mail: WorkQueue) -> None:
    """Values may be secret, and names may be a client's."""

    @task("mail.send", queue=mail)
    def send(to: str) -> None: ...

    with pytest.raises(MessageError) as caught:
        send.check(["s3cret"], {"pass\nword": "s3cret"})

    assert "s3cret" not in str(caught.value)
    assert r"with 1 positional, pass\nword=…" in str(caught.value)
