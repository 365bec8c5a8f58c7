"""Plans and applies: what differs is told, and done away with without a message lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from leveret import AccessRefused, Rate, Route, TopologyError, WorkQueue, apply, declare, plan
from leveret.topology import queues
from leveret.topology.apply.declare import declare_streams
from leveret.topology.limits import _known as limits_known
from leveret.topology.message import own_headers
from leveret.topology.objects import objects_of
from leveret.topology.plan.difference import Kind
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Vhost, await_value, run

TIER = "jobs.retry.1.after.300ms"


@pytest.fixture
def declared(vhost: Vhost) -> Vhost:
    """A virtual host to which nothing has to be done."""
    vhost.declare(jobs)
    declare_streams(vhost.settings)
    return vhost


def command(verb: str, vhost: Vhost, *options: str, **environment: str) -> Any:
    told = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url, **environment}
    return run("leveret", verb, "-a", JOBS, *options, **told)


def put_former(vhost: Vhost, name: str) -> None:
    """Put a queue that is declared otherwise in the place of one, bound as that was, and to an exchange of others."""
    table = objects_of(jobs)
    (queue,) = (one for one in table.queues if one.name == name)
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_delete(name)
        channel.queue_declare(name, durable=True, arguments={**queue.arguments, "x-delivery-limit": 77})
        for bound, exchange, key, _, _ in table.bindings:
            if bound == name:
                channel.queue_bind(bound, exchange, key)
        channel.exchange_declare("orders", "direct", durable=True)
        channel.queue_bind(name, "orders", "new")


def test_a_plan_by_the_command(declared: Vhost) -> None:
    """Status 0 and nothing on stdout where nothing differs, 2 and each difference where something does."""
    same = command("plan", declared)
    put_former(declared, "jobs.dlq")
    differs = command("plan", declared, "--json")

    assert (same.returncode, same.stdout) == (0, "")
    assert differs.returncode == 2
    (row,) = map(json.loads, differs.stdout.splitlines())
    assert (row["kind"], row["object"], row["name"], row["work_queue"]) == ("recreate", "queue", "jobs.dlq", "jobs")
    assert row["why"] == "x-delivery-limit is 77, wanted is 1000000"


def test_a_plan_without_the_right_to_see(declared: Vhost) -> None:
    """What AMQP tells is told, and what is not seen; that nothing differs is not said. An apply changes nothing."""
    with declared.limited_user(configure=".*", write=".*", read=".*") as url:
        same = command("plan", declared, AMQP_URL=url)
        put_former(declared, "jobs.dlq")
        differs = command("plan", declared, AMQP_URL=url)
        refused = command("apply", declared, "--yes", AMQP_URL=url)
        with pytest.raises(AccessRefused, match="leveret apply needs the management API"):
            apply(replace(declared.settings, amqp_url=url), [jobs])

    assert (same.returncode, same.stdout) == (1, "")
    assert "policies and what is left over cannot be seen" in same.stderr
    assert "set_user_tags" in same.stderr
    assert differs.returncode == 2
    assert "jobs.dlq" in differs.stdout
    assert "x-delivery-limit" in differs.stdout
    assert refused.returncode == 1
    assert "nothing was changed" in refused.stderr


def test_a_work_queue_is_made_anew_with_what_is_in_it(declared: Vhost) -> None:
    """Each message comes back as it was, and as the attempt it was; what others have bound is bound again."""
    put_former(declared, "jobs")
    headers = {"mine": "ü", "x-death": [{"queue": "elsewhere"}]}  # a history goes, as with every republishing
    declared.publish(Route.topic("jobs.send"), b"{}", message_id="by topic", headers=headers, priority=3, app_id="ours")
    declared.publish(Route.again("jobs", 2), b"second", message_id="second attempt")
    declared.publish(Route("orders", "new"), b"new", message_id="of others")
    stages = []

    def tell(stage: str, _figures: dict[str, Any]) -> None:
        stages.append(stage)
        if stage == "led away":
            declared.publish(Route.direct("jobs"), b"amid", message_id="amid")
            declared.publish(Route.again("jobs", 3), b"amid", message_id="third attempt")

    applied = apply(declared.settings, [jobs], tell=tell, quiet_seconds=0.0)

    assert [(one.queue, one.out, one.back) for one in applied.moved] == [("jobs", 3, 5)]
    assert plan(declared.settings, [jobs]).differences == applied.left == []
    assert stages[-1] == "made anew"
    with declared.connect() as connection:
        channel = connection.channel()
        got = {}
        for _ in range(5):
            method, properties, body = channel.basic_get("jobs", auto_ack=True)
            got[properties.message_id] = method, properties, body
    assert {task_id: (method.routing_key, body) for task_id, (method, _, body) in got.items()} == {
        "by topic": ("jobs.send", b"{}"),
        "second attempt": ("jobs@2", b"second"),
        "of others": ("new", b"new"),
        "amid": ("jobs", b"amid"),
        "third attempt": ("jobs@3", b"amid"),
    }
    assert {method.exchange for name, (method, _, _) in got.items() if "attempt" in name} == {"tasks.again"}
    properties = got["by topic"][1]
    assert (own_headers(properties.headers), properties.priority, properties.app_id) == ({"mine": "ü"}, 3, "ours")
    assert "x-death" not in properties.headers
    declared.publish(Route("orders", "new"), b"{}", message_id="bound again")
    assert declared.ids_in("jobs") == ["bound again"]
    assert not {name for name in declared.queues() if "held" in name}
    exchanges = {one["name"] for one in declared.api("GET", f"exchanges/{declared.name}")}
    assert not {name for name in exchanges if "held" in name}


def test_what_is_left_over_goes_where_it_holds_nothing(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drained tier and a stale topic are taken away; what holds a message stays, unless it is named."""
    monkeypatch.setattr(queues, "_known", {})
    vhost.declare(WorkQueue("plan", topics=("plan.#", "former.#"), retry_delays=(3600, 7200)))
    queues.forget()
    changed = WorkQueue("plan")
    vhost.publish(Route("", "plan.retry.1.after.1h"), b"{}", message_id="waits")
    full, empty = "plan.retry.1.after.1h", "plan.retry.2.after.2h"

    applied = apply(vhost.settings, [changed], prune=True, quiet_seconds=0.0)

    assert applied.kept == {full: 1}
    assert {f"queue {empty}", "binding tasks.topic former.# → plan"} <= set(applied.removed)
    assert {(one.kind, one.name) for one in applied.left} == {(Kind.LEFT_OVER, full)}
    with pytest.raises(TopologyError, match=r"'plan.dlq' is not left over.*left over are plan.retry.1.after.1h"):
        apply(vhost.settings, [changed], delete=["plan.dlq"])
    assert apply(vhost.settings, [changed], delete=[full]).removed == [f"queue {full}, with 1 message(s)"]
    assert not vhost.queues() & {full, empty}
    assert plan(vhost.settings, [changed]).differences == []


def test_one_at_a_time(declared: Vhost) -> None:
    """While one applies, another one says so, and changes nothing."""
    put_former(declared, "jobs.dlq")
    with declared.connect() as connection:
        connection.channel().queue_declare("tasks.apply", exclusive=True)
        ended = command("apply", declared, "--yes")

    assert ended.returncode == 1
    assert "another leveret apply is at work" in ended.stderr
    assert [one.kind for one in plan(declared.settings, [jobs]).differences] == [Kind.RECREATE]


def test_nobody_can_be_asked(declared: Vhost) -> None:
    """Where stdin is no terminal, a queue is only made anew with --yes."""
    put_former(declared, "jobs.dlq")

    ended = command("apply", declared)

    assert ended.returncode == 1
    assert "--yes" in ended.stderr


def test_who_declares_leaves_alone_what_is_made_anew(declared: Vhost) -> None:
    """A worker that starts amid an apply binds nothing; an apply that was killed is ended by the next."""
    with declared.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare("tasks.held.jobs", "fanout", durable=True)
        channel.exchange_bind("tasks.held.jobs", "tasks.held.jobs")
        channel.queue_unbind("jobs", "tasks.direct", "jobs")

    (note,) = declare(declared.settings, [jobs])

    assert "are being made anew" in note
    bound = f"bindings/{declared.name}/e/tasks.direct/q/jobs"
    assert declared.api("GET", bound) == []
    apply(declared.settings, [jobs], quiet_seconds=0.0)
    await_value(lambda: declared.api("GET", bound), "the binding")
    assert declare(declared.settings, [jobs]) == []


def limited(**limits: Any) -> WorkQueue:
    """A work queue of this name as another version of the code has it."""
    queues._known.pop("mail", None)
    limits_known.pop("mail", None)
    return WorkQueue("mail", **limits)


def of_limits(vhost: Vhost, queue: WorkQueue) -> list[tuple[Kind, str, str, str]]:
    return [tuple(one[:4]) for one in plan(vhost.settings, [queue]).differences]  # type: ignore[misc]


def test_limits_are_seen_and_changed(declared: Vhost) -> None:
    """Missing, another number, and what is left of one that is no more: that goes only when it is named."""
    tokens, per_second = "tasks.limit.mail.at-once", "tasks.limit.mail.per.1s"
    former = limited(at_once=10, rate=Rate(5))

    missing = of_limits(declared, former)
    declare(declared.settings, [former])
    same = of_limits(declared, former)
    another = of_limits(declared, limited(at_once=12, rate=Rate(5)))
    applied = apply(declared.settings, [limited(at_once=12, rate=Rate(5))], quiet_seconds=0.0)
    tokens_now = declared.count(tokens)
    left_over = of_limits(declared, limited())
    kept = apply(declared.settings, [limited()], prune=True, quiet_seconds=0.0).kept
    gone = apply(declared.settings, [limited()], prune=True, delete=list(kept), quiet_seconds=0.0)

    assert {(Kind.ADDITIVE, "queue", name, "missing") for name in (tokens, per_second)} <= set(missing)
    assert same == []
    assert another == [(Kind.IN_PLACE, "limit", tokens, "is 10, wanted is 12")]
    assert ([one[:3] for one in applied.declared], applied.left) == ([another[0][:3]], [])
    assert tokens_now == 12
    assert {one[0] for one in left_over} == {Kind.LEFT_OVER}
    assert {one[2] for one in left_over} == {
        *(f"{name}{more}" for name in (tokens, per_second) for more in ("", ".count")),
        "tasks.limit.mail.spent.1050ms",
    }
    assert kept == {tokens: 12, f"{tokens}.count": 1, per_second: 5, f"{per_second}.count": 1}
    assert (gone.left, of_limits(declared, limited())) == ([], [])
    assert not any(name.startswith("tasks.limit.") for name in declared.queues())


def test_limits_that_may_not_be_read_are_not_called_the_same(declared: Vhost) -> None:
    """What could not be seen is said."""
    queue = limited(at_once=10)
    declare(declared.settings, [queue])
    with declared.limited_user(configure=".*", write=".*", read="^mail.*") as url:
        found = plan(replace(declared.settings, amqp_url=url), [queue])

    assert found.differences == []
    assert "limits cannot be seen: " in found.unseen
