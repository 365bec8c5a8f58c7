"""Publishing under faults: what is said when the broker refuses, blocks, restarts or is not there."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from leveret import (
    AccessRefused,
    BrokerBlocked,
    BrokerUnreachable,
    ConfirmTimeout,
    LeveretError,
    Nacked,
    NotRouted,
    Publisher,
    PublishError,
    Route,
    SettingsError,
    TaskMessage,
    WorkQueue,
    declare,
)
from tests.broker.control import BrokerControl
from tests.broker.jobs import jobs
from tests.broker.support import JOBS, Restart, Vhost, await_value, run_program
from tests.faults.proxy import Direction, Proxy


def producer_connections(vhost: Vhost) -> list[str]:
    return [
        connection["name"]
        for connection in vhost.api("GET", f"vhosts/{vhost.name}/connections")
        if connection.get("client_properties", {}).get("connection_name", "").startswith("leveret producer ")
    ]


def interrupted_calls(number: int, interrupt: Callable[[], None]) -> Iterator[dict[str, str]]:
    """Make arguments for many calls; a third of the way interrupt, and do not end before that is over."""
    with ThreadPoolExecutor(1) as aside:
        for position in range(number):
            if position == number // 3:
                interrupted = aside.submit(interrupt)
            if position == number - number // 5:
                interrupted.result()
            yield {"path": str(position)}


def test_full_queue(vhost: Vhost, publisher: Publisher) -> None:
    """A full queue refuses: Nacked is raised for what it did not take, and it holds all that was confirmed."""
    vhost.api(
        "PUT",
        f"policies/{vhost.name}/full",
        {"pattern": f"^{jobs.name}$", "definition": {"max-length": 3}, "apply-to": "queues"},
    )
    confirmed: list[str] = []

    def look() -> Nacked | None:
        try:
            confirmed.append(publisher.submit("jobs.fail"))
        except Nacked as error:
            return error
        return None

    refusal = await_value(look, "a refusal")

    assert refusal.task_id in str(refusal)
    assert "full" in str(refusal)
    assert refusal.task_id not in confirmed
    assert vhost.ids_in(jobs.name) == sorted(confirmed)


def test_nothing_answers(vhost: Vhost) -> None:
    """When no broker answers, submitting gives up within the publish timeout and raises BrokerUnreachable."""
    nowhere = replace(vhost.settings, amqp_url="amqp://guest:secret@localhost:1/", publish_timeout_seconds=0.5)

    with Publisher(nowhere) as publisher, pytest.raises(BrokerUnreachable, match="does not answer") as caught:
        publisher.submit("jobs.fail")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("own", [True, False])
def test_a_timeout_of_ones_own(vhost: Vhost, own: bool) -> None:
    """A publish waits as long as it, or else its publisher, was told to, whatever the setting is."""
    vhost.declare(jobs)
    message = TaskMessage.create("jobs.fail")
    with Proxy.before(vhost.amqp_url) as proxy:
        far = replace(vhost.settings, amqp_url=proxy.url(vhost.amqp_url), publish_timeout_seconds=60)
        with Publisher(far, timeout=None if own else 0.5) as publisher:
            publisher.publish(message, timeout=30)
            proxy.hold(Direction.TO_CLIENT)
            began = time.monotonic()
            with pytest.raises(ConfirmTimeout, match=r"did not confirm message .* within 0\.5 s") as caught:
                publisher.publish(message, timeout=0.5 if own else None)
            seconds = time.monotonic() - began
            proxy.heal()

    assert caught.value.task_id == message.id
    assert 0.5 <= seconds < 30  # which the publish before it was given, and less than the setting


def test_wrong_password(vhost: Vhost) -> None:
    """A wrong password raises AccessRefused, which names the user and not the password."""
    wrong = replace(vhost.settings, amqp_url=vhost.url_of(vhost.user, "wrong-secret"))

    with Publisher(wrong) as publisher, pytest.raises(AccessRefused, match=f"refused user {vhost.user!r}") as caught:
        publisher.submit("jobs.fail")

    assert "secret" not in str(caught.value)


def test_no_right_to_write(vhost: Vhost) -> None:
    """Without the write right on an exchange AccessRefused names it; another exchange takes messages."""
    vhost.declare(jobs)

    with vhost.limited_user(write=r"^tasks\.direct$") as url, Publisher(replace(vhost.settings, amqp_url=url)) as own:
        with pytest.raises(AccessRefused, match=r"'tasks\.topic'.*write right"):
            own.submit("jobs.fail")
        good = own.publish(TaskMessage.create("jobs.write"), Route.direct(jobs.name))

    assert vhost.ids_in(jobs.name) == [good]


def test_no_right_to_configure(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only write is told to let another declare, and is refused once; from then on what it submits arrives."""
    asked: list[object] = []

    def counting(*given: Any) -> None:
        asked.append(given)
        declare(*given)

    monkeypatch.setattr("leveret.topology.apply.declare.declare", counting)
    expected = f"may not declare it; let another declare it: leveret declare -a {JOBS}$"

    with vhost.limited_user(write=r"^tasks\.") as url, Publisher(replace(vhost.settings, amqp_url=url)) as own:
        for _ in range(3):
            with pytest.raises(NotRouted, match=expected) as caught:
                own.submit("jobs.fail")
        nothing = vhost.queues()
        vhost.declare(jobs)
        good = own.submit("jobs.fail")

    assert "secret" not in str(caught.value)
    assert nothing == set()
    assert len(asked) == 1
    assert vhost.ids_in(jobs.name) == [good]


def test_connection_closed_amid_many(vhost: Vhost, publisher: Publisher) -> None:
    """An operator who closes the connection amid thousands of messages makes some come twice, and loses none."""
    first = publisher.submit("jobs.fail")
    (name,) = await_value(lambda: producer_connections(vhost), "the connection")

    ids = publisher.submit_many(
        "jobs.write", interrupted_calls(6000, lambda: vhost.api("DELETE", f"connections/{quote(name, safe='')}"))
    )

    assert len(set(ids)) == 6000
    assert set(vhost.ids_in(jobs.name)) == {first, *ids}
    await_value(lambda: name not in producer_connections(vhost), "the closed connection to go")


@pytest.mark.alone
def test_broker_restarts_amid_many(vhost: Vhost, restart_broker: Restart) -> None:
    """A broker that stops and starts amid thousands of messages has them all in the end."""
    vhost.declare(jobs)

    with Publisher(replace(vhost.settings, publish_timeout_seconds=60)) as publisher:
        ids = publisher.submit_many("jobs.write", interrupted_calls(6000, restart_broker))

    assert len(set(ids)) == 6000
    assert set(vhost.ids_in(jobs.name)) == set(ids)


async def submit_steadily(publisher: Publisher, number: int, *tasks: str) -> dict[str, list[str | LeveretError]]:
    """Submit each of the tasks so often, many at a time; returns their ids and errors."""

    async def submit(task: str) -> str | LeveretError:
        try:
            return await publisher.submit_async(task)
        except LeveretError as error:
            return error

    submitted: list[asyncio.Task[str | LeveretError]] = []
    for _ in range(number):
        submitted += [asyncio.create_task(submit(task)) for task in tasks]
        await asyncio.sleep(0.05)  # the load: what was sent first is given up while more is on its way
    ended = await asyncio.gather(*submitted)
    return {task: list(ended[position :: len(tasks)]) for position, task in enumerate(tasks)}


@pytest.mark.alone
def test_memory_alarm(vhost: Vhost, control: BrokerControl) -> None:
    """Blocked by a memory alarm, submitting raises BrokerBlocked; afterwards messages flow, and none is doubled."""
    vhost.declare(jobs)

    def look() -> LeveretError | None:
        try:
            blocked.submit("jobs.fail")
        except LeveretError as error:
            return error
        return None

    with Publisher(replace(vhost.settings, publish_timeout_seconds=2)) as blocked:
        blocked.submit("jobs.fail")
        with control.memory_alarm():
            refusal = await_value(look, "the alarm")
            others = asyncio.run(submit_steadily(blocked, 80, "jobs.fail"))
        await_value(lambda: look() is None, "the end of the alarm")
        good = blocked.submit("jobs.fail")

    assert isinstance(refusal, BrokerBlocked)
    assert "blocks publishers (low on memory); message" in str(refusal)
    assert {type(other) for other in others["jobs.fail"]} == {BrokerBlocked}
    ids = vhost.ids_in(jobs.name)
    assert good in ids
    assert len(ids) == len(set(ids))


def test_a_queue_that_gives_no_answer(vhost: Vhost, control: BrokerControl) -> None:
    """It costs what is on its way to it, while all else is confirmed, and lies in its queue once."""
    stuck = WorkQueue("stuck")
    vhost.declare(jobs, stuck)

    with Publisher(replace(vhost.settings, publish_timeout_seconds=4)) as publisher:
        publisher.submit("stuck.write")  # the broker asks the queue something before the first message of a channel
        first = publisher.submit("jobs.fail")
        with control.unanswering(vhost.name, stuck.name):
            ended = asyncio.run(submit_steadily(publisher, 120, "jobs.fail", "stuck.write"))
            last = publisher.submit("jobs.fail")

    assert vhost.ids_in(jobs.name) == sorted([first, last, *map(str, ended["jobs.fail"])])
    for error in ended["stuck.write"]:
        assert isinstance(error, ConfirmTimeout)
        assert error.task_id in str(error)


def test_a_confirm_that_is_lost_with_its_link(vhost: Vhost) -> None:
    """When nothing answers any more, the error says that the message was sent, and under which id."""
    vhost.declare(jobs)
    message = TaskMessage.create("jobs.write")
    with Proxy.before(vhost.amqp_url) as proxy, ThreadPoolExecutor(1) as aside:
        far = replace(vhost.settings, amqp_url=proxy.url(vhost.amqp_url), publish_timeout_seconds=5)
        with Publisher(far) as publisher:
            publisher.submit("jobs.fail")
            proxy.hold(Direction.TO_CLIENT)
            sent = aside.submit(publisher.publish, message)
            await_value(lambda: vhost.count(jobs.name) == 2, "the message")
            proxy.refuse()
            proxy.reset()
            with pytest.raises(ConfirmTimeout, match=f"{message.id}.*may be stored") as caught:
                sent.result(60)
            with pytest.raises(BrokerUnreachable, match="was not sent"):
                publisher.submit("jobs.fail")

    assert caught.value.task_id == message.id


_FORK = """
import os
from leveret import Publisher, PublishError, submit

mine = Publisher()
print(mine.submit("jobs.write"), submit("jobs.write"), flush=True)
if os.fork() == 0:
    try:
        mine.submit("jobs.write")
    except PublishError as error:
        print(error)
    mine.close()
    print(submit("jobs.write"), submit("jobs.write"), flush=True)
else:
    assert os.wait()[1] == 0
    print(mine.submit("jobs.write"), submit("jobs.write"), flush=True)
"""


def test_fork(vhost: Vhost) -> None:
    """After a fork the parent's publisher refuses and says why, `submit` works, and the parent's goes on."""
    vhost.declare(jobs)

    before, refusal, in_child, after = run_program(_FORK, vhost).splitlines()

    assert "make a new Publisher after the fork" in refusal
    assert vhost.ids_in(jobs.name) == sorted(f"{before} {in_child} {after}".split())


def test_closed(vhost: Vhost, publisher: Publisher) -> None:
    """A closed publisher refuses and says so; closing it again does nothing."""
    good = publisher.submit("jobs.fail")
    publisher.close()
    publisher.close()

    for use in (
        lambda: publisher.submit("jobs.fail"),
        lambda: publisher.submit_many("jobs.fail", [{}]),
        lambda: asyncio.run(publisher.submit_async("jobs.fail")),
    ):
        with pytest.raises(PublishError, match="this Publisher is closed"):
            use()

    assert vhost.ids_in(jobs.name) == [good]


def test_closed_while_others_publish(vhost: Vhost) -> None:
    """Threads that publish meanwhile get their id or the refusal, and what they got an id for is there."""
    vhost.declare(jobs)

    def publish_until_refused(publisher: Publisher) -> list[str]:
        ids: list[str] = []
        try:
            while True:
                ids.append(publisher.submit("jobs.fail"))
        except PublishError as refusal:
            refusals.append(str(refusal))
        return ids

    confirmed: list[str] = []
    refusals: list[str] = []
    for _ in range(5):
        publisher = Publisher(vhost.settings)
        publisher.submit("jobs.fail")
        with ThreadPoolExecutor(4) as threads:
            publishing = [threads.submit(publish_until_refused, publisher) for _ in range(4)]
            publisher.close()
            confirmed += [one for each in publishing for one in each.result(60)]

    assert set(refusals) == {"this Publisher is closed; make a new one"}
    assert set(confirmed) <= set(vhost.ids_in(jobs.name))


def test_closed_by_several(vhost: Vhost) -> None:
    """Threads that close it at once all wait for what was handed over, and whoever handed it over is told."""
    vhost.declare(jobs)
    with Proxy.before(vhost.amqp_url) as proxy, ThreadPoolExecutor(4) as threads:
        publisher = Publisher(replace(vhost.settings, amqp_url=proxy.url(vhost.amqp_url)))
        publisher.submit("jobs.fail")
        proxy.hold(Direction.TO_CLIENT)
        sent = threads.submit(publisher.submit, "jobs.fail")
        await_value(lambda: vhost.count(jobs.name) == 2, "the message")
        closing = [threads.submit(publisher.close) for _ in range(3)]
        await_value(lambda: publisher._sender._is_closed, "the end of what it takes")
        proxy.heal()
        task_id = sent.result(60)
        for each in closing:
            each.result(60)

    assert task_id in vhost.ids_in(jobs.name)


def test_closed_again_after_an_interrupt(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt that comes before the thread is told to stop leaves that to the next close."""
    publisher = Publisher(vhost.settings)

    def interrupt(_callback: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publisher._sender._loop, "call_soon_threadsafe", interrupt)
        with pytest.raises(KeyboardInterrupt):
            publisher.close()
    publisher.close()

    assert not publisher._sender._thread.is_alive()


_AT_EXIT = """
import atexit
from leveret import submit

atexit.register(lambda: print(submit("jobs.write")))
print(submit("jobs.write"))
"""


def test_submit_at_exit(vhost: Vhost) -> None:
    """What a program does when it ends may be to submit."""
    vhost.declare(jobs)

    assert sorted(run_program(_AT_EXIT, vhost).split()) == vhost.ids_in(jobs.name)


def test_leaves_nothing_open(vhost: Vhost) -> None:
    """A publisher used as a context manager leaves no thread and no open file, used or not, failed or not."""
    vhost.declare(jobs)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with Publisher(vhost.settings):
        pass
    with Publisher(vhost.settings) as used:
        used.submit("jobs.fail")
    with pytest.raises(NotRouted), Publisher(vhost.settings) as failed:
        failed.submit("nobody.here")

    await_value(lambda: threading.active_count() == threads, "the end of every thread")
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_settings_that_cannot_connect_end_a_publish_at_once(vhost: Vhost) -> None:
    """The error names them, instead of the confirm that does not come."""
    unusable = replace(vhost.settings, amqp_url=f"{vhost.amqp_url}?unknown=1")

    with Publisher(unusable) as publisher, pytest.raises(SettingsError, match="unknown"):
        publisher.submit("jobs.fail")
