"""From a call to a message: which route, and what the tasks that are loaded here show to be impossible."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.task import Task
from leveret.producers.calls import check_timeout, make_message, reached_queues, route_of
from leveret.topology import queues, registry
from leveret.topology.errors import MessageError
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})


@pytest.fixture
def send() -> Task[[str, int], None]:
    """A task on a queue of its own."""

    @task("mail.send", queue=WorkQueue("mail"))
    def send(to: str, copies: int = 1) -> None: ...

    return send


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"queue": "q"}, Route.direct("q")),
        ({"queue": "q", "exchange": "direct"}, Route.direct("q")),
        ({"exchange": "direct", "routing_key": "q@2"}, Route.direct("q@2")),
        ({"exchange": "topic"}, Route.topic("mail.send")),
        ({"routing_key": "mail.urgent"}, Route.topic("mail.urgent")),
        ({"routing_key": ""}, Route.topic("")),
        ({"exchange": "fanout"}, Route.fanout("mail.send")),
        ({"exchange": "fanout", "routing_key": "k"}, Route.fanout("k")),
        ({"queue": "x" * 255}, Route.direct("x" * 255)),
    ],
)
def test_a_route_is_what_was_asked_for(given: dict[str, str], expected: Route | None) -> None:
    """The usual one is none of its own, so that it is the task's wherever the message is published."""
    assert route_of("mail.send", **given) == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"queue": "q", "exchange": "topic"}, "queue is a way of the direct exchange, and its routing key; give noth"),
        ({"queue": "q", "exchange": "fanout"}, "queue is a way of the direct exchange"),
        ({"queue": "q", "routing_key": "k"}, "queue is a way of the direct exchange"),
        ({"queue": "q", "routing_key": ""}, "queue is a way of the direct exchange"),
        ({"queue": "q", "exchange": "direct", "routing_key": "q"}, "queue is a way of the direct exchange"),
        ({"exchange": "direct"}, "the direct exchange needs a queue"),
        ({"exchange": "headers"}, "there is no exchange 'headers' for tasks; there are: direct, topic, fanout"),
        ({"exchange": "tasks.topic"}, "there is no exchange 'tasks.topic'"),
        ({"exchange": ""}, "there is no exchange ''"),
        ({"queue": "x" * 256}, "queue 'x{60}'… is longer than the 255 bytes of AMQP"),
        ({"routing_key": "é" * 128}, "routing key 'é{60}'… is longer than the 255 bytes of AMQP"),
        ({"queue": 5}, "queue 5 is no text"),
        ({"queue": b"mail"}, "queue b'mail' is no text"),
        ({"routing_key": "\ud800"}, "routing key '.ud800' is no text"),
    ],
)
def test_a_route_that_cannot_be_is_refused(given: dict[str, Any], reason: str) -> None:
    """What contradicts itself, or what AMQP cannot carry."""
    with pytest.raises(MessageError, match=reason):
        route_of("mail.send", **given)


def test_a_message_has_what_was_given(send: Task[..., None]) -> None:
    """By name as by the task itself, with or without an id and a route."""
    for named in ("mail.send", send):
        made = make_message(named, ["a"], {"copies": 2}, id="order-17", route=Route.direct("mail"))

        assert (made.task, made.id, made.route) == ("mail.send", "order-17", Route.direct("mail"))
        assert json.loads(made.body) == {"version": 1, "task": "mail.send", "args": ["a"], "kwargs": {"copies": 2}}
    usual = make_message("mail.send", ["a"])
    assert usual.route is None
    assert usual.id != make_message("mail.send", ["a"]).id


@pytest.mark.parametrize("named", ["mail.send", None])
@pytest.mark.parametrize(
    ("args", "kwargs", "reason"),
    [
        ([], {}, "missing a required argument: 'to'"),
        (["a", 1, 2], {}, "too many positional arguments"),
        (["a"], {"cc": 1}, "unexpected argument 'cc'"),
    ],
)
def test_a_call_that_cannot_be_is_refused(
    named: str | None, args: list[Any], kwargs: dict[str, Any], reason: str, send: Task[..., None]
) -> None:
    """Where the task is loaded here its function says so, before anything is sent."""
    with pytest.raises(MessageError, match=f"task 'mail.send' cannot be called like this: {reason}"):
        make_message(named or send, args, kwargs)


@pytest.mark.parametrize("given", [None, 5, b"mail.send", print, object()])
def test_what_is_no_task_is_refused(given: Any) -> None:
    """A plain function is the usual mistake."""
    with pytest.raises(MessageError, match="is no task; name one, or give a function that @task has made one"):
        make_message(given)


@pytest.mark.parametrize(
    ("name", "route", "reason"),
    [
        ("mail.sned", None, "no task 'mail.sned' for queue 'mail' in {}; did you mean 'mail.send'\\?"),
        ("mail.zzzzzzzzzzz", None, "no task 'mail.zzzzzzzzzzz' for queue 'mail' in {}; there are: mail.send$"),
        ("other", Route.direct("mail"), "no task 'other' for queue 'mail' in {}; there are: mail.send"),
        ("other", Route.topic("mail.urgent"), "no task 'other' for queue 'mail'"),
    ],
)
def test_an_unknown_name_is_refused_where_its_queues_tasks_are_loaded(
    name: str, route: Route | None, reason: str, send: Task[..., None]
) -> None:
    """Whoever would take it from there could not run it; the nearest name is told, or all of that queue."""
    with pytest.raises(MessageError, match=reason.format(__name__)):
        make_message(name, route=route)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("fax.send", None),  # it reaches no queue that is known here
        ("pdf.make", None),  # that one is known, and none of its tasks is
        ("other", Route.direct("pdf")),
        ("mail.sned", Route.direct("elsewhere")),
        ("mail.sned", Route.topic("fax.send")),
        ("mail.sned", Route.fanout()),  # other programs subscribe there, too
        ("mail.sned", Route("their.exchange", "mail")),
        ("mail.send", Route.direct("pdf")),  # a task may be sent to another queue that a worker of it serves
    ],
)
def test_an_unknown_name_is_sent_where_nothing_is_known_about_it(
    name: str, route: Route | None, send: Task[..., None]
) -> None:
    """A producer may have the queues of others, and the tasks of none or of some."""
    WorkQueue("pdf")
    kwargs = {"to": "a"} if name == "mail.send" else {}

    assert make_message(name, kwargs=kwargs, route=route).task == name


def test_without_tasks_every_name_is_sent() -> None:
    """Who has loaded the queues alone is not told that their tasks do not exist."""
    WorkQueue("mail", fanout=True)

    assert make_message("mail.sned").task == "mail.sned"


def test_of_several_queues_any_one_is_enough_to_refuse(send: Task[..., None]) -> None:
    """A topic may lead to several; the one whose tasks are known could not run it."""
    WorkQueue("audit", topics=("#",))

    with pytest.raises(MessageError, match=r"no task 'mail\.sned' for queue 'mail'"):
        make_message("mail.sned")
    assert make_message("fax.send").task == "fax.send"


@pytest.mark.parametrize(
    ("route", "names"),
    [
        (Route.direct("mail"), ["mail"]),
        (Route.direct("mail.dlq"), []),
        (Route.direct("fax"), []),
        (Route.topic("mail.send"), ["all", "mail"]),
        (Route.topic("other"), ["all"]),
        (Route.fanout(), ["all"]),
        (Route.fanout("mail"), ["all"]),
        (Route("their.exchange", "mail"), []),
    ],
)
def test_reached_queues_are_those_the_broker_would_route_to(route: Route, names: list[str]) -> None:
    """By each of the exchanges."""
    for name in ("pdf", "mail"):
        WorkQueue(name)
    WorkQueue("all", topics=("#",), fanout=True)

    assert [queue.name for queue in reached_queues(route)] == names


@pytest.mark.parametrize("timeout", [None, 1, 0.001, 86_400.0])
def test_a_timeout_is_seconds(timeout: float | None) -> None:
    """Or none at all."""
    assert check_timeout(timeout) == timeout


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, -math.inf, True, "5", [5]])
def test_a_timeout_that_cannot_be_is_refused(timeout: Any) -> None:
    """Waiting for ever is not possible, and neither is not waiting."""
    with pytest.raises(MessageError, match=r"a timeout of .* is not possible; give seconds, more than 0"):
        check_timeout(timeout)


def test_a_call_is_checked_by_the_task_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever kind of task it is: what `check` raises is raised."""

    class Strict:
        name = "strict"
        is_typed = False
        follow = False
        check: Callable[..., None]

        def __init__(self) -> None:
            self.checked: list[tuple[Any, Any]] = []

        def check(self, args: Any, kwargs: Any) -> None:  # type: ignore[no-redef]
            self.checked.append((args, kwargs))

    strict: Any = Strict()
    make_message(strict, [1])
    monkeypatch.setattr(registry, "_tasks", {"strict": strict})
    make_message("strict", kwargs={"a": 2})

    assert strict.checked == [([1], {}), ([], {"a": 2})]
