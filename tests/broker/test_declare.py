"""Declaring: what the broker has afterwards, a second time, with another retry plan, and beside what is in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leveret import AccessRefused, Route, TopologyMismatch, WorkQueue, declare
from leveret.topology import names, queues
from leveret.topology.objects import control_streams, objects_of, shared_exchanges
from leveret.topology.settings import CHECKOUT
from tests.broker.jobs import jobs
from tests.broker.other_jobs import others
from tests.broker.support import JOBS, Vhost, await_value, run

TIER = {**objects_of(jobs).queues[1].arguments, "x-message-ttl": 3_600_000}
"""The arguments of the first retry tier, but nothing leaves it."""
Objects = dict[str, set[tuple[object, ...]]]
MakePlan = Callable[..., WorkQueue]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """Make a queue named `plan`; a second one has another retry plan, as in the next release of a program."""

    def make(*retry_delays: float) -> WorkQueue:
        monkeypatch.setattr(queues, "_known", {})
        return WorkQueue("plan", retry_delays=retry_delays)

    return make


def wanted(*work_queues: WorkQueue, with_streams: bool = False) -> Objects:
    """Everything in the table of these queues; the command and workers declare the streams of control, too."""
    streams = [control_streams()] if with_streams else []
    tables = [shared_exchanges(), *streams, *map(objects_of, work_queues)]
    return {
        "exchanges": {
            (e.name, e.type, True, e.internal, _frozen(e.arguments)) for table in tables for e in table.exchanges
        },
        "queues": {(q.name, True, _frozen(q.arguments)) for table in tables for q in table.queues},
        "bindings": {(b.exchange, b.queue, b.routing_key) for table in tables for b in table.bindings},
    }


def reported(vhost: Vhost) -> Objects:
    """Everything in the virtual host that does not come with it, as the management API reports it."""
    return {
        "exchanges": {
            (e["name"], e["type"], e["durable"], e["internal"], _frozen(e["arguments"]))
            for e in vhost.api("GET", f"exchanges/{vhost.name}")
            if e["name"] and not e["name"].startswith("amq.")
        },
        "queues": {
            (q["name"], q["durable"], _frozen(q["arguments"])) for q in vhost.api("GET", f"queues/{vhost.name}")
        },
        "bindings": {
            (b["source"], b["destination"], b["routing_key"])
            for b in vhost.api("GET", f"bindings/{vhost.name}")
            if b["source"]
        },
    }


def _frozen(arguments: Mapping[str, Any] | None) -> frozenset[tuple[str, Any]]:
    return frozenset((arguments or {}).items())


def test_equals_the_table(vhost: Vhost) -> None:
    """What the broker has after declaring is the table: every object with its type and arguments, nothing else."""
    vhost.declare(jobs, others)

    assert reported(vhost) == wanted(jobs, others)


def test_twice_is_the_same(vhost: Vhost) -> None:
    """Declaring again changes nothing, and a message that is there stays."""
    vhost.declare(jobs)
    vhost.publish(Route.direct(jobs.name), b"{}")

    vhost.declare(jobs)

    assert reported(vhost) == wanted(jobs)
    assert vhost.counts(jobs) == {"jobs": 1}


@pytest.mark.parametrize(
    ("former", "changed", "first_failure", "second_failure"),
    [
        ((1.5, 40), (60,), "plan.retry.1.after.1m", "plan.dlq"),
        ((1.5,), (60, 90), "plan.retry.1.after.1m", "plan.retry.2.after.90s"),
        ((1.5,), (), "plan.dlq", "plan.dlq"),
    ],
)
def test_changed_retry_plan(
    vhost: Vhost,
    plan: MakePlan,
    former: tuple[float, ...],
    changed: tuple[float, ...],
    first_failure: str,
    second_failure: str,
) -> None:
    """After a changed plan failures go to the new tiers only; who waits in a former one comes back, once."""
    vhost.declare(plan(*former))
    vhost.publish(Route.direct("plan"), b"{}", message_id="waiting")
    vhost.fail("plan", "waiting")
    new = plan(*changed)
    vhost.declare(new)

    vhost.fail("plan", "waiting")
    vhost.publish(Route.direct("plan"), b"{}", message_id="later")
    vhost.fail("plan", "later")
    vhost.publish(Route("", "plan.retry.1.after.1500ms"), b"{}", message_id="last out of the former tier")
    vhost.fail("plan", "last out of the former tier")

    expected: dict[str, list[str]] = {second_failure: ["waiting", "last out of the former tier"]}
    expected.setdefault(first_failure, []).append("later")
    for queue, message_ids in expected.items():
        await_value(lambda q=queue, ids=message_ids: vhost.count(q) == len(ids), f"{message_ids} in {queue}")  # type: ignore[misc]
        assert sorted(vhost.ids_in(queue)) == sorted(message_ids)
    assert vhost.counts(new) == {}
    assert wanted(new)["exchanges"] == reported(vhost)["exchanges"]


def test_what_version_0_1_declared(vhost: Vhost, plan: MakePlan) -> None:
    """Its tiers are left behind: what they hold comes back, once. No producer's key leads to the DLQ any more."""
    back = {**objects_of(plan(1.5)).queues[1].arguments, "x-dead-letter-exchange": "tasks.direct"}
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare("tasks.direct", "direct", durable=True)
        channel.exchange_declare("plan.failed.first.1500ms", "fanout", durable=True, internal=True)
        alternate = {"alternate-exchange": "plan.failed.first.1500ms"}
        channel.exchange_declare("plan.failed", "direct", durable=True, internal=True, arguments=alternate)
        for queue in objects_of(plan(1.5)).queues:
            name = queue.name.replace(".after", "")
            channel.queue_declare(name, durable=True, arguments=back if ".retry." in name else queue.arguments)
        channel.queue_bind("plan.retry.1.1500ms", "plan.failed.first.1500ms")
        for queue_name, exchange, key in (
            ("plan.dlq", "plan.failed", "plan@2"),
            ("plan.dlq", "tasks.direct", "plan.dlq"),
            ("plan", "tasks.direct", "plan"),
            ("plan", "tasks.direct", "plan@2"),
        ):
            channel.queue_bind(queue_name, exchange, key)
    vhost.publish(Route.direct("plan"), b"{}", message_id="waiting")
    vhost.fail("plan", "waiting")
    await_value(lambda: vhost.count("plan.retry.1.1500ms") == 1, "it waits in the former tier")

    new = plan(1.5)
    vhost.declare(new)

    vhost.publish(Route.direct("plan"), b"{}", message_id="later")
    vhost.fail("plan", "later")
    await_value(lambda: vhost.count("plan.retry.1.after.1500ms") == 1, "it waits in the new tier only")
    await_value(lambda: vhost.count("plan") == 2, "both are back")
    assert sorted(vhost.ids_in("plan")) == ["later", "waiting"]
    assert vhost.counts(new) == {}
    assert {*wanted(new)["exchanges"]} == reported(vhost)["exchanges"]
    left = {binding for binding in reported(vhost)["bindings"] if binding[0]} - wanted(new)["bindings"]
    assert left == {("tasks.direct", "plan", "plan@2")}


@pytest.mark.parametrize(
    ("queue", "argument", "current"),
    [
        ("jobs", "x-dead-letter-exchange", {}),
        ("jobs", "x-dead-letter-exchange", {"x-queue-type": "quorum"}),
        ("jobs.retry.1.after.300ms", "x-message-ttl", TIER),
        ("jobs.retry.1.after.300ms", "x-dead-letter-routing-key", {**TIER, "x-dead-letter-routing-key": "jobs@9"}),
        ("jobs.dlq", "x-queue-type", {"x-queue-type": "classic"}),
        ("jobs.dlq", "x-delivery-limit", {"x-queue-type": "quorum", "x-delivery-limit": 7}),
    ],
)
def test_queue_with_other_arguments(vhost: Vhost, queue: str, argument: str, current: dict[str, object]) -> None:
    """A queue in the way is a TopologyMismatch that names it, the argument and the cure, and it stays as it is."""
    with vhost.connect() as connection:
        connection.channel().queue_declare(queue, durable=True, arguments=current)
    vhost.publish(Route("", queue), b"{}", message_id="the-id")

    with pytest.raises(TopologyMismatch) as caught:
        vhost.declare(jobs)
    ended = run("topology.declare", "--tasks", JOBS, AMQP_URL=vhost.amqp_url)

    (line,) = ended.stderr.splitlines()
    assert line == f"leveret declare: {caught.value}"
    assert ended.returncode == 1
    assert f"queue {queue!r} exists with another {argument}" in line
    assert "see what differs with leveret plan" in line
    assert vhost.ids_in(queue) == ["the-id"]


def test_exchange_of_another_type(vhost: Vhost) -> None:
    """An exchange in the way is a TopologyMismatch that names it, both types and the cure."""
    with vhost.connect() as connection:
        connection.channel().exchange_declare(names.TOPIC_EXCHANGE, "headers", durable=True)

    with pytest.raises(TopologyMismatch, match=r"'tasks.topic'.*type.*'headers'.*'topic'.*leveret plan"):
        vhost.declare(jobs)

    assert reported(vhost)["queues"] == set()


def test_no_right_to_configure(vhost: Vhost) -> None:
    """Without the configure right AccessRefused names what was refused, the right and --no-declare."""
    with vhost.limited_user(write=".*", read=".*") as url:
        with pytest.raises(AccessRefused, match=r"'tasks.direct'.*configure right.*--no-declare") as caught:
            declare(replace(vhost.settings, amqp_url=url), [jobs])
        ended = run("topology.declare", "--tasks", JOBS, AMQP_URL=url)

    assert (ended.returncode, ended.stderr) == (1, f"leveret declare: {caught.value}\n")
    assert "secret" not in ended.stderr
    assert reported(vhost) == {"exchanges": set(), "queues": set(), "bindings": set()}


def test_command(vhost: Vhost) -> None:
    """The command declares the queues of the modules it is given, shows each, and says where."""
    ended = run("topology.declare", "--tasks", JOBS, "--tasks", "tests.broker.other_jobs", AMQP_URL=vhost.amqp_url)

    assert ended.returncode == 0
    assert f"/{vhost.name}" in ended.stderr
    assert f"{vhost.user}:***@" in ended.stderr
    assert reported(vhost) == wanted(jobs, others, with_streams=True)
    assert [name for name in _names(wanted(jobs, others)) if name not in ended.stdout] == []


def test_dry_run(vhost: Vhost) -> None:
    """--dry-run shows what declaring would make, with or without a broker, and makes nothing."""
    dry = run("topology.declare", "--tasks", JOBS, "--dry-run", AMQP_URL=vhost.amqp_url)
    without_broker = run("topology.declare", "--tasks", JOBS, "--dry-run", AMQP_URL="amqp://localhost:1/")

    assert (dry.returncode, dry.stderr) == (without_broker.returncode, without_broker.stderr) == (0, "")
    assert dry.stdout == without_broker.stdout
    assert [name for name in _names(wanted(jobs, with_streams=True)) if name not in dry.stdout] == []
    assert reported(vhost) == {"exchanges": set(), "queues": set(), "bindings": set()}


def _names(objects: Objects) -> list[str]:
    return sorted(str(one[0]) for kind in ("exchanges", "queues") for one in objects[kind])


@pytest.mark.parametrize(
    ("module", "text", "shown"),
    [
        ("no_such_module", "there is no module 'no_such_module'", ""),
        ("broken", "RuntimeError: not today", "raise RuntimeError('not today')"),
        ("exits", "SystemExit: 3", "raise SystemExit(3)"),
        ("syntax", "SyntaxError: invalid syntax (syntax.py, line 1)", ""),
        (
            "contradicts",
            "queue 'jobs' is defined twice, and differently",
            "WorkQueue('jobs', retry_delays=(9,))",
        ),
    ],
)
def test_module_that_cannot_be_used(vhost: Vhost, tmp_path: Path, module: str, text: str, shown: str) -> None:
    """One line names a --tasks module that cannot be loaded, then come its own lines; nothing is declared, status 1."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "exits.py").write_text("raise SystemExit(3)")
    (tmp_path / "syntax.py").write_text("def")
    (tmp_path / "contradicts.py").write_text("from leveret import WorkQueue\nWorkQueue('jobs', retry_delays=(9,))")
    path = f"{CHECKOUT}:{tmp_path}"

    ended = run("topology.declare", "--tasks", JOBS, "--tasks", module, AMQP_URL=vhost.amqp_url, PYTHONPATH=path)

    line, *own = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert line.startswith(f"leveret declare: --tasks {module}")
    assert text in line
    assert [place for place in own if not place.startswith("    ") or str(CHECKOUT) in place] == []
    assert [place.strip() for place in own[:2]] == _place(tmp_path / f"{module}.py", shown)
    assert reported(vhost) == {"exchanges": set(), "queues": set(), "bindings": set()}


def _place(module: Path, shown: str) -> list[str]:
    """Return how a traceback shows this line of a module."""
    if not shown:
        return []
    number = module.read_text().splitlines().index(shown) + 1
    return [f'File "{module}", line {number}, in <module>', shown]


_DECLARE_ON_COMMAND = """
import sys
from leveret import WorkQueue, declare
from leveret.topology import queues
from leveret.topology.settings import load

for line in sys.stdin:
    queues.forget()
    try:
        declare(load(), [WorkQueue("plan", retry_delays=tuple(map(float, line.split(","))))])
        print("declared", flush=True)
    except Exception as error:
        print(error, flush=True)
"""


@pytest.fixture
def declare_at_once(vhost: Vhost) -> Iterator[Callable[[str], list[str]]]:
    """Declare a plan from three processes at the same moment; returns what each said."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _DECLARE_ON_COMMAND],
            env={"AMQP_URL": vhost.amqp_url, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for _ in range(3)
    ]

    def at_once(delays: str) -> list[str]:
        for process in started:
            assert process.stdin
            process.stdin.write(f"{delays}\n")
        return [process.stdout.readline().strip() for process in started if process.stdout]

    yield at_once
    for process in started:
        process.kill()
        process.communicate()


def test_at_once(vhost: Vhost, plan: MakePlan, declare_at_once: Callable[[str], list[str]]) -> None:
    """Processes that declare the same at the same time all succeed, and the broker has the table."""
    assert declare_at_once("1,2,3") == ["declared"] * 3
    assert declare_at_once("1,2,3") == ["declared"] * 3
    assert reported(vhost) == wanted(plan(1, 2, 3))


def test_changed_plan_at_once(vhost: Vhost, plan: MakePlan, declare_at_once: Callable[[str], list[str]]) -> None:
    """Processes that bring the same changed plan all succeed, change after change, and the last one holds."""
    vhost.declare(plan(99, 2))

    for change in range(1, 31):
        assert declare_at_once(f"{change},2") == ["declared"] * 3

    last, now = wanted(plan(30, 2)), reported(vhost)
    assert now["exchanges"] == last["exchanges"]
    assert now["queues"] > last["queues"]
    assert _from_failed(now) == _from_failed(last)


def _from_failed(objects: Objects) -> set[tuple[object, ...]]:
    """The bindings that decide where a failed message goes."""
    return {binding for binding in objects["bindings"] if str(binding[0]).startswith("plan.failed")}
