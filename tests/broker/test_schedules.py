"""Schedules: fired once each whatever happens to schedulers, paused and changed from anywhere, and what is refused."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leveret import State, statuses
from leveret.topology import names
from leveret.topology.access.rights import rights_of, topic_rights_of
from leveret.topology.names import CONTROL_EXCHANGE, EVENTS_EXCHANGE, Route
from leveret.topology.schedules import fire_id
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.recording import Recorders
from tests.broker.scheduling import TICK, Schedulers, whole_seconds
from tests.broker.support import Vhost, Worker, Workers, await_value
from tests.faults.proxy import Proxy

DAILY = '[schedules.digest]\ntask = "jobs.write"\nkwargs = { path = "/dev/null" }\nqueue = "jobs"\ncron = "0 7 * * *"\n'


@pytest.fixture
def schedulers(vhost: Vhost, schedulers: Schedulers) -> Schedulers:
    """With the queue of the test tasks."""
    vhost.declare(jobs)
    return schedulers


def fired_seconds(vhost: Vhost, began: int) -> dict[int, int]:
    """Take what was fired, and return how often each second since then was, from the first to the last there is."""
    found = Counter(vhost.ids_in("jobs"))
    seconds = whole_seconds(set(found), "tick", began, int(time.time()) + 2)
    assert found.total() == sum(found[fire_id("tick", 1000 * one)] for one in seconds), "others than these were fired"
    return {one: found[fire_id("tick", 1000 * one)] for one in range(seconds[0], seconds[-1] + 1)}


def test_every_second_is_fired_once_though_schedulers_are_killed(vhost: Vhost, schedulers: Schedulers) -> None:
    """One fires, another waits; when it is killed that one goes on, and what it missed comes at once."""
    began = int(time.time())
    holder = schedulers.start()
    for _ in range(3):
        following = schedulers.start_waiting()
        schedulers.await_fires(2)
        holder.signal(signal.SIGKILL)
        following.await_event("scheduling")
        holder = following
    schedulers.await_fires(2)
    assert holder.stop() == 0

    counts = fired_seconds(vhost, began)
    assert len(counts) >= 8
    assert 0 not in counts.values()
    assert sum(counts.values()) - len(counts) <= 3  # a kill between fire and state: the same id again


def test_what_no_scheduler_fired_is_made_up_for(vhost: Vhost, schedulers: Schedulers) -> None:
    """The broker remembers up to where all is done."""
    began = int(time.time())
    first = schedulers.start()
    schedulers.await_fires(1)
    assert first.stop() == 0
    done = time.time()
    await_value(lambda: time.time() > done + 3.5, "some seconds to pass")
    second = schedulers.start()
    schedulers.await_fires(5)
    assert second.stop() == 0

    assert set(fired_seconds(vhost, began).values()) == {1}


def test_the_last_fire_and_how_it_ended_are_listed(
    vhost: Vhost, schedulers: Schedulers, workers: Workers, tmp_path: Path
) -> None:
    """With the next five; the record knows the outcome of what is followed."""
    tasks = (
        "from leveret import task, Schedule\nfrom tests.broker.jobs import jobs\n"
        "@task('jobs.noted', queue=jobs, follow=True)\ndef noted() -> int: return 5\n"
        "Schedule('noted', noted.message(), every='1s')\n"
    )
    (tmp_path / "noted_jobs.py").write_text(tasks)
    schedulers.environment["LEVERET_TASKS"] = "noted_jobs"
    schedulers.environment["PYTHONPATH"] = f"{tmp_path}:{schedulers.environment['PYTHONPATH']}"
    schedulers.write('tasks = ["noted_jobs"]\n' + DAILY)
    said = schedulers.command("list", tasks="")
    assert "no scheduler has ever run here" in said.stderr
    recorders = Recorders(vhost, tmp_path)
    try:
        recorders.start()
        workers.start(tasks=["noted_jobs"], PYTHONPATH=schedulers.environment["PYTHONPATH"])
        scheduler = schedulers.start(tasks="")
        fired = scheduler.await_event("fired", schedule="noted")

        def ended() -> bool:
            (status,) = statuses(fired["id"], configured=vhost.settings)
            return status.state is State.SUCCEEDED

        await_value(ended, "the fire to be recorded")
        (status,) = statuses(fired["id"], configured=vhost.settings)
        assert State.SUBMITTED in status.times
        assert scheduler.stop() == 0
        await_value(lambda: schedulers.listed(tasks="")["noted"]["last"]["state"] == "succeeded", "the outcome")
        said = schedulers.command("list", tasks="")
    finally:
        recorders.kill_all()

    assert [line for line in said.stdout.splitlines() if len(line) > 80] == []
    assert " ok 0." in said.stdout
    listed = schedulers.listed(tasks="")
    assert (listed["noted"]["every"], listed["digest"]["cron"]) == (1.0, "0 7 * * *")
    assert [len(one["next"]) for one in listed.values()] == [5, 5]
    assert listed["digest"]["last"] is None


def test_it_is_told_that_a_schedule_has_fired(vhost: Vhost, schedulers: Schedulers) -> None:
    """On the exchange of events, for anybody."""
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(EVENTS_EXCHANGE, "topic", durable=True)
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, EVENTS_EXCHANGE, "schedule.fired.#")
        scheduler = schedulers.start()
        fired = scheduler.await_event("fired")

        def get() -> Any:
            return channel.basic_get(queue, auto_ack=True)[::2]

        def look() -> Any:
            method, body = get()
            return (method.routing_key, json.loads(body)) if method else None

        key, told = await_value(look, "the event")
    assert key == "schedule.fired.tick"
    assert (told["kind"], told["schedule"], told["task"], told["id"]) == ("fired", "tick", "jobs.write", fired["id"])
    assert fire_id("tick", round(told["planned"] * 1000)) == told["id"]


def test_a_pause_holds_for_all_schedulers_until_it_ends(vhost: Vhost, schedulers: Schedulers) -> None:
    """Also for those that start later, and when it is said while none runs; nothing of it is made up for."""
    assert "no scheduler has ever run" in schedulers.command("pause", "tick").stderr
    first = schedulers.start()
    schedulers.await_fires(1)
    said = schedulers.command("pause", "tick", "--reason", "holi\x1bdays", "--json")
    assert (said.returncode, json.loads(said.stdout)) == (0, {"schedule": "tick", "paused": True, "heard": True})
    assert "schedule tick is paused" in first.await_event("schedule tick is paused")["message"]
    assert schedulers.listed()["tick"]["paused"]["reason"] == "holi\x1bdays"
    assert "holi\\x1bdays" in schedulers.command("list").stdout
    assert first.stop() == 0
    before = len(schedulers.fired())
    second = schedulers.start()
    second.await_event("scheduling")
    assert second.stop() == 0
    assert len(schedulers.fired()) == before

    resumed = time.time()
    said = schedulers.command("resume", "tick")
    assert "the next one to fire will hold to it" in said.stderr
    third = schedulers.start()
    schedulers.await_fires(2)
    assert third.stop() == 0
    assert schedulers.listed()["tick"]["paused"] is None
    fired = {one["id"] for one in third.find("fired")}
    assert fired == {
        fire_id("tick", 1000 * one) for one in whole_seconds(fired, "tick", int(resumed), int(resumed) + 99)
    }


def test_a_changed_file_needs_no_restart(schedulers: Schedulers) -> None:
    """A broken one is said, and the schedules go on; one that is mended is taken."""
    scheduler = schedulers.start()
    schedulers.await_fires(1)
    schedulers.write(TICK.replace("1s", "0s"))
    said = scheduler.await_event("settings file leveret.toml: schedule 'tick': every is '0s'")
    assert said["message"].endswith("the schedules go on as they were")
    schedulers.await_fires(2)
    schedulers.write(TICK + TICK.replace("tick", "tock") + DAILY)
    scheduler.await_event("the settings file has changed", changed="digest,tock")
    scheduler.await_event("fired", schedule="tock")
    schedulers.write(DAILY)
    scheduler.await_event("the settings file has changed", changed="tick,tock")
    assert scheduler.stop() == 0


def test_a_queue_that_is_missing_is_declared(vhost: Vhost, schedulers: Schedulers) -> None:
    """Where it is known; where not, the other schedules go on, and the fire comes when there is one."""
    vhost.api("DELETE", f"queues/{vhost.name}/jobs")
    elsewhere = TICK.replace("tick", "tock").replace('queue = "jobs"', 'queue = "elsewhere"')
    schedulers.write(TICK + elsewhere)
    scheduler = schedulers.start()
    await_value(lambda: "jobs" in vhost.queues() and vhost.count("jobs") > 2, "fires in the queue")
    error = scheduler.await_event("schedule tock could not be fired")
    assert "no queue bound for routing key 'elsewhere'" in error["message"]
    with vhost.connect() as connection:
        channel = connection.channel()
        channel.queue_declare("elsewhere", durable=True)
        channel.queue_bind("elsewhere", "tasks.direct", "elsewhere")
    scheduler.await_event("fired", schedule="tock")
    assert len(scheduler.find("schedule tock could not be fired")) == 1
    assert scheduler.stop() == 0
    counts = [*whole_seconds(set(vhost.ids_in("elsewhere")), "tock", int(time.time()) - 90, int(time.time()) + 1)]
    assert counts == [*range(counts[0], counts[-1] + 1)]


def test_a_fire_that_closes_the_channel_hinders_no_other(vhost: Vhost, schedulers: Schedulers) -> None:
    """As one to an exchange that may not be written to."""
    schedulers.write(TICK + TICK.replace("tick", "tock").replace('queue = "jobs"', 'exchange = "fanout"'))
    rights = rights_of("scheduler", [jobs])._asdict()
    with vhost.limited_user(**{**rights, "write": rights["write"].replace(r"|tasks\.fanout", "")}) as url:
        scheduler = schedulers.start(AMQP_URL=url)
        error = scheduler.await_event("schedule tock could not be fired")
        assert "refused to publish to exchange 'tasks.fanout'" in error["message"]
        began = len(scheduler.find("fired", schedule="tick"))
        await_value(lambda: len(scheduler.find("fired", schedule="tick")) > began + 2, "the other schedule to go on")
        assert not scheduler.find("lost the broker")
        vhost.give_limited_user(**rights)
        scheduler.await_event("fired", schedule="tock")
        assert scheduler.stop() == 0


@pytest.mark.alone
def test_an_alarm_is_waited_for(vhost: Vhost, schedulers: Schedulers, control: BrokerControl) -> None:
    """It is said; nothing is missed by it, and who is told to stop meanwhile does."""
    began = int(time.time())
    scheduler = schedulers.start()
    schedulers.await_fires(2)
    with control.memory_alarm():
        scheduler.await_event("the broker blocks publishers")
    schedulers.await_fires(2)
    with control.memory_alarm():
        await_value(lambda: len(scheduler.find("the broker blocks publishers")) == 2, "the second alarm")
        assert scheduler.stop() == 0
    last = schedulers.start()
    schedulers.await_fires(2)
    assert last.stop() == 0

    counts = fired_seconds(vhost, began)
    assert 0 not in counts.values()
    assert sum(counts.values()) - len(counts) <= 1  # what was on its way when it stopped: the same id again


def test_a_scheduler_that_is_cut_off_stops(vhost: Vhost, schedulers: Schedulers) -> None:
    """Though nothing is confirmed any more."""
    with Proxy.before(vhost.settings.first_amqp_url) as proxy:
        scheduler = schedulers.start(AMQP_URL=proxy.url(vhost.settings.first_amqp_url))
        schedulers.await_fires(1)
        proxy.hold()
        assert scheduler.stop() == 0


def test_a_lease_that_is_deleted_is_made_anew(vhost: Vhost, schedulers: Schedulers) -> None:
    """What the scheduler remembers is put there again, so nothing is fired twice or missed."""
    began = int(time.time())
    scheduler = schedulers.start()
    schedulers.await_fires(2)
    vhost.api("DELETE", f"queues/{vhost.name}/{names.SCHEDULES_QUEUE}")
    scheduler.await_event("lost the broker")
    schedulers.await_fires(2)
    assert scheduler.stop() == 0

    assert set(fired_seconds(vhost, began).values()) == {1}


def test_what_nobody_can_read_is_passed_over(vhost: Vhost, schedulers: Schedulers) -> None:
    """Whoever may write to the exchange of control; the lease goes on."""
    scheduler = schedulers.start()
    for key in (names.SCHEDULES_STATE_KEY, names.SCHEDULES_PAUSE_KEY, names.SCHEDULES_BEGIN_KEY):
        for body in (b"", b"{}", b"\xff" * 100, b" " * 3_000_000):
            vhost.publish(Route(CONTROL_EXCHANGE, key), body)
    await_value(lambda: len(scheduler.find("a message of tasks.schedules is passed over")) == 12, "all to be refused")
    schedulers.await_fires(2)

    def is_alone() -> bool:
        return not vhost.count(names.SCHEDULES_QUEUE)

    await_value(is_alone, "the queue to hold what is held only")
    assert scheduler.stop() == 0
    assert vhost.count(names.SCHEDULES_QUEUE) == 1


def test_schedulers_with_other_schedules_say_so(schedulers: Schedulers, tmp_path: Path) -> None:
    """For those of the one that waits are fired by nobody."""
    schedulers.start()
    schedulers.await_fires(1)
    (tmp_path / "other.toml").write_text(DAILY)
    waiting = schedulers.launch(LEVERET_CONFIG="other.toml")
    said = waiting.await_event("the scheduler that fires, ")["message"]
    assert "does not have digest as this one has; all schedulers of a virtual host need the same" in said
    assert waiting.stop() == 0


def test_the_rights_of_a_scheduler_are_enough(vhost: Vhost, schedulers: Schedulers) -> None:
    """And without the right to the lease it says so and ends."""
    with vhost.limited_user(**rights_of("producer", [jobs])._asdict()) as url:
        refused = schedulers.launch(AMQP_URL=url)
        assert refused.wait() == 1
        assert "leveret schedule: the broker refused the lease of the schedules: " in refused.text
        assert refused.text.count("\n") == 1
        vhost.give_limited_user(**rights_of("scheduler", [jobs])._asdict())
        for topics in topic_rights_of("scheduler"):
            vhost.api("PUT", f"topic-permissions/{vhost.name}/{vhost.name}-limited", topics._asdict())
        scheduler = schedulers.start(AMQP_URL=url)
        schedulers.await_fires(2)
        assert not scheduler.find("an event cannot be told")
        said = schedulers.command("pause", "tick", AMQP_URL=url)
        assert said.returncode == 0, said.stderr
        assert schedulers.command("list", AMQP_URL=url).returncode == 0
        schedulers.kill_all()


def test_a_schedule_is_fired_by_hand(vhost: Vhost, schedulers: Schedulers) -> None:
    """Without a scheduler, with an id of its own."""
    said = schedulers.command("fire", "tick")
    assert said.returncode == 0, said.stderr
    assert vhost.ids_in("jobs") == [said.stdout.strip()]
    said = schedulers.command("fire", "tik")
    assert (said.returncode, said.stdout) == (1, "")
    assert "did you mean 'tick'?" in said.stderr


def test_no_schedules_and_no_broker_are_said(schedulers: Schedulers) -> None:
    """In one line each."""

    def ended(one: Worker) -> str:
        assert one.wait() == 1
        assert one.text.count("\n") == 1, one.text
        return one.text

    assert "does not answer" in ended(schedulers.launch(AMQP_URL="amqp://127.0.0.1:1/"))
    schedulers.write("")
    assert "there are no schedules; write one into leveret.toml" in ended(schedulers.launch())
    schedulers.write("[schedules.x]\n")
    assert "schedule 'x': it names no task" in ended(schedulers.launch())
