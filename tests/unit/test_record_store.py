"""The record in its database: the same in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from leveret import Settings, State
from leveret.consumers.recorder import looking
from leveret.consumers.recorder.looking import Place, Wanted
from leveret.consumers.recorder.store import Store
from leveret.topology import events
from leveret.topology.errors import RecordError, RecordUnavailable
from leveret.topology.events import Kind
from leveret.topology.status import Status
from tests.postgresql import Cluster, find_programs, running

ALL = tuple(state for state in State if state is not State.UNKNOWN)
EVERYTHING = Wanted(ALL, "", "", 0, None, 100)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    programs = find_programs()
    if programs is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("no PostgreSQL is installed: apt-get install postgresql")
    with running(programs) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def configured(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings(output_dir=tmp_path)
    cluster: Cluster = request.getfixturevalue("postgresql")
    return Settings(record_url=cluster.make_database())


@pytest.fixture
def store(configured: Settings) -> Iterator[Store]:
    made = Store(configured)
    yield made
    made.close()


def message(kind: Kind, *ids: str, task: str = "mail.send", at: float = 1000.0, **fields: Any) -> bytes:
    """Return a message of one event for each id."""
    told = [{"id": one, "at": at, "queue": "mail", "attempt": 1, **fields} for one in ids]
    document = {"version": events.VERSION, "kind": kind, "task": task, "worker": "web-3:812", "events": told}
    return json.dumps(document).encode()  # also of what no worker writes


def find(store: Store, task_id: str) -> Status:
    (found,) = looking.find(store, [task_id])
    return found


def test_what_happened_to_a_task_is_known_afterwards(store: Store) -> None:
    """From one batch and from several, whatever is the order."""
    failure = {"type": "OSError", "message": "away", "traceback": "…", "fingerprint": "f"}
    store.write([message(Kind.STARTED, "a", at=1.0), message(Kind.RETRYING, "a", at=2.0, of=4, failure=failure)])
    store.write([message(Kind.SUCCEEDED, "a", "b", at=3.0, attempt=2, of=4, seconds=0.5, result='{"n": 5}')])

    status = find(store, "a")
    assert (status.state, status.task, status.queue, status.worker) == (
        State.SUCCEEDED,
        "mail.send",
        "mail",
        "web-3:812",
    )
    assert (status.attempt, status.of, status.seconds, status.result) == (2, 4, 0.5, '{"n": 5}')
    assert status.times == {"started": 1.0, "retrying": 2.0, "succeeded": 3.0}
    assert find(store, "b").state is State.SUCCEEDED
    assert find(store, "c") == Status("c", State.UNKNOWN)
    (attempt,) = looking.attempts(store, ["a"])["a"]
    assert (attempt["attempt"], attempt["failure"]["message"]) == (1, "away")
    assert "traceback" not in attempt["failure"]


def test_writing_twice_changes_nothing(store: Store) -> None:
    """What comes again after a lost link, or a kill, is the same."""
    batch = [
        message(Kind.STARTED, "a", at=1.0),
        message(Kind.PROGRESS, "a", at=1.5, done=1, total=3, note="half"),
        message(Kind.RETRYING, "a", at=2.0, failure={"type": "OSError"}),
        message(Kind.FAILED, "a", at=3.0, attempt=2, failure={"type": "OSError"}, lies_in="mail.dlq"),
    ]
    store.write(batch)
    once = find(store, "a")
    store.write(batch)
    store.write(batch[1:2])

    assert find(store, "a") == once
    assert once.lies_in == "mail.dlq"
    assert len(looking.attempts(store, ["a"])["a"]) == 2


def test_a_forged_event_is_not_believed(store: Store) -> None:
    """A finished task does not go on, and no other task takes its id; what is not believed is counted."""
    store.write([message(Kind.SUCCEEDED, "a", result="1")])
    said = store.write(
        [
            message(Kind.FAILED, "a", at=5000.0, failure={"type": "x"}),
            message(Kind.SUCCEEDED, "a", task="other", at=5000.0, result="2"),
            message(Kind.STARTED, "b", at=float(10**300)),
            message(Kind.STARTED, "b", attempt=-1),
            message(Kind.STARTED, "b", of=10**30),
        ]
    )

    assert (said.events, said.refused, said.unreadable) == (0, 5, [])
    assert (find(store, "a").state, find(store, "a").result) == (State.SUCCEEDED, "1")
    assert find(store, "b").state is State.UNKNOWN


def test_what_nobody_can_read_does_not_hold_up_the_rest(store: Store) -> None:
    """Nor does what a database cannot store."""
    said = store.write(
        [
            b"\xff",
            b"{}",
            message(Kind.SUCCEEDED, "a", result='"\0"'),
            message(Kind.SUCCEEDED, "b", result="\ud800"),
            message(Kind.SUCCEEDED, "c", task="ta\0sk", result="1"),
            message(Kind.FAILED, "d", failure={"message": "\0 x"}),
            message(Kind.SUCCEEDED, "e", result="1"),
        ]
    )

    assert len(said.unreadable) == 5
    assert [find(store, one).state for one in "abcde"] == [State.UNKNOWN] * 3 + [State.FAILED, State.SUCCEEDED]
    assert find(store, "d").failure == {"message": "\0 x"}


def test_texts_are_bounded(store: Store) -> None:
    """A failure may say what it likes; a traceback keeps its end."""
    failure = {"type": "T", "message": "m" * 100_000, "traceback": "t" * 100_000 + "the end"}
    store.write([message(Kind.FAILED, "a", failure=failure)])

    kept = find(store, "a").failure or {}
    assert len(kept["message"]) == 16 * 1024
    assert len(kept["traceback"]) == 64 * 1024
    assert kept["traceback"].endswith("the end")


def test_a_list_is_of_what_changed_last_and_goes_on_where_it_ended(store: Store) -> None:
    """Each task stands in one page, also of those that were written together."""
    ids = [f"id-{number:03}" for number in range(25)]
    store.write([message(Kind.SUCCEEDED, *ids[:20]), message(Kind.FAILED, *ids[20:])])
    pages, place = [], None
    while True:
        page, place = looking.find_all(store, EVERYTHING._replace(most=10, after=place))
        pages.append([status.id for status, _ in page])
        if place is None:
            break

    assert [len(page) for page in pages] == [10, 10, 5]
    assert list(itertools.chain(*pages)) == sorted(ids, reverse=True)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"states": [State.FAILED]}, {"d"}),
        ({"task": "mail.*"}, {"a", "b"}),
        ({"task": "mail.sen?"}, {"a"}),
        ({"task": "MAIL.*"}, set()),
        ({"task": "100%_sure"}, {"c"}),
        ({"task": "100*"}, {"c", "d"}),
        ({"task": "%"}, set()),
        ({"task": "mail.'; DROP TABLE leveret_tasks; --"}, set()),
        ({"queue": "other"}, {"d"}),
        ({"since": time.time() + 1000}, set()),
    ],
)
def test_a_list_is_of_what_was_asked_for(store: Store, wanted: dict[str, Any], found: set[str]) -> None:
    """States, a pattern of names in which only * and ? mean something, a queue, a time."""
    store.write(
        [
            message(Kind.SUCCEEDED, "a"),
            message(Kind.SUCCEEDED, "b", task="mail.read"),
            message(Kind.STARTED, "c", task="100%_sure"),
            message(Kind.FAILED, "d", task="100 percent", queue="other"),
        ]
    )
    page, _ = looking.find_all(store, EVERYTHING._replace(**wanted))

    assert {status.id for status, _ in page} == found


def test_what_was_kept_long_enough_is_deleted(configured: Settings) -> None:
    """Successes go sooner than failures, by this machine's clock and a few at a time; other rows stay."""
    store = Store(dataclasses.replace(configured, record_success_seconds=50, record_failure_seconds=500))
    try:
        store.write(
            [
                message(Kind.SUCCEEDED, "a", "b", "c", at=time.time() + 9999),
                message(Kind.FAILED, "d", failure={"type": "x"}),
            ]
        )
        age(store, 100)
        store.write([message(Kind.SUCCEEDED, "e", at=1.0)])

        assert store.expire(2) == 2
        assert store.expire(1000) == 1
        assert [find(store, one).state for one in "acde"] == [
            State.UNKNOWN, State.UNKNOWN, State.FAILED, State.SUCCEEDED,
        ]  # fmt: skip
        age(store, 1000)
        assert store.expire(1000) == 2
        assert looking.find_all(store, EVERYTHING) == ([], None)
        assert looking.attempts(store, ["d"]) == {}
    finally:
        store.close()


def age(store: Store, seconds: float) -> None:
    """Let the rows have been written so much earlier."""
    with store.writing() as connection:
        statement = sqlalchemy.text("UPDATE leveret_tasks SET changed = changed - :seconds")
        connection.execute(statement, {"seconds": seconds})


def test_tables_of_a_newer_version_are_refused(configured: Settings) -> None:
    """What a newer leveret has made, this one does not touch; its own it takes as they are."""
    store = Store(configured)
    store.write([message(Kind.SUCCEEDED, "a")])
    Store(configured).close()
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE leveret_schema SET version = 99")
    store.close()

    with pytest.raises(RecordError, match=r"tables of version 99, and this leveret knows \d+: a newer one"):
        Store(configured)


def test_recorders_that_start_together_make_the_tables_once(configured: Settings) -> None:
    """Nobody meets half of them."""
    failures: list[BaseException] = []

    def start() -> None:
        try:
            Store(configured).close()
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_two_that_write_the_same_task_leave_what_came_of_both(configured: Settings) -> None:
    """As while one recorder takes over from another that still ends a batch."""
    stores = [Store(configured), Store(configured)]
    barrier = threading.Barrier(2)

    def write(store: Store, kind: Kind, at: float) -> None:
        barrier.wait()
        for number in range(20):
            store.write([message(kind, f"id-{number}", at=at)])

    threads = [
        threading.Thread(target=write, args=one)
        for one in ((stores[0], Kind.STARTED, 1.0), (stores[1], Kind.SUCCEEDED, 2.0))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {find(stores[0], f"id-{number}").state for number in range(20)} == {State.SUCCEEDED}
    for store in stores:
        store.close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A batch that found no room is written when there is some."""
    store = Store(Settings(output_dir=tmp_path))
    batch = [message(Kind.SUCCEEDED, *(f"id-{number}" for number in range(100)), result='"' + "x" * 5000 + '"')]
    limit(store, 20)

    with pytest.raises(RecordUnavailable, match="full"):
        store.write(batch)
    assert find(store, "id-0").state is State.UNKNOWN
    limit(store, 100_000)

    assert store.write(batch).events == 100
    assert find(store, "id-99").state is State.SUCCEEDED
    store.close()


def limit(store: Store, pages: int) -> None:
    """Let the file have no more pages than that."""

    def on_begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    sqlalchemy.event.listen(store._engine, "begin", on_begin)


def test_ids_are_found_whatever_stands_in_them(store: Store) -> None:
    """Also what JSON, SQL or a pattern would take for something else; many at once."""
    ids = [*('"', "\\", '\\"', "'; --", "%", "_", "$.a", "a.b", "[0]", "ü€🐇", "", "{}"), *map(str, range(3000))]
    ids = [f"id {one}" for one in ids]
    store.write([message(Kind.FAILED, one, failure={"type": "E", "message": "m"}) for one in ids])
    store.write([message(Kind.LOG, one, lines=["t info one"]) for one in ids])

    assert [status.state for status in looking.find(store, ids)] == [State.FAILED] * len(ids)
    assert len(looking.attempts(store, ids)) == len(ids)
    assert store.write([message(Kind.SUCCEEDED, ids[0], at=2000.0, result="5")]).events == 1
    assert find(store, ids[0]).result == "5"
    age(store, 10**9)
    assert store.expire(10_000) == len(ids)
    assert {status.state for status in looking.find(store, ids)} == {State.UNKNOWN}


def test_what_was_written_outlives_a_power_cut(tmp_path: Path) -> None:
    """SQLite syncs its journal with each transaction, for the broker forgets the events after it."""
    store = Store(Settings(output_dir=tmp_path))
    with store.writing() as connection:
        said = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")]
    store.close()

    full = 2
    assert said == ["wal", full]


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    """Nor its journal, nor the folder."""
    store = Store(Settings(output_dir=tmp_path))
    store.write([message(Kind.SUCCEEDED, "a")])
    files = list((tmp_path / "record").iterdir())

    assert {file.name for file in files} >= {"tasks.sqlite3", "tasks.sqlite3-wal"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o700
    store.close()


def test_a_file_that_is_none_of_sqlite_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("no database, " * 100, encoding="utf-8")

    with pytest.raises(RecordError, match=r"notes\.txt cannot be used: file is not a database"):
        Store(Settings(record_url=f"sqlite:///{path}"))
    assert path.read_text(encoding="utf-8").startswith("no database")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A file that was asked for is not made together with its folders: the name may be misspelt."""
    with pytest.raises(RecordError, match=r"cannot be kept in .*missing.*: No such file.*RECORD_URL"):
        Store(Settings(record_url=f"sqlite:///{tmp_path}/missing/record.sqlite3"))


def test_a_wrong_url_of_postgresql_is_said_without_its_password(postgresql: Cluster) -> None:
    """Neither a wrong password nor a missing database nor a wrong port shows it."""
    place = sqlalchemy.make_url(postgresql.url)
    for url in (
        place.set(password="wrong-secret"),
        place.set(password="wrong-secret", port=1),
    ):
        with pytest.raises(RecordError, match="check RECORD_URL") as caught:
            Store(Settings(record_url=url.render_as_string(hide_password=False)))
        assert "wrong-secret" not in str(caught.value)
    with pytest.raises(RecordError, match='database "missing" does not exist'):
        Store(Settings(record_url=place.set(database="missing").render_as_string(hide_password=False)))


def test_postgresql_that_was_away_is_used_again(postgresql: Cluster) -> None:
    """A restart costs the batch of that moment a second try."""
    store = Store(Settings(record_url=postgresql.make_database()))
    store.write([message(Kind.SUCCEEDED, "a")])
    postgresql.stop()
    with pytest.raises(RecordUnavailable):
        store.write([message(Kind.SUCCEEDED, "b")])
    postgresql.start()

    assert store.write([message(Kind.SUCCEEDED, "b")]).events == 1
    assert find(store, "a").state is State.SUCCEEDED
    store.close()


def test_a_place_in_a_list_is_kept_by_sqlite_itself(tmp_path: Path) -> None:
    """The list goes by the index, however many rows there are."""
    store = Store(Settings(output_dir=tmp_path))
    store.close()
    with sqlite3.connect(tmp_path / "record" / "tasks.sqlite3") as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN " + looking._SELECT + " AND (changed, id) < (:changed, :id) "
            "ORDER BY changed DESC, id DESC LIMIT 10",
            {"state": "failed", "since": 0, **Place(1.0, "a")._asdict()},
        ).fetchall()
    connection.close()

    assert [row[3] for row in plan if "SCAN" in row[3] or "B-TREE" in row[3]] == []
