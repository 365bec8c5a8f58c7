"""What tasks have logged, in the record: the same in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest
import sqlalchemy

from leveret import Settings, State
from leveret.consumers.child.protocol import LONGEST_LINE_BYTES, MOST_LOGGED_BYTES
from leveret.consumers.recorder import looking
from leveret.consumers.recorder.answers import answer
from leveret.consumers.recorder.logged import MOST_BYTES
from leveret.consumers.recorder.schema import MIGRATIONS
from leveret.consumers.recorder.store import Store
from leveret.topology.events import Kind
from leveret.topology.link.question import LARGEST_ANSWER_BYTES, read_object
from leveret.topology.record import Logged, LogPlace
from tests.unit import test_record_store
from tests.unit.test_record_store import age, find, message

postgresql, configured, store = test_record_store.postgresql, test_record_store.configured, test_record_store.store


def logged(store: Store, task_id: str) -> list[Logged]:
    return looking.logs(store, task_id, LogPlace(0.0, 0, 0), 10_000)[1]


def ask(store: Store, task_id: str) -> tuple[list[Logged], int]:
    """Ask for all of it as who asks does; returns it, and in how many answers it came."""
    found: list[Logged] = []
    place: object = None
    count = 0
    while count == 0 or place is not None:
        said = answer(store, json.dumps({"version": 1, "ask": "logs", "id": task_id, "from": place}).encode())
        assert len(said) <= LARGEST_ANSWER_BYTES
        document = read_object(said)
        assert document, said
        assert "error" not in document, document
        found.extend(Logged(**one) for one in document["logs"])
        count, place = count + 1, document["next"]
    return found, count


def test_what_a_task_logs_is_kept_in_order_and_once(store: Store) -> None:
    """Of all attempts; also what is written again, alone or beside what is new."""
    first = message(Kind.LOG, "a", at=1.000001, lines=["t info one", "t info two"])
    second = message(Kind.LOG, "a", at=1.000002, lines=["t info three"], dropped=2)
    third = message(Kind.LOG, "a", at=2.5, attempt=2, lines=["t stdout \0 é"])
    store.write([first, message(Kind.LOG, "b", lines=["t info other"])])
    store.write([first, second])
    store.write([third, first, third])

    expected = [
        Logged(1, 1.000001, ["t info one", "t info two"], 0),
        Logged(1, 1.000002, ["t info three"], 2),
        Logged(2, 2.5, ["t stdout \0 é"], 0),
    ]
    assert logged(store, "a") == expected
    assert ask(store, "a") == (expected, 1)
    assert ask(store, "nobody") == ([], 1)


def test_what_logs_has_begun(store: Store) -> None:
    """So what it logs goes with the row of its task, though nothing else was told."""
    store.write([message(Kind.LOG, "a", at=5.0, lines=["t info one"])])
    status = find(store, "a")
    assert (status.state, status.task, status.times) == (State.STARTED, "mail.send", {"started": 5.0})

    store.write(
        [message(Kind.SUCCEEDED, "a", at=6.0, result="1"), message(Kind.LOG, "a", at=7.0, lines=["t info two"])]
    )
    assert find(store, "a").state is State.SUCCEEDED
    assert [one.at for one in logged(store, "a")] == [5.0, 7.0]


def test_lines_of_another_task_are_not_believed(store: Store) -> None:
    """Nor a number of lines that cannot be."""
    store.write([message(Kind.LOG, "a", lines=["t info one"])])
    said = store.write(
        [
            message(Kind.LOG, "a", task="other", at=1001.0, lines=["t info forged"]),
            message(Kind.LOG, "a", at=1002.0, lines=[], dropped=-1),
            message(Kind.LOG, "a", at=1002.0, lines=[], dropped=10**30),
        ]
    )

    assert (said.events, said.refused) == (0, 3)
    assert [one.lines for one in logged(store, "a")] == [["t info one"]]


def test_an_attempt_has_so_much_and_what_passes_it_is_counted(store: Store) -> None:
    """Once, for each attempt alone; all that a worker tells of one attempt has room."""
    line = "t info " + "é" * 500
    lines = [line] * 8
    size = 8 * (len(line.encode()) + 1)
    fit = MOST_BYTES // size
    assert fit * size > MOST_LOGGED_BYTES
    for number in range(fit + 3):
        store.write([message(Kind.LOG, "a", at=float(number), lines=lines)])
    store.write([message(Kind.LOG, "a", at=9999.0, attempt=2, lines=["t info next", "x" * 99_999])])

    kept = logged(store, "a")
    assert [one.dropped for one in kept] == [0] * fit + [8, 0]
    assert [one.lines for one in kept[-2:]] == [[], ["t info next", "x" * LONGEST_LINE_BYTES]]


def test_a_batch_that_comes_again_takes_no_room_from_what_is_new(store: Store) -> None:
    """As after a kill of the recorder, when most of what an attempt may log is there."""
    batch = [message(Kind.LOG, "a", at=float(at), lines=["x" * 1000] * 50) for at in range(5)]
    store.write(batch[:4])
    store.write(batch)

    assert [(one.at, len(one.lines)) for one in logged(store, "a")] == [(float(at), 50) for at in range(5)]


def test_much_comes_in_several_answers(store: Store) -> None:
    """Whole, in order, and each within its bounds, also of what JSON writes long; lines are not torn."""
    wide = [f"{number} " + "\x01" * 3000 for number in range(80)]
    told = [(float(number), 1, wide[number * 16 : number * 16 + 16]) for number in range(5)]
    told += [(10.0 + number, 2, [f"{number}"]) for number in range(250)]
    told.append((1000.0, 3, ["\U0001f407" * 900] * 60))
    for at, attempt, lines in told:
        store.write([message(Kind.LOG, "a", at=at, attempt=attempt, lines=lines, dropped=3)])
    found, count = ask(store, "a")

    assert count == 4
    assert [line for one in found for line in one.lines] == [line for _, _, lines in told for line in lines]
    assert sum(one.dropped for one in found) == 3 * len(told)


@pytest.mark.parametrize("place", [5, [1.0, 1], [1.0, -1, 0], [1.0, 1, 10**400], [10**400, 1, 1], [True, "1", 0], {}])
def test_a_place_that_is_none_is_refused(store: Store, place: Any) -> None:
    """Instead of reaching the database."""
    said = answer(store, json.dumps({"version": 1, "ask": "logs", "id": "a", "from": place}).encode())

    assert "from a time, an attempt and a line" in json.loads(said)["error"]


def test_logs_are_deleted_with_their_task(configured: Settings) -> None:
    """And not sooner."""
    store = Store(dataclasses.replace(configured, record_success_seconds=50, record_failure_seconds=500))
    try:
        lines = message(Kind.LOG, "a", "b", at=time.time(), lines=["t info one"])
        store.write([lines, message(Kind.SUCCEEDED, "a", at=time.time() + 1, result="1")])
        age(store, 100)
        assert store.expire(1000) == 1
        assert (logged(store, "a"), len(logged(store, "b"))) == ([], 1)

        age(store, 1000)
        assert store.expire(1000) == 1
        assert logged(store, "b") == []
    finally:
        store.close()


def test_a_record_of_the_version_before_logs_is_brought_to_this_one(configured: Settings) -> None:
    """What it has stays."""
    store = Store(configured)
    store.write([message(Kind.SUCCEEDED, "a", result="5")])
    with store.writing() as connection:
        for table in ("leveret_logs", "leveret_unique"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("UPDATE leveret_schema SET version = 1")
    store.close()
    store = Store(configured)
    try:
        store.write([message(Kind.LOG, "b", lines=["t info one"])])

        assert find(store, "a").result == "5"
        assert logged(store, "b") == [Logged(1, 1000.0, ["t info one"], 0)]
        with store.looking() as connection:
            version = connection.execute(sqlalchemy.text("SELECT version FROM leveret_schema")).scalars().all()
        assert version == [len(MIGRATIONS)]
    finally:
        store.close()
