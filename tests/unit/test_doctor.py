"""`leveret doctor`: from facts, as real brokers gave them, to findings; and how findings are shown."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from leveret import WorkQueue
from leveret.command.doctor import lines_of
from leveret.producers.doctor.asking_management import clock_off, facts_of
from leveret.producers.doctor.diagnosis import judge
from leveret.producers.doctor.facts import (
    CLOCK,
    FLAGS,
    NODES,
    OBJECTS,
    RIGHTS,
    Facts,
    ManagementFacts,
    NodeFacts,
    QueueFacts,
    TimeLimit,
)
from leveret.producers.doctor.finding import Finding
from leveret.producers.watching.counts import Counts
from leveret.topology import workers
from leveret.topology.access.rights import Rights, rights_of
from leveret.topology.objects import Binding, objects_of, shared_exchanges
from tests.unit.test_worker_info import queue_told, running_told, told

NOW = 1785585600.0
shop = WorkQueue("doctored", retry_delays=(5,))
TIER = "doctored.retry.1.after.5s"


def described(*changed: QueueFacts) -> dict[str, QueueFacts]:
    """The queues of the work queue as they should be, but for those that are changed."""
    arguments = {queue.name: queue.arguments for queue in objects_of(shop).queues}
    made = {name: QueueFacts(name, "quorum", of_queue) for name, of_queue in arguments.items()}
    return made | {one.name: replace(one, arguments=arguments.get(one.name, one.arguments)) for one in changed}


def management(**changed: Any) -> ManagementFacts:
    """What the management API tells of a broker that is well."""
    table = objects_of(shop)
    given: dict[str, Any] = {
        "queues": described(),
        "exchanges": {
            one.name: str(one.arguments.get("alternate-exchange", ""))
            for one in (*shared_exchanges().exchanges, *table.exchanges)
        },
        "bindings": frozenset(table.bindings),
        "nodes": [NodeFacts("rabbit@a", True, False, False, 100, 1000, 5000, 50)],
        "flags": {"stream_queue": "enabled"},
        "rights": Rights(".*", ".*", ".*"),
        "clock_off_seconds": 0.0,
    }
    return ManagementFacts("ops", **{**given, **changed})


def counts(ready: dict[str, int], consumers: dict[str, int] | None = None) -> Counts:
    made = Counts()
    made.update(ready)
    made.consumers = consumers or {}
    return made


def facts(**changed: Any) -> Facts:
    """Facts of a broker, a queue and a worker that are well."""
    answer = told(queues=[queue_told(name="doctored")], running=[])
    given: dict[str, Any] = {
        "broker": "rabbit:5672/shop",
        "user": "ops",
        "vhost": "/shop",
        "at": NOW,
        "consumer_timeout_seconds": 1800.0,
        "known": [shop],
        "names": ["doctored"],
        "time_limits": [TimeLimit("shop.ok", "doctored", 60.0)],
        "version": (4, 3, 6),
        "connect_seconds": 0.003,
        "counts": counts({"doctored": 0, "doctored.dlq": 0}, {"doctored": 1}),
        "counted": frozenset({"doctored", "doctored.dlq"}),
        "workers": [workers.read(answer)],
        "management": management(),
    }
    return Facts(**{**given, **changed})


def bad(found: Sequence[Finding]) -> list[Finding]:
    return [one for one in found if one.level != "ok"]


def test_where_all_is_well_nothing_is_found() -> None:
    """And each check says what it has looked at."""
    found = judge(facts())

    assert bad(found) == []
    assert [one.about for one in found] == [
        "broker",
        "version",
        "feature flags",
        "permissions",
        "clock",
        "nodes",
        "queue doctored",
        "time limit",
        "workers",
    ]


def infos(*answers: dict[str, Any]) -> list[workers.WorkerInfo]:
    return [workers.read(answer) for answer in answers]


def taken(**changed: Any) -> list[workers.WorkerInfo]:
    return infos(told(queues=[queue_told(name="doctored", **changed)], running=[]))


def seen(*changed: QueueFacts, **more: Any) -> ManagementFacts:
    return management(queues=described(*changed), **more)


def node(**changed: Any) -> ManagementFacts:
    return management(nodes=[replace(NodeFacts("rabbit@a", True, False, False, 100, 1000, 5000, 50), **changed)])


def without(*names: str) -> ManagementFacts:
    return management(bindings=frozenset(one for one in objects_of(shop).bindings if one.exchange not in names))


QUEUE = "queue doctored"
PAUSE = {"by": "ops@desk", "at": NOW, "reason": "the relay is down"}
AT_EACH = {"waiting": 0, "finished": 60, "failed": 0}
GROWS = seen(QueueFacts("doctored", "quorum", in_per_second=3.0))
MANY = counts({"doctored": 500, "doctored.dlq": 0}, {"doctored": 1})
FINDINGS: list[tuple[dict[str, Any], str, str, str, str]] = [
    ({"version": (3, 9, 1)}, "fail", "version", "no dead-lettering that keeps every message", ""),
    ({"version": (3, 10, 8)}, "warn", "version", "forged x-death", ""),
    ({"version": (4, 3, 4)}, "warn", "version", "dead letters can be stuck", ""),
    ({"version": ()}, "unknown", "version", "does not say", ""),
    (
        {"management": management(flags={"stream_queue": "disabled", "other": "enabled"})},
        "warn",
        "feature flags",
        "1 off, without which a later RabbitMQ may not start: stream_queue",
        "rabbitmqctl enable_feature_flag all",
    ),
    (
        {"management": management(rights=Rights("^$", ".*", ".*"))},
        "warn",
        "permissions",
        "as producer it lacks: configure tasks.reply.0",
        "leveret users -a MODULE --role producer",
    ),
    ({"management": management(rights=Rights("*", ".*", ".*"))}, "unknown", "permissions", "cannot be read here", ""),
    ({"management": management(rights=None)}, "unknown", "permissions", "RabbitMQ itself does not keep", ""),
    ({"certificate_ends": NOW + 86_400 * 3}, "warn", "certificate", "over in 3 day(s), on 2026-08-04", ""),
    (
        {"management": management(clock_off_seconds=-7.4)},
        "warn",
        "clock",
        "7 s or more behind this machine's",
        "timedatectl set-ntp true",
    ),
    (
        {"management": node(memory_alarm=True, memory_bytes=2**31, memory_limit_bytes=2**30)},
        "fail",
        "node rabbit@a",
        "memory alarm: 2,048 MiB used, limit 1,024 MiB",
        "rabbitmq-diagnostics -n rabbit@a memory_breakdown",
    ),
    ({"management": node(memory_bytes=900)}, "warn", "node rabbit@a", "the alarm comes at", "memory_breakdown"),
    ({"management": node(disk_alarm=True)}, "fail", "node rabbit@a", "disk alarm", ""),
    ({"management": node(disk_free_bytes=60)}, "warn", "node rabbit@a", "disk: ", ""),
    ({"management": node(is_running=False)}, "fail", "node rabbit@a", "does not run", "systemctl"),
    ({"management": node(partitions=("rabbit@b",))}, "fail", "node rabbit@a", "sees no more of: rabbit@b", ""),
    ({"is_blocked": True}, "fail", "alarm", "the broker takes no messages", "rabbitmq-diagnostics alarms"),
    (
        {"management": management(queues={name: one for name, one in described().items() if name != TIER})},
        "fail",
        QUEUE,
        f"not on the broker: {TIER}",
        "leveret declare -a MODULE",
    ),
    (
        {"management": seen(QueueFacts("doctored.dlq", "classic"))},
        "fail",
        QUEUE,
        "doctored.dlq is a classic queue and should be a quorum one",
        "leveret plan -a MODULE",
    ),
    (
        {"management": without("tasks.direct")},
        "fail",
        QUEUE,
        "bindings are missing: doctored to tasks.direct by key doctored",
        "leveret declare -a MODULE",
    ),
    (
        {"known": [], "management": without("doctored.failed", "doctored.failed.first.after.5s")},
        "fail",
        QUEUE,
        "exchange doctored.failed, which leads to no queue",
        "leveret declare -a MODULE",
    ),
    (
        {
            "management": seen(
                QueueFacts("doctored", "quorum", policy={"message-ttl": 9}, policies=(("policy", "a b"),))
            )
        },
        "fail",
        QUEUE,
        "policy a b: message-ttl=9 strands tasks in a retry tier, unrun (doctored)",
        "rabbitmqctl clear_policy -p /shop 'a b'",
    ),
    (
        {
            "management": seen(
                QueueFacts("doctored.dlq", "quorum", policy={"max-length": 9}, policies=(("operator_policy", "cap"),))
            )
        },
        "fail",
        QUEUE,
        "operator policy cap: max-length=9 drops the oldest dead messages",
        "rabbitmqctl clear_operator_policy -p /shop cap",
    ),
    (
        {
            "management": seen(
                QueueFacts("tasks.delay.1s", "quorum", policy={"max-length": 9}, policies=(("policy", "p"),))
            )
        },
        "fail",
        "tasks.*",
        "policy p: max-length=9 refuses delayed tasks when it is full (tasks.delay.1s)",
        "rabbitmqctl clear_policy -p /shop p",
    ),
    (
        {"management": seen(QueueFacts("doctored", "quorum", members=("a", "b", "c"), online=("a",)))},
        "fail",
        QUEUE,
        "no majority is left of doctored: b, c cannot be reached",
        "",
    ),
    (
        {"management": seen(QueueFacts("doctored", "quorum", members=("a", "b", "c"), online=("a", "b")))},
        "warn",
        QUEUE,
        "a member is away of doctored: c cannot be reached",
        "",
    ),
    ({"management": seen(QueueFacts("doctored", "quorum", state="down"))}, "fail", QUEUE, "doctored is down", ""),
    (
        {"management": seen(QueueFacts(TIER, "quorum", messages_dlx=3))},
        "warn",
        QUEUE,
        f"3 message(s) have left {TIER} and not arrived",
        "leveret redrive doctored --stranded",
    ),
    (
        {"management": seen(QueueFacts("doctored.retry.stranded", "quorum", messages=2))},
        "warn",
        QUEUE,
        "2 message(s) lie in doctored.retry.stranded",
        "leveret redrive doctored --stranded",
    ),
    (
        {"workers": [], "counts": counts({"doctored": 812, "doctored.dlq": 0})},
        "fail",
        QUEUE,
        "812 wait and no worker takes them",
        "leveret run doctored -a MODULE",
    ),
    (
        {"workers": [], "counts": counts({"doctored": 0, "doctored.dlq": 0})},
        "warn",
        QUEUE,
        "no worker takes it",
        "leveret run doctored -a MODULE",
    ),
    ({"workers": []}, "warn", QUEUE, "1 consumer(s) take it, and none of them answers", "list_consumers -p /shop"),
    (
        {"workers": taken(**AT_EACH), "management": GROWS, "counts": MANY},
        "warn",
        QUEUE,
        "500 wait, and it grows: 3.0 come and 1.0 end in a second",
        "leveret info doctored",
    ),
    (
        {"workers": taken(paused=PAUSE)},
        "warn",
        QUEUE,
        "paused by ops@desk: the relay is down",
        "leveret resume doctored",
    ),
    (
        {"counts": counts({"doctored": 0, "doctored.dlq": 30}, {"doctored": 1})},
        "warn",
        QUEUE,
        "30 dead in doctored.dlq",
        "leveret dead top doctored",
    ),
    (
        {"counts": counts({"tasks.later.lost": 2, "doctored": 0, "doctored.dlq": 0}, {"doctored": 1})},
        "fail",
        "tasks.later.lost",
        "2 delayed task(s) came due",
        "leveret redrive tasks.later.lost",
    ),
    (
        {"time_limits": [TimeLimit("shop.report", "doctored", 2400.0)]},
        "warn",
        "time limit",
        "shop.report may run 2400 s; the broker gives it to another worker after 1800 s",
        "",
    ),
    (
        {"management": seen(QueueFacts("doctored", "quorum", policy={"consumer-timeout": 50_000}))},
        "warn",
        "time limit",
        "shop.ok may run 60 s; the broker gives it to another worker after 50 s",
        "",
    ),
    (
        {
            "workers": infos(
                told(
                    queues=[queue_told(name="doctored")],
                    running=[running_told(queue="doctored", task="shop.stuck", seconds=1400.0)],
                )
            )
        },
        "warn",
        "task shop.stuck",
        "has run 1400 of the 1500 s it may, on web-3:812: 4daf65d3",
        "leveret cancel 4daf65d3",
    ),
    (
        {"workers": [*taken(), *infos(told(leveret="0.0.9", worker="web-1:7", running=[]))]},
        "warn",
        "workers",
        "of different versions: 0.0.9 at 1, as web-1:7; 0.1.0 at 1, as web-3:812",
        "",
    ),
    ({"unreadable": 2}, "warn", "workers", "2 answer(s) that no worker of this version gives", "list_bindings"),
    ({"workers": None, "cannot_ask": "no right"}, "unknown", "workers", "they cannot be asked: no right", ""),
    (
        {"counts": counts({"tasks.schedules": 1, "doctored": 0, "doctored.dlq": 0}, {"doctored": 1})},
        "fail",
        "schedules",
        "nobody fires them",
        "leveret schedule -a MODULE",
    ),
    (
        {"counts": counts({"tasks.record": 9, "doctored": 0, "doctored.dlq": 0}, {"doctored": 1})},
        "fail",
        "recorder",
        "none runs: results and statuses cannot be had (9 message(s) in tasks.record)",
        "leveret recorder",
    ),
    ({"names": [], "known": [], "time_limits": []}, "unknown", "queues", "no work queue is known", ""),
    (
        {"cannot_count": "it is slow", "counts": None},
        "unknown",
        "queues",
        "what waits in them is not known: it is slow",
        "",
    ),
]


@pytest.mark.parametrize(("changed", "level", "about", "what", "command"), FINDINGS)
def test_what_is_wrong_is_found(changed: dict[str, Any], level: str, about: str, what: str, command: str) -> None:
    """With its level, the object it is about, and a command where there is one."""
    found = bad(judge(facts(**changed)))
    (one,) = [one for one in found if (one.level, one.about) == (level, about) and what in one.what]

    assert command in one.command
    assert bool(command) == bool(one.command)
    assert one.advice or one.command or level == "unknown" or about == "version"


def test_what_ends_is_told_of_though_its_delays_are_fine() -> None:
    """How many tasks are delayed is no trouble, and shown."""
    found = judge(facts(management=seen(QueueFacts("tasks.delay.2d", "quorum", messages=1200))))

    assert [one.what for one in found if one.about == "delays"] == ["1200 task(s) wait until they are due"]


def test_a_broker_that_does_not_answer_is_no_false_ok() -> None:
    """Nothing is said of what could not be seen."""
    nothing = ManagementFacts("ops", unanswered=dict.fromkeys((CLOCK, RIGHTS, FLAGS, NODES, OBJECTS), "no answer"))
    nowhere = facts(cannot_connect="no answer", counts=None, counted=frozenset(), workers=None, management=nothing)
    found = judge(nowhere)

    assert [(one.level, one.about) for one in found] == [
        ("fail", "broker"),
        ("unknown", "management"),
        ("ok", "time limit"),
    ]


def test_what_a_user_may_not_see_says_which_tag_shows_it() -> None:
    """The least one, and only what it would show."""
    refused = ManagementFacts("web", refused={RIGHTS: "administrator", NODES: "monitoring"})
    least, most = (one for one in judge(facts(management=refused)) if one.about == "management")

    assert (least.what, least.command) == (
        "user 'web' may not see: alarms, memory and disk",
        "rabbitmqctl set_user_tags web monitoring",
    )
    assert (most.what, most.command) == ("only a user with the tag administrator may see: permissions", "")


def test_no_role_is_confirmed_by_rights_that_lack_one_of_its_queues() -> None:
    """Whoever has the worker's rights for another queue may not work on this one."""
    other = WorkQueue("elsewhere", retry_delays=())
    found = judge(facts(management=management(rights=rights_of("worker", [other]))))
    own = judge(facts(management=management(rights=rights_of("worker", [shop]))))

    said = [one.what for of_user in (found, own) for one in of_user if one.about == "permissions"]
    assert said == ["user 'ops' may do the work of: producer", "user 'ops' may do the work of: producer, worker"]


def test_what_waits_in_a_level_waits_though_no_module_tells_of_levels() -> None:
    """The queues that are there say so."""
    levels = counts({"doctored": 0, "doctored.high": 2, "doctored.low": 1, "doctored.dlq": 0})
    (one,) = [one for one in judge(facts(known=[], workers=[], counts=levels)) if one.about == QUEUE]

    assert (one.level, one.what) == ("fail", "3 wait and no worker takes them")


def test_who_names_queues_alike_has_no_work_queue() -> None:
    """Ours fail into an exchange that is named after them."""
    foreign = {name: QueueFacts(name, "quorum") for name in ("celery", "celery.dlq")}

    assert management(queues=described() | foreign).work_queues == {"doctored"}


@pytest.mark.parametrize(
    "changed",
    [
        {"workers": infos(told(queues=[queue_told(name="other")], queue_count=200, running=[]))},
        {"unreadable": 1, "workers": []},
    ],
)
def test_who_consumes_may_be_a_worker_that_did_not_tell_all(changed: dict[str, Any]) -> None:
    """A worker tells of so many queues at most, and one of another version may not be understood."""

    assert [one for one in bad(judge(facts(**changed))) if one.about == QUEUE] == []


def test_a_dlq_that_may_not_be_seen_is_not_called_empty() -> None:
    """A worker's user may take tasks, and not look at dead ones."""
    some = counts({"doctored": 0}, {"doctored": 1})
    some.refused = {"doctored.dlq", "tasks.record"}
    of_worker = facts(counts=some, management=ManagementFacts("w", refused={OBJECTS: "monitoring"}))
    found = [one for one in judge(of_worker) if one.about in (QUEUE, "recorder")]

    assert [(one.level, one.command) for one in found] == [("unknown", "leveret users -a MODULE --role topology")] * 2


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    """There is nothing else to say of it."""
    (one,) = bad(judge(facts(names=["doctord"], counted=frozenset({"doctord", "doctord.dlq"}))))

    assert (one.level, one.what) == ("fail", "there is no such queue")
    assert "did you mean 'doctored'?" in one.advice


def test_a_quorum_queue_of_an_even_number_needs_more_than_a_half() -> None:
    """Two of four cannot confirm anything."""
    halves = QueueFacts("doctored", "quorum", members=("a", "b", "c", "d"), online=("a", "b"))
    (one,) = bad(judge(facts(management=seen(halves))))

    assert "no majority is left of doctored" in one.what


ANSWERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "3.10.8": (
        {"name": "guest", "tags": ["administrator"]},
        {
            "arguments": {"x-delivery-limit": 1000000, "x-queue-type": "quorum"},
            "consumers": 0,
            "effective_policy_definition": {"max-length": 5},
            "members": ["leveret@localhost"],
            "messages": 2,
            "messages_dlx": 0,
            "message_stats": {"publish": 2, "publish_details": {"rate": 0.4}},
            "name": "q.dlq",
            "online": ["leveret@localhost"],
            "operator_policy": None,
            "policy": "cut",
            "state": "running",
            "type": "quorum",
        },
    ),
    "4.3.6": (
        {"name": "guest", "tags": ["administrator"], "is_internal_user": True},
        {
            "arguments": {"x-delivery-limit": 1000000, "x-queue-type": "quorum"},
            "consumers": 0,
            "delivery_limit": 1000000,
            "effective_policy_definition": {"max-length": 5},
            "members": ["leveret@localhost"],
            "messages": 2,
            "messages_by_priority": {"4": 2},
            "messages_dlx": 0,
            "message_stats": {"publish": 2, "publish_details": {"rate": 0.4}},
            "name": "q.dlq",
            "online": ["leveret@localhost"],
            "policy": "cut",
            "state": "running",
            "type": "quorum",
        },
    ),
}
FRESH = {"name": "q", "arguments": {"x-queue-type": "quorum"}, "effective_policy_definition": []}
"""A queue of which the management API has no numbers yet."""
EXCHANGE = {"name": "q.failed", "arguments": {"alternate-exchange": "q.failed.first.after.5s"}, "type": "direct"}
BINDING = {
    "source": "q.in",
    "destination": "q.high",
    "destination_type": "queue",
    "routing_key": "",
    "arguments": {"x-match": "all", "priority": "high"},
}


@pytest.mark.parametrize("version", ANSWERS)
def test_what_brokers_answer_is_read(version: str) -> None:
    """Of a queue with numbers, and of one without any yet."""
    whoami, queue = ANSWERS[version]
    given = {CLOCK: [whoami, 0.0], OBJECTS: [[queue, FRESH], [EXCHANGE], [BINDING]]}
    read = facts_of("guest", given, {}, {})

    assert read.queues == {
        "q.dlq": QueueFacts(
            "q.dlq",
            "quorum",
            queue["arguments"],
            {"max-length": 5},
            (("policy", "cut"),),
            messages=2,
            in_per_second=0.4,
            members=("leveret@localhost",),
            online=("leveret@localhost",),
        ),
        "q": QueueFacts("q", "quorum", {"x-queue-type": "quorum"}),
    }
    assert read.work_queues == set()
    assert read.exchanges == {"q.failed": "q.failed.first.after.5s"}
    assert read.bindings == frozenset({Binding("q.high", "q.in", "", (("priority", "high"), ("x-match", "all")))})


@pytest.mark.parametrize("tags", ["", [], "management", ["management", "policymaker"]])
def test_lists_of_who_may_not_see_all_are_not_believed(tags: str | list[str]) -> None:
    """What is missing in them may be there."""
    read = facts_of("web", {CLOCK: [{"tags": tags}, None], OBJECTS: [[], [], []]}, {}, {})

    assert read.queues is None
    assert read.refused == {OBJECTS: "monitoring"}


@pytest.mark.parametrize("odd", [[None], [[{}]], [["x"]], [[{"name": 1}]], [{"reason": "x"}]])
def test_what_no_rabbitmq_answers_is_not_known(odd: list[Any]) -> None:
    """It is told of, and stops nothing."""
    read = facts_of("web", {CLOCK: [{"tags": ["administrator"]}, None], NODES: odd, FLAGS: odd}, {}, {})

    assert read.flags is None
    assert "answers what RabbitMQ does not" in read.unanswered[FLAGS]


@pytest.mark.parametrize(
    ("began", "ended", "off"),
    [(99.0, 99.2, 0.8), (100.1, 100.2, 0.0), (100.9, 101.1, 0.0), (111.0, 111.5, -10.0), (90.0, 92.0, 8.0)],
)
def test_how_far_clocks_differ_at_least(began: float, ended: float, off: float) -> None:
    """The broker said the second 100, at some moment between its question and its answer."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(1_785_585_600 + 100))
    began, ended = 1_785_585_600 + began, 1_785_585_600 + ended

    assert clock_off(date, began, ended) == pytest.approx(off)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Foo 2026 22:18:07 GMT"])
def test_a_date_that_is_none_says_nothing_of_the_clock(date: str) -> None:
    """A proxy may leave it out."""

    assert clock_off(date, 0.0, 1.0) is None


def test_findings_fit_into_eighty_columns_and_commands_can_be_pasted() -> None:
    """What others wrote in them is escaped; a long command goes on after a backslash."""
    command = "rabbitmqctl clear_policy -p " + "v" * 40 + " 'my policy'"
    one = Finding("fail", "queue shop", "evil \x1b[31m " + "word " * 40 + "x" * 200, "do:", command)
    lines = lines_of(one, 20, 80)

    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("FAIL  queue shop    evil \\x1b[31m")
    pasted = "\n".join(lines).partition("do:\n")[2].replace("\\\n", "")
    assert pasted.split() == command.split()


def test_a_long_name_has_a_line_of_its_own() -> None:
    """And is cut only where it is wider than the screen."""
    lines = lines_of(Finding("warn", "queue " + "q" * 60, "grows"), 20, 80)

    assert lines == ["warn  queue " + "q" * 60, " " * 20 + "grows"]
