"""The record in a database: events go in by the batch, what became of tasks comes out.

Writing an event twice changes nothing. What is believed of it is for `topology.status.advance` to say.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy import exc, text

from leveret.consumers.recorder import keys, logged, rows
from leveret.consumers.recorder.address import WRITES, open_engine, shown
from leveret.consumers.recorder.believing import bounded, can_be_stored, is_plausible
from leveret.consumers.recorder.schema import migrate
from leveret.topology import events
from leveret.topology.errors import RecordError, RecordUnavailable, UnreadableMessage
from leveret.topology.events import Event, Kind, Told
from leveret.topology.printable import printable
from leveret.topology.record import Logged
from leveret.topology.settings import Settings
from leveret.topology.status import State, Status, advance

_IMPOSSIBLE = (exc.DataError, ValueError, OverflowError)
"""What a database says of values that it does not take; anything else is wrong with the database."""
_FAILURES = frozenset({Kind.RETRYING, Kind.FAILED})
_KEPT_SHORTER = frozenset({State.SUCCEEDED, State.CANCELLED})
_OLD = text("SELECT id FROM leveret_tasks WHERE state = :state AND changed < :before ORDER BY changed LIMIT :most")
_TABLES = ("leveret_tasks", "leveret_attempts", "leveret_logs")
_DELETE = [text(f"DELETE FROM {table} WHERE {rows.OF_IDS}") for table in _TABLES]  # noqa: S608 - nobody's text


class Written(NamedTuple):
    """What became of a batch: how many events were written, which are not believed, and which nobody can read."""

    events: int
    refused: int
    unreadable: list[str]


class Store:
    """Opened when made; raises `RecordError` where it cannot be. One thread writes events, others may look."""

    def __init__(self, settings: Settings) -> None:
        self.where = shown(settings)
        self.has_room_for_keys = True
        """Whether as many keys may be reserved as there are by now, and one more."""
        self._settings = settings
        self._engine = open_engine(settings)
        try:
            with self.writing() as connection:
                migrate(connection, self.where)
        except RecordUnavailable as error:
            self.close()
            raise RecordError(f"{error}; look whether it runs, and check RECORD_URL") from error
        except RecordError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the database."""
        self._engine.dispose()

    def write(self, bodies: Sequence[bytes]) -> Written:
        """Write the events of these messages in one transaction.

        Raises `RecordUnavailable` when the database is not there or full: nothing was written, try again later. A
        message that the database does not take is among the unreadable ones.
        """
        unreadable: list[str] = []
        messages = []
        for body in bodies:
            try:
                told = events.read(body)
                if not can_be_stored(body, told):
                    raise UnreadableMessage("it has texts that are none")
                messages.append(told)
            except UnreadableMessage as error:
                unreadable.append(str(error))
        try:
            return self._write(messages, unreadable)
        except _IMPOSSIBLE:
            written = refused = 0
            for one in messages:  # to find the one to blame
                try:
                    said = self._write([one], [])
                    written, refused = written + said.events, refused + said.refused
                except _IMPOSSIBLE as error:
                    unreadable.append(f"the record does not take it: {_said(error)}")
            return Written(written, refused, unreadable)

    def expire(self, most: int) -> int:
        """Delete at most so many tasks that have been kept long enough, and as many keys; returns how many tasks."""
        now, deleted = time.time(), 0
        for state in State:
            kept = self._settings
            seconds = kept.record_success_seconds if state in _KEPT_SHORTER else kept.record_failure_seconds
            with self.writing() as connection:
                found = {"state": str(state), "before": now - seconds, "most": most - deleted}
                ids = list(connection.execute(_OLD, found).scalars())
                for statement in _DELETE:
                    connection.execute(statement, rows.ids_of(ids))
                keys.forget_tasks(connection, ids, state)
            deleted += len(ids)
            if deleted >= most:
                break
        with self.writing() as connection:
            self.has_room_for_keys = keys.expire(connection, now, most)
        return deleted

    @contextlib.contextmanager
    def looking(self) -> Iterator[sqlalchemy.Connection]:
        """Give a connection that only reads. Raises `RecordUnavailable`."""
        with self._saying_what_is_wrong(), self._engine.connect() as connection, connection.begin():
            yield connection

    def _write(self, messages: Iterable[Told], unreadable: list[str]) -> Written:
        messages = list(messages)
        ids = list(dict.fromkeys(event["id"] for told in messages for event in told.events))
        if not ids:
            return Written(0, 0, unreadable)
        refused = written = 0
        failures: dict[tuple[str, int], dict[str, Any]] = {}
        lines: list[tuple[str, Logged]] = []
        with self.writing() as connection:
            known = rows.read(connection, ids)
            after = dict(known)
            for told in messages:
                for event in told.events:
                    task_id = event["id"]
                    before = after.get(task_id) or Status(task_id)
                    # in a message that nobody could read there is no task's name
                    task = told.task or before.task
                    # what logs has begun, and what is kept of it goes with the row of its task
                    begins = told.kind is Kind.LOG and before.state is State.UNKNOWN
                    kind = Kind.STARTED if begins else told.kind
                    status = (
                        advance(before, kind, task, told.worker, bounded(told.kind, event))
                        if is_plausible(event)
                        else None
                    )
                    if status is None:
                        refused += 1
                        continue
                    written += 1
                    if told.kind is Kind.LOG:
                        lines.append((task_id, _logged(event)))
                    if status is not before:
                        after[task_id] = status
                        if told.kind in _FAILURES:
                            failures[task_id, event.get("attempt", 0)] = _outcome(told, event)
            changed = [status for task_id, status in after.items() if known.get(task_id) != status]
            rows.write(connection, changed, time.time())
            rows.write_attempts(connection, failures)
            logged.write(connection, lines)
        return Written(written, refused, unreadable)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlalchemy.Connection]:
        """Give a connection whose transaction writes; there is one at a time. Raises `RecordUnavailable`."""
        with self._saying_what_is_wrong(), self._engine.connect() as opened:
            connection = opened.execution_options(**{WRITES: True})
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _saying_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except exc.DataError:
            raise
        except exc.SQLAlchemyError as error:
            raise RecordUnavailable(f"the record in {self.where} cannot be used: {_said(error)}") from error


def _logged(event: Event) -> Logged:
    return Logged(event.get("attempt", 0), event["at"], event.get("lines", []), event.get("dropped", 0))


def _outcome(told: Told, event: Event) -> dict[str, Any]:
    """Return what is kept of an attempt that failed: what it takes to tell it from others."""
    failure = bounded(told.kind, event).get("failure", {})
    short = {name: said for name, said in failure.items() if name != "traceback"}
    return {"at": event["at"], "seconds": event.get("seconds"), "worker": told.worker, "failure": short}


def _said(error: BaseException) -> str:
    """Return what a database says, in one line and without the statement."""
    cause = getattr(error, "orig", None) or error
    return printable(" ".join(str(cause).split()) or type(cause).__name__)
