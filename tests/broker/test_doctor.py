"""`leveret doctor` on a real broker: what is provoked is found, and what this user cannot see is never called well."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leveret import Finding, Publisher, Route, TaskMessage, doctor
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import (
    JOBS,
    Vhost,
    Workers,
    await_value,
    child_that_runs,
    run,
    run_program,
    start_waiting_task,
)
from tests.broker.test_tls import url_at
from tests.certificates import Authority

NOWHERE = "http://127.0.0.1:9/"


def examine(vhost: Vhost, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command, and see that nobody is told more than he can read."""
    environment = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url, **more}
    ended = run("leveret", "doctor", *arguments, **environment)

    assert ended.stderr == ""
    return ended


def findings(vhost: Vhost, *arguments: str, **more: str) -> list[Finding]:
    """Return what it says to machines, but for what only depends on the version."""
    ended = examine(vhost, "--json", *arguments, **more)
    told: dict[str, Any] = json.loads(ended.stdout)
    found = [Finding(**one) for one in told["findings"]]

    assert ended.returncode == (1 if told["counts"]["fail"] else 0)
    return [one for one in found if one.about != "version"]


def await_findings(vhost: Vhost, wanted: Callable[[list[Finding]], bool]) -> list[Finding]:
    """Look until it is as wanted."""

    def there() -> list[Finding] | None:
        found = findings(vhost, "-a", JOBS)
        return found if wanted(found) else None

    return await_value(there, "the findings that are wanted")


def bad(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.level, one.about) for one in found if one.level != "ok"]


def said(found: list[Finding]) -> str:
    return "\n".join(f"{one.level} {one.about}: {one.what}" for one in found)


def test_a_healthy_broker_with_a_worker_is_well(vhost: Vhost, workers: Workers) -> None:
    """Every part of it is looked at, and nothing is wrong."""
    vhost.declare(jobs)
    workers.start("--processes", "1")
    found = await_findings(vhost, lambda found: not bad(found))

    assert [one.about for one in found] == [
        "broker",
        "feature flags",
        "permissions",
        "clock",
        "nodes",
        "queue jobs",
        "time limit",
        "workers",
    ]
    assert "may do the work of: producer, worker, topology, recorder, scheduler" in said(found)
    shown = examine(vhost, "-a", JOBS).stdout
    assert max(map(len, shown.splitlines())) <= 80


def test_a_night_s_mess_is_found(vhost: Vhost) -> None:
    """Nobody works, messages are dead and stranded, a policy takes them, and somebody has removed a tier."""
    vhost.declare(jobs)
    vhost.publish(Route.direct("jobs"), b"{}", expiration="1")  # leaves unrejected, so it cannot leave its tier
    await_value(lambda: not vhost.count("jobs"), "its end")
    for number in range(3):
        vhost.publish_task(Route.direct("jobs"), "jobs.write", f"id-{number}", path="/dev/null")
    vhost.publish_task(Route.dead("jobs"), "jobs.fail", "dead")
    policy = {"pattern": "^jobs.dlq$", "definition": {"message-ttl": 10**8}, "apply-to": "queues"}
    vhost.api("PUT", f"policies/{vhost.name}/a%20policy", policy)
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_unbind("jobs", "tasks.direct", "jobs")
        channel.queue_delete("jobs.retry.2.after.600ms")
        for around in ("tasks.record", "tasks.schedules"):
            arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
            channel.queue_declare(around, durable=True, arguments=arguments)

    late = ("message-ttl", "have left")  # the management API tells of them some seconds later
    found = await_findings(vhost, lambda found: all(text in said(found) for text in late))
    expected = (
        "fail queue jobs: not on the broker: jobs.retry.2.after.600ms",
        "bindings are missing: jobs to tasks.direct by key jobs",
        "fail queue jobs: policy a policy: message-ttl=100000000 takes dead messages away (jobs.dlq)",
        "warn queue jobs: 1 message(s) have left jobs.retry.1.after.300ms and not arrived",
        "fail queue jobs: 3 wait and no worker takes them",
        "warn queue jobs: 1 dead in jobs.dlq",
        "fail schedules: nobody fires them",
        "fail recorder: none runs",
    )
    assert [text for text in expected if text not in said(found)] == []
    assert f"rabbitmqctl clear_policy -p {vhost.name} 'a policy'" in {one.command for one in found}
    assert [one.what for one in doctor("jbos", configured=vhost.settings) if one.about == "queue jbos"] == [
        "there is no such queue"
    ]
    without_module = {one.what.partition(":")[0] for one in findings(vhost)}
    assert {"policy a policy", "3 wait and no worker takes them"} <= without_module


def test_who_consumes_and_does_not_answer_is_told_of(vhost: Vhost) -> None:
    """A worker that hangs looks like this, and like no worker at all."""
    vhost.declare(jobs)
    with vhost.connect() as connection:
        connection.channel().basic_consume("jobs", lambda *_: None)
        found = findings(vhost, "-a", JOBS, "jobs")

    assert "warn queue jobs: 0 wait; 1 consumer(s) take it, and none of them answers as a worker does" in said(found)


def test_without_rights_nothing_is_called_well_that_cannot_be_seen(vhost: Vhost) -> None:
    """For each thing that cannot be known it says so, with the right that would show it."""
    vhost.declare(jobs)
    with vhost.limited_user() as url:
        refused = findings(vhost, "-a", JOBS, AMQP_URL=url)
        vhost.api("PUT", f"users/{vhost.name}-limited", {"password": "secret", "tags": "management"})
        lower = findings(vhost, "-a", JOBS, AMQP_URL=url)
        vhost.api("PUT", f"users/{vhost.name}-limited", {"password": "secret", "tags": "monitoring"})
        monitoring = findings(vhost, "-a", JOBS, AMQP_URL=url)

    command = f"rabbitmqctl set_user_tags {vhost.name}-limited monitoring"
    for found in (refused, lower):
        assert {one.about for one in found if one.level == "ok"} <= {"broker", "feature flags", "clock", "time limit"}
        (one,) = (one for one in found if one.command == command)
        assert one.what.endswith("alarms, memory and disk, queues")
    assert ("unknown", "workers") in bad(refused)
    assert command not in {one.command for one in monitoring}
    assert not [one for one in monitoring if one.level == "fail"]
    assert "nodes" in {one.about for one in monitoring if one.level == "ok"}


@pytest.mark.parametrize(
    ("changed", "level", "about", "text"),
    [
        ({"AMQP_URL": "amqp://guest:guest@127.0.0.1:9/"}, "fail", "broker", "does not answer"),
        ({"AMQP_URL": "wrong password"}, "fail", "broker", "refused user"),
        ({"MANAGEMENT_URL": NOWHERE}, "unknown", "management", "not known: clock, permissions, feature flags, alarms"),
        ({"MANAGEMENT_URL": "AMQP's port"}, "unknown", "management", "not known: clock, permissions, feature flags"),
    ],
    ids=["no broker", "wrong password", "no management", "management on a wrong port"],
)
def test_what_does_not_answer_is_a_finding(
    vhost: Vhost, changed: dict[str, str], level: str, about: str, text: str
) -> None:
    """And all the rest is looked at, as far as it can be."""
    vhost.declare(jobs)
    vhost.publish_task(Route.direct("jobs"), "jobs.write", "one", path="/dev/null")
    others = {
        "wrong password": vhost.url_of(vhost.user, "nix"),
        "AMQP's port": f"http://{vhost.settings.first_amqp_url.rpartition('@')[2].partition('/')[0]}/",
    }
    found = findings(vhost, "-a", JOBS, **{name: others.get(value, value) for name, value in changed.items()})

    assert (level, about) in bad(found)
    assert text in said(found)
    if about == "management":
        assert "fail queue jobs: 1 wait and no worker takes them" in said(found)
        assert "nodes" not in {one.about for one in found}


@pytest.mark.parametrize(("seconds", "way"), [(300, "behind"), (-300, "ahead of")])
def test_a_clock_that_is_off_is_found(vhost: Vhost, seconds: int, way: str) -> None:
    """This machine's, as the command takes it to be, against the broker's."""
    vhost.declare(jobs)
    code = f"""
import time
honest = time.time
time.time = lambda: honest() + {seconds}
from leveret import doctor
print([(one.level, one.what) for one in doctor() if one.about == "clock"])
"""
    ((level, what),) = ast.literal_eval(run_program(code, vhost, MANAGEMENT_URL=vhost.broker.management_url))

    assert level == "warn"
    assert re.match(rf"the broker's is (29\d|300) s or more {way} this machine's", what)


def test_a_backlog_that_grows_is_found(vhost: Vhost, workers: Workers, tmp_path: Path) -> None:
    """Its only process is busy, and more comes all the time."""
    vhost.declare(jobs)
    worker = workers.start("--processes", "1")
    started, go = start_waiting_task(vhost, tmp_path)
    child_that_runs(started)

    def look() -> str:
        messages = [TaskMessage.create("jobs.write", kwargs={"path": "/dev/null"}) for _ in range(200)]
        with Publisher(vhost.settings) as publisher:
            assert [error for _, error in publisher.publish_many(messages)] == [None] * 200
        return "" if "and it grows" not in (text := said(findings(vhost, "-a", JOBS))) else text

    found = await_value(look, "the backlog to be found")
    go.touch()

    assert re.search(r"warn queue jobs: \d+ wait, and it grows: [1-9]\d*\.\d come and 0\.\d end in a second", found)
    assert worker.process.poll() is None


@pytest.mark.alone
def test_an_alarm_is_found_and_says_nothing_false_of_workers(
    vhost: Vhost, workers: Workers, control: BrokerControl
) -> None:
    """The broker takes no question, so nobody can answer; who may not see nodes is told of the alarm all the same."""
    vhost.declare(jobs)
    workers.start("--processes", "1")
    with control.memory_alarm():
        blind = await_value(lambda: _if_blocked(findings(vhost, "-a", JOBS, MANAGEMENT_URL=NOWHERE)), "the alarm")
        seeing = findings(vhost, "-a", JOBS)
        node = vhost.api("GET", "overview")["node"]

    assert "fail alarm: the broker takes no messages" in said(blind)
    for found in (blind, seeing):
        assert ("unknown", "workers") in bad(found)
        assert [about for level, about in bad(found) if level == "fail"] in (["alarm"], [f"node {node}"])
        assert "no worker" not in said(found)


def _if_blocked(found: list[Finding]) -> list[Finding] | None:
    return found if ("fail", "alarm") in bad(found) else None


def test_when_the_broker_s_certificate_is_over_is_told_before(
    vhost: Vhost, control: BrokerControl, tmp_path: Path
) -> None:
    """As long as the broker can be reached at all."""
    ours = Authority(tmp_path, "ours")
    with control.listener(ours.file, *ours.issue("server", "localhost"), asks_client=False) as port:
        found = findings(vhost, AMQP_URL=url_at(vhost, port), TLS_CA_FILE=str(ours.file))

    assert "warn certificate: the broker's is over in 1 day(s), on " in said(found)
