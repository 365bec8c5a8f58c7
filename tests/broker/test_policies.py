"""An operator's policies that take messages away: a worker warns of them, and what they stranded is freed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leveret import Route
from leveret.topology.names import retry_queue, stranded_queue
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.priority_jobs import ranked
from tests.broker.support import Vhost, Workers, await_value, run

TIER = retry_queue(jobs.name, 1, jobs.retry_delays[0])


def set_policy(vhost: Vhost, pattern: str, **definition: Any) -> None:
    """Set the policy, and see that RabbitMQ tells of it."""
    body = {"pattern": pattern, "definition": {name.replace("_", "-"): definition[name] for name in definition}}
    vhost.api("PUT", f"policies/{vhost.name}/test", {**body, "apply-to": "queues"})
    await_value(
        lambda: any(queue.get("policy") == "test" for queue in vhost.api("GET", f"queues/{vhost.name}")),
        "the policy to be told of",
    )


@pytest.fixture
def quick_dead_lettering(control: BrokerControl) -> Iterator[None]:
    """Have queues that are declared now try again every two seconds what they could not dead-letter."""
    name = "rabbit, dead_letter_worker_publisher_confirm_timeout"
    control.evaluate(f"application:set_env({name}, 2000).")
    yield
    control.evaluate(f"application:set_env({name}, 180000).")


@pytest.mark.parametrize(
    ("pattern", "definition", "warning"),
    [
        ("^jobs$", {"message_ttl": 60_000}, "message-ttl=60000 on queue 'jobs' strands messages of 'jobs' in a retry"),
        ("^jobs$", {"delivery_limit": 3}, "delivery-limit=3 on queue 'jobs' strands messages of 'jobs' in a retry"),
        ("dlq$", {"message_ttl": 60_000}, "message-ttl=60000 on queue 'jobs.dlq' takes dead messages away"),
        ("dlq$", {"max_length": 10}, "max-length=10 on queue 'jobs.dlq' drops the oldest dead messages"),
        ("^jobs$", {"expires": 3_600_000}, "expires=3600000 on queue 'jobs' deletes the queue"),
    ],
)
def test_a_worker_warns(vhost: Vhost, workers: Workers, pattern: str, definition: dict[str, Any], warning: str) -> None:
    """At its start, of each queue, with what it does and the way out."""
    vhost.declare(jobs)
    set_policy(vhost, pattern, **definition)
    worker = workers.start()

    told = worker.await_event(f"a policy with {warning}")
    assert told["message"].endswith("; take it away (rabbitmqctl clear_policy)")
    assert told["level"] == "warning"


def test_what_refuses_instead_is_no_reason_to_warn(vhost: Vhost, workers: Workers) -> None:
    """A full work queue refuses, and one that a policy names no harm for is not spoken of."""
    vhost.declare(jobs)
    set_policy(vhost, "^jobs", max_length=1000, overflow="reject-publish")
    worker = workers.start()
    assert worker.stop() == 0

    assert worker.find("a policy") == []


def test_what_was_stranded_runs(vhost: Vhost, workers: Workers, quick_dead_lettering: None, tmp_path: Path) -> None:
    """It is counted, refused while the policy is there, and freed after that: each runs once, and all is as before."""
    vhost.declare(jobs)
    set_policy(vhost, "^jobs$", message_ttl=100)
    ran = tmp_path / "ran"
    for number in range(5):
        vhost.publish_task(Route.direct("jobs"), "jobs.write", f"id-{number}", path=str(ran))
    await_value(lambda: _stranded(vhost) == 5, "them in the tier")
    environment = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    early = run("producers.redrive", "jobs", "--stranded", **environment)
    vhost.api("DELETE", f"policies/{vhost.name}/test")
    worker = workers.start()
    told = worker.await_event("5 message(s) are stranded in jobs.retry.1.after.300ms")
    freed = run("producers.redrive", "jobs", "--stranded", **environment)

    assert (early.returncode, early.stdout) == (1, "")
    assert "policy message-ttl=100 is still in force on queue 'jobs'" in early.stderr
    assert told["message"].endswith("; leveret redrive jobs --stranded sends them round again")
    assert (freed.returncode, sorted(freed.stdout.split())) == (0, [f"id-{number}" for number in range(5)])
    await_value(lambda: len(ran.read_text().splitlines()) == 5 if ran.exists() else None, "all of them to run")
    vhost.publish_task(Route.direct("jobs"), "jobs.fail_once", "later")
    worker.await_event("done", id="later", attempt=2)
    assert stranded_queue("jobs") not in vhost.queues()
    assert worker.stop() == 0
    assert vhost.counts(jobs) == {}
    assert sorted(line.split()[0] for line in ran.read_text().splitlines()) == [f"id-{number}" for number in range(5)]


def test_nothing_is_stranded(vhost: Vhost) -> None:
    """Then nothing is changed, and nothing is waited for."""
    vhost.declare(jobs)
    environment = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    ended = run("producers.redrive", "jobs.dlq", "--stranded", **environment)

    assert (ended.returncode, ended.stdout) == (0, "")
    assert "0 message(s) went from the retry tiers of jobs to jobs" in ended.stderr


def _stranded(vhost: Vhost, tier: str = TIER) -> int:
    return int(vhost.api("GET", f"queues/{vhost.name}/{tier}").get("messages_dlx") or 0)


def test_what_was_stranded_of_a_level_runs(
    vhost: Vhost, workers: Workers, quick_dead_lettering: None, tmp_path: Path
) -> None:
    """As of any queue: it is freed by its level, and then the entrance leads there as before."""
    vhost.declare(ranked)
    set_policy(vhost, "^ranked.high$", message_ttl=100)
    ran = tmp_path / "ran"
    body = json.dumps({"task": "ranked.note", "kwargs": {"file": str(ran), "level": "high"}}).encode()
    for number in range(3):
        vhost.publish(Route.direct("ranked"), body, message_id=f"id-{number}", headers={"priority": "high"})
    tier = retry_queue(ranked.name, 1, ranked.retry_delays[0])
    await_value(lambda: _stranded(vhost, tier) == 3, "them in the tier")
    environment = {"AMQP_URL": vhost.amqp_url, "MANAGEMENT_URL": vhost.broker.management_url}
    early = run("leveret", "redrive", "ranked", "--stranded", **environment)
    vhost.api("DELETE", f"policies/{vhost.name}/test")
    await_value(
        lambda: not any(queue.get("policy") == "test" for queue in vhost.api("GET", f"queues/{vhost.name}")),
        "the policy to be gone",
    )
    freed = run("leveret", "redrive", "ranked", "--stranded", **environment)

    assert "policy message-ttl=100 is still in force on queue 'ranked'" in early.stderr
    assert freed.stderr.endswith("3 message(s) went from the retry tiers of ranked to ranked\n")
    assert (freed.returncode, sorted(freed.stdout.split())) == (0, [f"id-{number}" for number in range(3)])
    assert vhost.counts(ranked) == {"ranked.high": 3}
    vhost.publish_task(Route.direct("ranked"), "ranked.fail_twice", "later", file=str(ran), level="later")
    workers.drain(queue="ranked", tasks=["tests.broker.priority_jobs"])
    assert sorted(ran.read_text().split()) == sorted(["high"] * 3 + ["later", "1", "later", "2", "later", "3"])
