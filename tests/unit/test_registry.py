"""The registry: tasks by name, and no name twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leveret.consumers.tasks.defining import task
from leveret.consumers.tasks.task import Task
from leveret.topology import queues, registry
from leveret.topology.errors import TaskModuleError
from leveret.topology.queues import WorkQueue


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests know no queues and tasks but their own."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})


def first() -> None:
    """A function to make tasks of."""


def second() -> None:
    """Another one."""


def define(name: str, function: Callable[[], None]) -> Task[[], None]:
    """Make a task on a queue that takes every name."""
    return task(name, queue=WorkQueue("all", topics=("#",)))(function)


def test_tasks_are_found_by_name() -> None:
    """A task is got by its name; another name gets nothing."""
    made = define("b.first", first)
    define("a.second", second)

    assert registry.get("b.first") is made
    assert registry.get("first") is None
    assert registry.names() == ["a.second", "b.first"]


def test_one_function_may_be_two_tasks() -> None:
    """Two names for one function are two tasks."""
    define("a", first)
    define("b", first)

    assert registry.names() == ["a", "b"]


def test_two_functions_of_one_name_are_a_clash() -> None:
    """The second definition is refused with both places, and the first stays."""
    made = define("a", first)
    with pytest.raises(
        TaskModuleError, match=rf"task 'a' is defined twice, by {__name__}\.first and by {__name__}\.second; rename"
    ):
        define("a", second)

    assert registry.get("a") is made


def test_a_reloaded_function_takes_its_own_place() -> None:
    """The same function defined again, as a reload does, replaces the earlier one."""
    define("a", first)
    again = define("a", first)

    assert registry.get("a") is again


def test_forget_empties_the_registry() -> None:
    """After forgetting there are no tasks, and the name is free."""
    define("a", first)
    registry.forget()

    assert registry.names() == []
    assert define("a", second).name == "a"


def test_the_longest_time_limit_of_some_queues() -> None:
    """Of those asked for, not of others."""
    for name, limit in (("first.a", 5), ("first.b", 50), ("second.a", 500)):
        task(name, queue=WorkQueue(name.partition(".")[0]), time_limit=limit)(lambda: None)

    longest = registry.longest_time_limit(["first"])

    assert longest is not None
    assert longest.name == "first.b"
    assert registry.longest_time_limit(["third"]) is None


def test_tasks_of_a_queue() -> None:
    """Those of a queue that is equal by name, and of no other."""
    mail, fax = WorkQueue("mail"), WorkQueue("fax")
    made = [task(name, queue=mail)(first) for name in ("mail.send", "mail.stop")]
    task("fax.send", queue=fax)(first)

    assert registry.of_queue(mail) == made
    assert registry.of_queue(WorkQueue("pdf")) == []


def test_the_nearest_name() -> None:
    """A slip of the keyboard is near; another word is not."""
    for name in ("mail.send", "mail.stop", "fax.send"):
        task(name, queue=WorkQueue(name.partition(".")[0]))(first)

    assert registry.nearest("mail.sned") == "mail.send"
    assert registry.nearest("fax.snd") == "fax.send"
    assert registry.nearest("zzzz") is None


def test_whether_any_task_is_loaded() -> None:
    """Queues alone are none."""
    WorkQueue("mail")
    assert not registry.has_any()
    define("a", first)
    assert registry.has_any()
    registry.forget()
    assert not registry.has_any()
