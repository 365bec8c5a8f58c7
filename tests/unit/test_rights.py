"""Rights: derived from the topology, they cover all of a queue under every retry plan, and nothing of another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leveret.topology import queues
from leveret.topology.access.rights import ROLES, Rights, rights_of, taken_away, topic_rights_of
from leveret.topology.names import dlq_name, failed_exchange, family_pattern, waiting_pattern
from leveret.topology.objects import PRODUCERS_EXCHANGES, WORKERS_EXCHANGES, objects_of
from leveret.topology.queues import WorkQueue

NAMES = st.from_regex(r"[a-z_][a-z0-9_.:-]{0,5}", fullmatch=True)
PLANS = st.lists(st.sampled_from([0.3, 1, 5, 60, 7200]), max_size=4)


@pytest.fixture(autouse=True)
def no_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test defines its own queues, and the others are there again afterwards."""
    monkeypatch.setattr(queues, "_known", {})


@given(NAMES, PLANS)
def test_a_queues_family_is_all_it_consists_of(name: str, plan: list[float]) -> None:
    """Whatever the name and the retry plan, the pattern matches every object, and no neighbour's."""
    queues.forget()
    table = objects_of(WorkQueue(name, retry_delays=tuple(plan)))
    own = [exchange.name for exchange in table.exchanges] + [queue.name for queue in table.queues]

    assert all(re.fullmatch(family_pattern(name), each) for each in own)
    assert not any(re.fullmatch(family_pattern(other), each) for each in own for other in (f"{name}2", f"x{name}"))


def test_what_waits_is_the_queue_and_its_tiers() -> None:
    """Neither the DLQ nor an exchange, and a dot in a name is a dot."""
    table = objects_of(WorkQueue("a.b", retry_delays=(1, 5)))
    waiting = [queue.name for queue in table.queues if queue.name != dlq_name("a.b")]

    assert len(waiting) == 3
    assert all(re.fullmatch(waiting_pattern("a.b"), name) for name in waiting)
    for name in (dlq_name("a.b"), failed_exchange("a.b"), "aXb", "a.b.c"):
        assert not re.fullmatch(waiting_pattern("a.b"), name)


def test_the_shared_exchanges_are_matched_whole() -> None:
    """A producer may write what it publishes to, and nothing whose name only begins or ends so."""
    write = rights_of("producer", []).write

    assert all(re.search(write, exchange.name) for exchange in PRODUCERS_EXCHANGES)
    assert not any(re.search(write, name) for name in ("", "tasks.direct2", "xtasks.topic", "tasksXdirect"))


def test_only_who_runs_tasks_may_say_which_attempt_it_is() -> None:
    """What comes back and what is dead is written by workers and the topology's owner, not by producers."""
    names = [exchange.name for exchange in WORKERS_EXCHANGES]
    may_write = {role: [bool(re.search(rights_of(role, []).write, name)) for name in names] for role in ROLES}

    assert names == ["tasks.again", "tasks.dead"]
    others = {"producer": [False, False], "recorder": [False, False], "scheduler": [False, False]}
    assert may_write == {**others, "worker": [True, True], "topology": [True, True]}


def test_by_which_keys() -> None:
    """Who submits cannot say that a task has ended, nor hear what others are told; who records cannot either."""

    def may(role: str, kind: str, exchange: str, key: str) -> bool:
        patterns = {rights.exchange: getattr(rights, kind) for rights in topic_rights_of(role)}
        return bool(re.search(patterns.get(exchange, ""), key))

    reply = "tasks.reply.0123456789abcdef"
    events = {key: {role for role in ROLES if may(role, "write", "tasks.events", key)} for key in EVENTS}
    heard = {key: {role for role in ROLES if may(role, "read", "tasks.events", key)} for key in (*HEARD, reply)}
    asked = {key: {role for role in ROLES if may(role, "write", "tasks.control", key)} for key in CONTROL}

    assert events == EVENTS
    assert may("recorder", "write", "tasks.events", reply)
    assert heard == {**HEARD, reply: {"producer", "worker", "topology", "scheduler"}}
    assert asked == CONTROL
    assert {role for role in ROLES if may(role, "read", "tasks.control", "ask.workers")} == {"worker", "topology"}


def test_a_queue_with_priorities_takes_rights_to_its_levels_and_one_without_does_not() -> None:
    """A worker reads the three; who declares has all of it; nobody else gets any, nor is told of a right that ended."""
    plain = {role: rights_of(role, [WorkQueue("a")]) for role in ROLES}
    queues.forget()
    queue = WorkQueue("a", priorities=True)
    now = {role: rights_of(role, [queue]) for role in ROLES}
    table = objects_of(queue)
    names = [*(exchange.name for exchange in table.exchanges), *(made.name for made in table.queues)]
    of_levels = ["a.high", "a.low", "a.in", "a.in.normal"]

    assert [name for name in of_levels if re.search(now["worker"].read, name)] == ["a.high", "a.low"]
    assert all(re.search(pattern, name) for pattern in now["topology"] for name in names)
    assert not any(re.search(now[role].write, name) for role in ROLES if role != "topology" for name in of_levels)
    assert not any(re.search(pattern, name) for role in ROLES for pattern in plain[role] for name in of_levels)
    assert all(taken_away(plain[role], now[role]) == {} for role in ROLES)


EVENTS = {
    "task.submitted.mail.send": {"producer", "worker", "topology", "scheduler"},
    "schedule.fired.digest": {"scheduler", "topology"},
    "task.succeeded.mail.send": {"worker", "topology"},
    "task.submittedX": {"worker", "topology"},
    "x.task.submitted.a": {"topology"},
}
HEARD = {
    "task.#": {"topology", "recorder"},
    "tasks.reply.#": {"topology"},
    "#": {"topology"},
}
CONTROL = {
    "cancel": {"producer", "worker", "topology"},
    "pause": {"topology"},
    "ask.record": {"producer", "worker", "topology", "scheduler"},
    "schedules.state": {"scheduler", "topology"},
    "schedules.pause": {"scheduler", "topology"},
    "ask.workers": {"producer", "worker", "topology"},
    "ask": {"topology"},
}


@pytest.mark.parametrize("role", ROLES)
def test_without_queues_nothing_is_allowed_by_accident(role: str) -> None:
    """No queues is a pattern that matches the shared exchanges at most, never everything."""
    for pattern in rights_of(role, []):
        assert not re.search(pattern, "jobs")
        assert not re.search(pattern, "") or pattern == "^$"


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_loses_is_told(role: str) -> None:
    """Fewer queues take rights away, the same or more do not; what somebody else had given is taken, too."""
    a, b, c = (WorkQueue(name) for name in ("a", "b.x", "c"))
    before, fewer, more = (rights_of(role, queues) for queues in ([a, c], [c], [a, b, c]))
    lost = {
        "producer": {},
        "recorder": {},
        "scheduler": {},
        "worker": {"read": before.read},
        "topology": {"configure": before.configure, "write": before.write, "read": before.read},
    }

    assert taken_away(before, fewer) == lost[role]
    assert taken_away(before, before) == taken_away(before, more) == {}
    assert taken_away(Rights("", "^$", ""), before) == {}
    assert taken_away(Rights("^$", ".*", ""), before) == {"write": ".*"}
