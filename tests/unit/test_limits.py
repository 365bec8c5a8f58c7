"""Limits: what makes no sense is refused where it is written, and each limit has tokens of its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret import Limit, MessageError, Rate, TaskModuleError, WorkQueue, task
from leveret.topology import limits, names, queues, registry
from leveret.topology.limits import tokens_of


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test defines its own queues, tasks and limits, and the others are there again afterwards."""
    monkeypatch.setattr(queues, "_known", {})
    monkeypatch.setattr(registry, "_tasks", {})
    monkeypatch.setattr(limits, "_known", {})


@pytest.mark.parametrize("count", [0, -1, 10_001, True, 2.0, "3", None])
def test_a_number_of_tasks_is_a_whole_number_from_one_on(count: Any) -> None:
    """Zero, less than that, too many, and what is no whole number are no limit, of a rate as well."""
    with pytest.raises(TaskModuleError, match=r"count|Rate"):
        Rate(count)
    if count is not None:
        with pytest.raises(TaskModuleError, match="queue 'mail': Limit: at_once"):
            WorkQueue("mail", at_once=count)


@pytest.mark.parametrize("seconds", [0, -1, 0.05, 4_000_001, float("nan"), float("inf"), True, "1"])
def test_a_period_is_seconds_that_a_ttl_can_have(seconds: Any) -> None:
    """No period at all, one that is too short or too long, and what is no number."""
    with pytest.raises(TaskModuleError, match="per"):
        Rate(1, per_seconds=seconds)


def test_a_limit_limits_something() -> None:
    """Without a number and without a rate it would be none; and a rate is a Rate."""
    with pytest.raises(TaskModuleError, match="limits something"):
        Limit()
    with pytest.raises(TaskModuleError, match="no Rate"):
        Limit(rate=20)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["customer", "{", "{}", "{0}", "{a.b}", "{a[0]}", "{a:>3}", "{a!r}", 5])
def test_a_key_is_a_template_of_names(key: Any) -> None:
    """What names no argument, or does more than name one, is refused."""
    with pytest.raises(TaskModuleError, match="key"):
        Limit(at_once=1, key=key)


def test_a_key_names_arguments_of_the_function() -> None:
    """One that it has not is refused with those that it has, and `**others` are none."""
    queue = WorkQueue("mail")
    for key in ("{custmer}", "{others}"):
        with pytest.raises(TaskModuleError, match=r"none of its arguments \(customer, text\)"):

            @task("mail.send", queue=queue, limit=Limit(at_once=1, key=key))
            def send(customer: str, *, text: str, **others: str) -> None: ...


def test_a_limit_is_a_limit_and_short_enough_for_a_key() -> None:
    """Anything else is refused; so is a task that may run for longer than what is known of a key is kept."""
    queue = WorkQueue("mail")
    with pytest.raises(TaskModuleError, match="no Limit"):
        task("mail.send", queue=queue, limit=3)  # type: ignore[call-overload]
    with pytest.raises(TaskModuleError, match="time_limit of at most 3600"):
        task("mail.send", queue=queue, time_limit=5000, limit=Limit(at_once=1, key="{a}"))
    with pytest.raises(TaskModuleError, match="cannot name a limit"):
        task("mail.sènd", queue=queue, limit=Limit(at_once=1))


def test_two_limits_of_a_name_say_the_same() -> None:
    """Then tasks share it; otherwise the second is refused."""
    queue = WorkQueue("mail", at_once=3)
    task("mail.a", queue=queue, limit=Limit(at_once=2, name="smtp"))(lambda: None)
    task("mail.b", queue=queue, limit=Limit(at_once=2, name="smtp"))(lambda: None)
    with pytest.raises(TaskModuleError, match="another limit 'smtp', which says something else"):
        task("mail.c", queue=queue, limit=Limit(at_once=4, name="smtp"))(lambda: None)
    with pytest.raises(TaskModuleError, match="another limit 'mail'"):
        task("mail.d", queue=queue, limit=Limit(at_once=4, name="mail"))(lambda: None)


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}])
def test_a_key_is_text_or_a_number(value: Any) -> None:
    """Anything else is refused where the task is submitted."""
    queue = WorkQueue("mail")

    @task("mail.send", queue=queue, limit=Limit(at_once=1, key="{customer}"))
    def send(customer: Any = None, text: str = "") -> None: ...

    with pytest.raises(MessageError, match="takes text or a number"):
        send.message(customer=value)
    assert send.limit_key(["ann"], {}) == send.limit_key([], {"customer": "ann", "text": "x"}) == "ann"
    assert send.limit_key([7], {}) == "7"
    with pytest.raises(MessageError, match="customer"):
        send.message()


def test_tokens_are_taken_in_one_order_everywhere() -> None:
    """Those of a key first, for who waits for one keeps nothing from others; those that are spent at last."""
    queue = WorkQueue("mail", at_once=3, rate=Rate(5))
    assert queue.limit
    limit = Limit(at_once=1, rate=Rate(2, per_seconds=60), key="{a}", name="of-key")
    needed = sorted([*tokens_of(queue.limit), *tokens_of(limit, "ann")], key=lambda one: one.rank)

    assert [one.queue for one in needed] == [
        "tasks.limit.of-key.1.at-once/ann",
        "tasks.limit.of-key.2.per.1m/ann",
        "tasks.limit.mail.at-once",
        "tasks.limit.mail.per.1s",
    ]
    assert [one.back_after_seconds for one in needed] == [None, 60.05, None, 1.05]


@given(st.text(), st.text())
def test_each_key_has_a_queue_of_its_own(one: str, other: str) -> None:
    """Whatever its letters and its length, in a name that AMQP can carry; no other key has the same."""
    base = names.at_once_tokens("m" * 120, 10_000)
    first, second = names.tokens_of_key(base, one), names.tokens_of_key(base, other)

    assert (first == second) == (one == other)
    assert len(names.token_lock(first).encode()) <= names.LONGEST_NAME_BYTES


def test_long_and_odd_keys_are_short_and_plain() -> None:
    """A key that is no name, or a long one, is there by its hash."""
    assert names.tokens_of_key("t", "ann@example.org") == "t/ann@example.org"
    for key in ("", "a/b", "ü", "x" * 65, "\ud800"):
        assert len(names.tokens_of_key("t", key)) == 2 + 1 + 32
