"""What happens to a message that no queue took: its queue is declared where it is known, or the cure is told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from leveret.consumers.tasks.defining import task
from leveret.producers import not_routed
from leveret.producers.not_routed import MissingQueues, advice
from leveret.topology import queues, registry
from leveret.topology.apply import declare as applying
from leveret.topology.errors import AccessRefused, BrokerUnreachable, LeveretError
from leveret.topology.names import Route
from leveret.topology.queues import WorkQueue
from leveret.topology.settings import Settings

SETTINGS = Settings("amqp://host/", "http://host:15672/")


class Bindings:
    """A management API that knows these keys, or does not answer."""

    keys: list[str] | None = None

    def __init__(self, _settings: Settings, _timeout_seconds: float) -> None: ...

    def call(self, *path: str) -> object:
        assert path[:3] == ("GET", "exchanges", "/")
        if self.keys is None:
            raise BrokerUnreachable("no answer")
        return [{"routing_key": key} for key in self.keys]


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know no queues and tasks but their own, and a management API that does not answer."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(not_routed, "Management", Bindings)
    monkeypatch.setattr(Bindings, "keys", None)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[str]], list[LeveretError]]:
    """What was to be declared, and what that fails with, one after the other."""
    asked: list[list[str]] = []
    failures: list[LeveretError] = []

    def declare(configured: Settings, missing: Iterable[WorkQueue]) -> None:
        assert configured is SETTINGS
        asked.append([queue.name for queue in missing])
        if failures:
            raise failures.pop(0)

    monkeypatch.setattr(applying, "declare", declare)
    return asked, failures


def test_the_queue_of_a_known_task_is_declared(declared: tuple[list[list[str]], list[LeveretError]]) -> None:
    """Then it is worth publishing again; of a queue that nobody here knows it is not."""
    WorkQueue("mail")
    missing = MissingQueues(SETTINGS)

    assert missing.declare(Route.topic("mail.send"))
    assert missing.declare(Route.direct("mail"))
    assert not missing.declare(Route.direct("fax"))
    assert not missing.declare(Route.fanout())
    assert declared[0] == [["mail"], ["mail"]]


def test_who_may_not_declare_is_asked_once(declared: tuple[list[list[str]], list[LeveretError]]) -> None:
    """The broker would refuse again, for each of millions of messages; other queues are another matter."""
    WorkQueue("mail")
    WorkQueue("fax")
    declared[1].append(AccessRefused("no right"))
    missing = MissingQueues(SETTINGS)

    assert [missing.declare(Route.direct("mail")) for _ in range(3)] == [False] * 3
    assert missing.declare(Route.direct("fax"))
    assert declared[0] == [["mail"], ["fax"]]


def test_what_else_declaring_fails_with_is_raised(declared: tuple[list[list[str]], list[LeveretError]]) -> None:
    """It may succeed the next time."""
    WorkQueue("mail")
    declared[1].append(BrokerUnreachable("gone"))
    missing = MissingQueues(SETTINGS)

    with pytest.raises(BrokerUnreachable):
        missing.declare(Route.direct("mail"))
    assert missing.declare(Route.direct("mail"))


def test_who_may_not_declare_is_told_whose_task_it_is() -> None:
    """The command names the module, where the task is known."""
    task("mail.send", queue=WorkQueue("mail"))(lambda to: None)

    assert advice(SETTINGS, "mail.send", Route.topic("mail.send")) == (
        "its queue is known here, and this user may not declare it; let another declare it: leveret declare "
        f"-a {__name__}"
    )
    assert advice(SETTINGS, "mail.other", Route.direct("mail")).endswith("leveret declare -a MODULE")


@pytest.mark.parametrize(
    ("keys", "route", "expected"),
    [
        (["mail.#", "fax.#"], Route.topic("mial.send"), "the nearest binding is 'mail.#'; correct the key, or declare"),
        (["mail", "mail@2", "mial@2"], Route.direct("mial"), "the nearest binding is 'mail'"),
        ([], Route.fanout(), "declare the queue that is to take it: leveret declare -a MODULE"),
        (["mail@2"], Route.direct("mial"), "declare the queue that is to take it"),
        (None, Route.topic("other"), "the nearest binding is 'pdf.#'"),
        (None, Route.direct("pfd"), "the nearest binding is 'pdf'"),
        (None, Route.fanout(), "declare the queue that is to take it"),
        (None, Route("their.exchange", "k"), "declare the queue that is to take it"),
    ],
)
def test_the_nearest_binding_is_told(
    keys: list[str] | None, route: Route, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the broker's, or of this program's queues where the management API does not answer; never an attempt's key."""
    monkeypatch.setattr(Bindings, "keys", keys)
    WorkQueue("pdf")

    assert advice(SETTINGS, "other", route).startswith(expected)


def test_a_task_that_is_nearly_named_so_is_told() -> None:
    """Both may be what was meant, so both are told; a task that is known is not misspelled."""
    task("mail.send", queue=WorkQueue("mail"))(lambda to: None)

    assert advice(SETTINGS, "mail.sned", Route.direct("mial")).startswith(
        "did you mean task 'mail.send'? the nearest binding is 'mail'; "
    )
    assert advice(SETTINGS, "mail.send", Route.direct("mial")).startswith("the nearest binding is 'mail'; ")
