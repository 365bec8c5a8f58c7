"""A queue with priorities as the broker has it: which way a message goes in, back and out, and changing the kind."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from leveret import Route, WorkQueue, declare
from leveret.topology import queues
from tests.broker.support import Vhost, await_value
from tests.broker.test_declare import reported, wanted

LEVELS: list[tuple[Any, str]] = [
    ("high", "mail.high"),
    ("normal", "mail"),
    ("low", "mail.low"),
    (None, "mail"),
    ("urgent", "mail"),
    (9, "mail"),
]
"""What a client may put into the header, and the queue that it leads to."""
MakeMail = Callable[..., WorkQueue]


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> MakeMail:
    """Make the queue; a second one is that of the next release of a program."""

    def make(priorities: bool = True, **options: Any) -> WorkQueue:
        monkeypatch.setattr(queues, "_known", {})
        return WorkQueue("mail", fanout=True, priorities=priorities, **{"retry_delays": (0.3, 0.6), **options})

    return make


def headers(level: object) -> dict[str, Any] | None:
    return None if level is None else {"priority": level}


def test_equals_the_table(vhost: Vhost, mail: MakeMail) -> None:
    """What the broker has is the table, also when it is declared again, and the levels are bound in addition."""
    table = wanted(mail())
    levels = {("mail.in", "mail.high", ""), ("mail.in", "mail.low", "")}
    vhost.declare(mail())
    vhost.declare(mail())

    assert reported(vhost) == {**table, "bindings": table["bindings"] | levels}


@pytest.mark.parametrize(
    "route", [Route.direct("mail"), Route.topic("mail.send"), Route.fanout("any"), Route.again("mail", 2)]
)
def test_every_way_leads_into_the_level(vhost: Vhost, mail: MakeMail, route: Route) -> None:
    """By whichever exchange it comes, the header says the level, and whatever is unknown there is normal."""
    vhost.declare(mail())
    for number, (level, _) in enumerate(LEVELS):
        vhost.publish(route, b"{}", message_id=f"{number}", headers=headers(level))

    for queue in {queue for _, queue in LEVELS}:
        assert vhost.ids_in(queue) == [f"{number}" for number, (_, leads_to) in enumerate(LEVELS) if leads_to == queue]


def test_what_nobody_takes_still_comes_back(vhost: Vhost, mail: MakeMail) -> None:
    """A producer hears of a key that leads nowhere, whatever the priority."""
    vhost.declare(mail())

    with pytest.raises(pika.exceptions.UnroutableError):
        vhost.publish(Route.topic("fax.send"), b"{}", headers=headers("high"))


@pytest.mark.parametrize(("level", "queue"), LEVELS[:3])
def test_a_rejection_alone_keeps_the_level_and_counts_the_attempts(
    vhost: Vhost, mail: MakeMail, level: str, queue: str
) -> None:
    """Through both tiers and into the DLQ: what is rejected from any of the three comes back to the same one."""
    vhost.declare(mail())
    vhost.publish(Route.direct("mail"), b"{}", message_id="one", headers=headers(level))

    for _ in range(3):
        vhost.fail(queue, "one")

    dead = vhost.take_one("mail.dlq")
    assert dead.headers["priority"] == level
    assert [death["queue"] for death in dead.headers["x-death"] if death["reason"] == "rejected"] == [queue]


@pytest.fixture
def load(vhost: Vhost) -> Iterator[Callable[[], list[str]]]:
    """Publish messages of all levels by all exchanges until told to end; calling it returns their ids."""
    ended, published, failed = threading.Event(), list[str](), list[BaseException]()

    def publish() -> None:
        ways = itertools.cycle((Route.direct("mail"), Route.topic("mail.send"), Route.fanout(), Route.again("mail", 2)))
        levels = itertools.cycle(LEVELS)
        try:
            with vhost.connect() as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                for number in itertools.count():
                    if ended.is_set():
                        return
                    properties = pika.BasicProperties(
                        message_id=f"{number}", headers=headers(next(levels)[0]), delivery_mode=2
                    )
                    channel.basic_publish(*next(ways), b"{}", properties, mandatory=True)
                    published.append(f"{number}")
        except BaseException as error:  # noqa: BLE001 - the test raises it
            failed.append(error)

    thread = threading.Thread(target=publish)

    def end() -> list[str]:
        ended.set()
        thread.join()
        if failed:
            raise failed[0]
        return published

    def start_or_end() -> list[str]:
        if thread.ident is None:
            thread.start()
            return published
        return end()

    yield start_or_end
    ended.set()
    if thread.ident is not None:
        thread.join()


def test_a_queue_gets_priorities_and_loses_them_under_load(
    vhost: Vhost, mail: MakeMail, load: Callable[[], list[str]]
) -> None:
    """Every message is taken by some queue, and once, while what leads to the queue is bound anew, there and back."""
    vhost.declare(mail(priorities=False))
    published = load()
    for has_priorities in (True, False) * 5:
        before = len(published)
        declare(vhost.settings, [mail(priorities=has_priorities)])
        await_value(lambda: len(published) > before + 50, "more messages")  # noqa: B023 - it is called at once
    ids = load()

    found = Counter(itertools.chain.from_iterable(map(vhost.ids_in, mail().waits_in)))

    assert sorted(found.elements()) == sorted(ids)


def test_after_the_change_all_goes_the_new_way(vhost: Vhost, mail: MakeMail) -> None:
    """With priorities nothing leads past the entrance; without nothing leads into it, and what waits there is told."""
    assert declare(vhost.settings, [mail(priorities=False)]) == []
    assert declare(vhost.settings, [mail()]) == []
    vhost.publish(Route.direct("mail"), b"{}", message_id="left", headers=headers("high"))
    assert reported(vhost)["bindings"] == wanted(mail())["bindings"] | {
        ("mail.in", "mail.high", ""),
        ("mail.in", "mail.low", ""),
    }

    (news,) = declare(vhost.settings, [mail(priorities=False)])

    assert news.startswith("1 message(s) wait in mail.high, of a queue that has no priorities any more; ")
    vhost.publish(Route.direct("mail"), b"{}", message_id="new", headers=headers("high"))
    assert vhost.counts(mail()) == {"mail.high": 1, "mail": 1}
    assert ("mail.in", "mail.high", "") not in reported(vhost)["bindings"]
    assert declare(vhost.settings, [mail(priorities=False)]) == []


def test_a_change_that_was_interrupted_is_made_again(vhost: Vhost, mail: MakeMail) -> None:
    """By an older program, or amid declaring: whatever leads past the entrance is unbound when it is declared again."""
    vhost.declare(mail())
    with vhost.connect() as connection:
        for way in (Route.direct("mail"), Route.topic("mail.#"), Route.fanout(), Route.again("mail", 3)):
            connection.channel().queue_bind("mail", *way)

    vhost.declare(mail())

    vhost.publish(Route.direct("mail"), b"{}", headers=headers("high"))
    assert vhost.counts(mail()) == {"mail.high": 1}


@pytest.mark.parametrize(
    ("gets_priorities", "plan", "comes_to"),
    [(True, (8, 9), "mail.high"), (False, (8, 9), "mail"), (True, (), "mail"), (False, (), "mail")],
)
def test_what_waits_in_a_tier_comes_back_after_the_change(
    vhost: Vhost, mail: MakeMail, gets_priorities: bool, plan: tuple[float, ...], comes_to: str
) -> None:
    """Once, to where it belongs by then; also out of a tier of a former plan, which leads to the queue itself."""
    vhost.declare(mail(priorities=not gets_priorities, retry_delays=(8, 9)))
    vhost.publish(Route.direct("mail"), b"{}", message_id="one", headers=headers("high"))
    vhost.fail("mail" if gets_priorities else "mail.high", "one")

    vhost.declare(mail(priorities=gets_priorities, retry_delays=plan))

    assert vhost.take_one(comes_to).properties.message_id == "one"
    assert [queue for queue in mail().waits_in if vhost.count(queue)] == []
