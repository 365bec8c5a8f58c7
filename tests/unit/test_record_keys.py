"""The keys of unique tasks, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlalchemy

from leveret import Settings
from leveret.consumers.recorder import keys
from leveret.consumers.recorder.keys import Wanted, release, reserve
from leveret.consumers.recorder.store import Store
from leveret.topology.errors import QuestionRefused
from leveret.topology.events import Kind
from leveret.topology.message.keys import UNKNOWN_TASK_SECONDS
from tests.unit.test_record_store import configured, message, postgresql  # noqa: F401 - fixtures

TOKENS = map("{:032x}".format, itertools.count())


@pytest.fixture
def store(configured: Settings) -> Iterator[Store]:  # noqa: F811
    made = Store(configured)
    yield made
    made.close()


def wanted(task_id: str, key: str = "mail:a") -> Wanted:
    return Wanted(key, task_id, next(TOKENS))


def later(store: Store, seconds: float) -> None:
    """Let keys have been reserved, and tasks have changed, so much earlier."""
    with store.writing() as connection:
        for statement in ("leveret_unique SET until = until", "leveret_tasks SET changed = changed"):
            connection.execute(sqlalchemy.text(f"UPDATE {statement} - :seconds"), {"seconds": seconds})


def failed(task_id: str) -> bytes:
    return message(Kind.FAILED, task_id, failure={"type": "x"})


def test_the_second_is_told_the_first(store: Store) -> None:
    """Other keys are others'."""
    assert reserve(store, wanted("a"), None) == ("a", True)
    assert reserve(store, wanted("b"), None) == ("a", False)
    assert reserve(store, wanted("b", "mail:A"), None) == ("b", True)


def test_who_asks_again_for_the_same_task_may_go_on(store: Store) -> None:
    """As long as nothing is known of it: then it has been submitted."""
    for _ in range(2):
        assert reserve(store, wanted("a"), 60) == ("a", True)
    store.write([message(Kind.SUBMITTED, "a")])
    assert reserve(store, wanted("a"), 60) == ("a", False)


@pytest.mark.parametrize("seconds", [None, 3600])
@pytest.mark.parametrize(
    ("told", "frees"),
    [
        (message(Kind.SUBMITTED, "a"), False),
        (message(Kind.DELAYED, "a", until=2e9), False),
        (message(Kind.STARTED, "a"), False),
        (message(Kind.RETRYING, "a", failure={"type": "x"}), False),
        (message(Kind.CANCELLED, "a", by="me"), True),
        (failed("a"), True),
        (message(Kind.SUCCEEDED, "a"), None),
    ],
)
def test_its_end_frees_a_key(store: Store, seconds: float | None, told: bytes, frees: bool | None) -> None:
    """Of one that is kept for a time, only an end that is no success."""
    reserve(store, wanted("a"), seconds)
    store.write([told])

    is_free = frees if frees is not None else seconds is None
    assert reserve(store, wanted("b"), seconds) == (("b", True) if is_free else ("a", False))


def test_its_time_frees_a_key(store: Store) -> None:
    """Whatever its task does by then; one without a time holds as long as its task is not known to have ended."""
    reserve(store, wanted("a"), 60)
    reserve(store, wanted("c", "long"), None)
    store.write([message(Kind.STARTED, "a", "c")])
    later(store, 61)

    assert reserve(store, wanted("b"), None) == ("b", True)
    later(store, 5 * UNKNOWN_TASK_SECONDS)
    store.expire(100)
    assert reserve(store, wanted("d", "long"), None) == ("c", False)


def test_one_of_which_nothing_is_heard_is_freed_after_a_day(store: Store) -> None:
    """Its producer may have died before it was submitted."""
    reserve(store, wanted("a"), None)
    later(store, UNKNOWN_TASK_SECONDS - 10)
    store.expire(100)
    assert reserve(store, wanted("b"), None) == ("a", False)

    later(store, 20)
    assert reserve(store, wanted("b"), None) == ("b", True)


def test_only_who_has_reserved_it_can_release_a_key(store: Store) -> None:
    """Knowing the task's id is not enough; and once something is known of the task nobody can."""
    mine = wanted("a")
    reserve(store, mine, None)

    assert not release(store, wanted("a"))
    assert not release(store, mine._replace(id="b"))
    assert reserve(store, wanted("b"), None) == ("a", False)
    assert release(store, mine)
    assert reserve(store, mine, None) == ("a", True)
    store.write([message(Kind.SUBMITTED, "a")])
    assert not release(store, mine)


def test_a_redriven_task_holds_its_key_again(store: Store) -> None:
    """Unless another has taken it meanwhile."""
    reserve(store, wanted("a"), None)
    store.write([failed("a"), message(Kind.STARTED, "a", at=time.time())])

    assert reserve(store, wanted("b"), None) == ("a", False)


def test_keys_are_forgotten_with_their_tasks(configured: Settings) -> None:  # noqa: F811
    """But not before their time where that was given; and none is kept for ever."""
    store = Store(dataclasses.replace(configured, record_success_seconds=50, record_failure_seconds=500))
    try:
        for task_id, seconds in (("a", None), ("b", 3600), ("c", None), ("d", 3600)):
            reserve(store, wanted(task_id, task_id), seconds)
        store.write([message(Kind.SUCCEEDED, "a", "b"), failed("c"), failed("d")])
        later(store, 1000)
        store.expire(100)

        assert _keys(store) == {"b"}
        later(store, 3600)
        store.expire(100)
        assert _keys(store) == set()
    finally:
        store.close()


def test_there_is_a_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there can still be asked for."""
    monkeypatch.setattr(keys, "MOST_KEYS", 1)
    reserve(store, wanted("a"), None)
    store.expire(100)

    with pytest.raises(QuestionRefused, match="1 keys are reserved, and no more can be"):
        reserve(store, wanted("b", "other"), None)
    assert reserve(store, wanted("b"), None) == ("a", False)


def test_of_many_one_gets_it(configured: Settings) -> None:  # noqa: F811
    """Also by two recorders on one record, while events are written."""
    stores = [Store(configured), Store(configured)]
    try:
        told: list[tuple[str, bool]] = []
        begin = threading.Barrier(21)

        def ask(number: int) -> None:
            begin.wait()
            told.append(reserve(stores[number % 2], wanted(f"t{number}"), None))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        begin.wait()
        for number in range(20):
            stores[0].write([message(Kind.STARTED, f"other-{number}")])
        for thread in threads:
            thread.join()

        assert Counter(is_new for _, is_new in told) == {True: 1, False: 19}
        assert len({holder for holder, _ in told}) == 1
    finally:
        for store in stores:
            store.close()


def _keys(store: Store) -> set[str]:
    with store.looking() as connection:
        return set(connection.execute(sqlalchemy.text("SELECT name FROM leveret_unique")).scalars())
