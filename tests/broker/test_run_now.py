"""Having delayed tasks run now, on a real RabbitMQ: they come out of the ladder, and nothing else does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from leveret import AccessRefused, MessageError, Publisher, Route, run_now
from leveret.producers.calls import make_message
from leveret.topology.access.rights import PRODUCER, TOPOLOGY, rights_of
from leveret.topology.apply.declare import declare_ladder
from leveret.topology.ladder import delayed
from tests.broker.jobs import jobs, write
from tests.broker.support import Vhost, await_value, run


@pytest.fixture
def delaying(vhost: Vhost) -> Iterator[Publisher]:
    """A publisher on a virtual host where the ladder is declared."""
    vhost.declare(jobs)
    declare_ladder(vhost.settings)
    with Publisher(vhost.settings) as made:
        yield made


def submit_later(by: Publisher, seconds: float) -> str:
    """Submit a task that is due so many seconds from now; returns its id."""
    return by.publish(make_message(write, kwargs={"path": "/dev/null"}, due=time.time() + seconds)).id


def in_order(vhost: Vhost, queue: str) -> list[str]:
    """The ids of what is in a queue, which is emptied: behind one that is due later another would be late."""
    return [str(one.properties.message_id) for one in vhost.take(queue)]


def test_a_delayed_task_comes_now_and_the_others_stay(vhost: Vhost, delaying: Publisher) -> None:
    """Those before and behind it in the same queue keep their places and their times."""
    ids = [submit_later(delaying, 3650) for _ in range(5)]
    longer = submit_later(delaying, 2 * 86_400 + 50)

    assert run_now(ids[2], longer, "nobody", configured=vhost.settings) == [ids[2], longer]

    await_value(lambda: vhost.count("jobs") == 2, "both that were meant")
    assert sorted(vhost.ids_in("jobs")) == sorted([ids[2], longer])
    assert in_order(vhost, "tasks.delay.1h") == [*ids[:2], *ids[3:]]
    assert vhost.count("tasks.delay.2d") == 0


def test_what_was_read_in_vain_is_still_due_in_its_time(vhost: Vhost, delaying: Publisher) -> None:
    """Its time goes on while it is read."""
    due = submit_later(delaying, 3)
    assert run_now("nobody", configured=vhost.settings) == []

    await_value(lambda: vhost.count("jobs"), "the one that is due")
    assert vhost.ids_in("jobs") == [due]


def test_it_is_found_behind_thousands(vhost: Vhost, delaying: Publisher) -> None:
    """The queue is read to its end."""
    many = [make_message(write, kwargs={"path": "/dev/null"}, due=time.time() + 7250) for _ in range(3000)]
    assert all(error is None for _, error in delaying.publish_many(many))

    assert run_now(many[-1].id, configured=vhost.settings) == [many[-1].id]
    await_value(lambda: vhost.count("jobs"), "the last")
    await_value(lambda: vhost.count("tasks.delay.2h") == 2999, "all others in their queue")
    assert in_order(vhost, "tasks.delay.2h") == [one.id for one in many[:-1]]


def test_what_asked_to_be_run_later_keeps_its_attempt_and_its_headers(vhost: Vhost, delaying: Publisher) -> None:
    """It comes by the way by which it would have come."""
    route, headers = delayed(Route.again("jobs", 2), {"retried-later": 7, "mine": "yes"}, 86_400)
    vhost.publish(route, b"{}", message_id="the-id", headers=headers)
    assert run_now("the-id", configured=vhost.settings) == ["the-id"]

    await_value(lambda: vhost.count("jobs"), "the message")
    with vhost.connect() as connection:
        method, properties, _ = connection.channel().basic_get("jobs", auto_ack=True)
    assert (method.exchange, method.routing_key) == ("tasks.delay.out", "jobs@2")
    assert (properties.headers["retried-later"], properties.headers["mine"]) == (7, "yes")
    assert [death["queue"] for death in properties.headers["x-death"]] == ["tasks.delay.1s"]


def test_where_nothing_was_ever_delayed_nothing_is_found(vhost: Vhost) -> None:
    """There is no ladder then, and none is made."""
    assert run_now("the-id", configured=vhost.settings) == []
    assert vhost.queues() == set()


def test_who_may_not_read_the_ladder_is_told_so(vhost: Vhost, delaying: Publisher) -> None:
    """The topology's owner may."""
    wanted = submit_later(delaying, 3650)
    with vhost.limited_user(**rights_of(PRODUCER, [jobs])._asdict()) as url:
        with pytest.raises(AccessRefused, match=r"tasks\.delay"):
            run_now(wanted, configured=vhost.settings_for(url))
        vhost.give_limited_user(**rights_of(TOPOLOGY, [jobs])._asdict())
        assert run_now(wanted, configured=vhost.settings_for(url)) == [wanted]


def test_the_command_names_what_it_found_and_what_not(vhost: Vhost, delaying: Publisher) -> None:
    """Its exit status tells both apart."""
    first, second = submit_later(delaying, 3650), submit_later(delaying, 7250)
    found = run("leveret", "run-now", first, "--json", AMQP_URL=vhost.amqp_url)
    partly = run("leveret", "run-now", f"{first},{second}", AMQP_URL=vhost.amqp_url)
    none = run("leveret", "run-now", "-", AMQP_URL=vhost.amqp_url, stdin=f"{first}\n\x1b[2J\n")

    assert (found.returncode, json.loads(found.stdout)) == (0, {"id": first, "runs": "now"})
    assert (partly.returncode, partly.stdout) == (3, f"{second}\n")
    assert f"{first} is not delayed" in partly.stderr
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_what_is_no_id_is_refused(bad: str) -> None:
    """Before the broker is asked."""
    with pytest.raises(MessageError):
        run_now(bad)
