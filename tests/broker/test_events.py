"""`leveret events` and `leveret logs`: what passes on the exchange of events, for people and machines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pika
import pytest

from leveret import LogLine, Publisher, State, logs_of, logs_of_async
from leveret.producers import default
from leveret.producers.following.record import statuses
from leveret.topology import events
from leveret.topology.events import Kind
from leveret.topology.names import EVENTS_EXCHANGE, REPLY_PREFIX
from leveret.topology.settings import CHECKOUT
from tests.broker import logging_jobs as jobs
from tests.broker.recording import Recorders, objects_in
from tests.broker.support import Vhost, Worker, Workers, await_value, run, warm
from tests.broker.test_info import Screen, environment
from tests.broker.test_worker import close_connections

ID = "0197ac2e-8b3c-7d7e-9f55-b2f6b7a3a0e1"
EVENT: dict[str, Any] = {"id": ID, "at": 1785585600.123, "queue": "mail", "attempt": 1, "of": 4}


class Command:
    """A verb that runs until it is told to end, read as it speaks."""

    def __init__(self, vhost: Vhost, *arguments: str) -> None:
        told = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environment(vhost)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = warm().start(["leveret", *arguments], CHECKOUT, told, **streams)
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lambda stream=stream, into=into: into.extend(stream), daemon=True)
            for stream, into in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def await_listening(self) -> None:
        await_value(lambda: any("listening" in line for line in self.err) or self.process.poll() is not None, "it")

        assert self.process.poll() is None, self.err

    def wait(self) -> int:
        status = self.process.wait(60)
        for reader in self._readers:
            reader.join(60)
        return status


@pytest.fixture
def started(vhost: Vhost) -> Iterator[contextlib.ExitStack]:
    """Ends what was started in it."""
    vhost.declare(jobs.logging_jobs)
    with contextlib.ExitStack() as stack:
        yield stack


def listening(stack: contextlib.ExitStack, vhost: Vhost, *arguments: str) -> Command:
    command = Command(vhost, *arguments)
    stack.callback(command.wait)
    stack.callback(command.process.kill)
    command.await_listening()
    return command


def tell(vhost: Vhost, kind: Kind, task: str = "mail.send", body: bytes | None = None, **fields: object) -> None:
    """Publish an event as a worker would."""
    written = events.write(kind, task, "web-3:812", [events.write_event({**EVENT, **fields})])
    with vhost.connect() as connection:
        connection.channel().basic_publish(EVENTS_EXCHANGE, events.key(kind, task), body or written)


def test_events_are_shown_one_a_line_until_there_were_so_many(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """Those that match the pattern, for people; the queue goes with the command."""
    command = listening(started, vhost, "events", "task.*.mail.#", "--count", "2")
    tell(vhost, Kind.SUCCEEDED, "reports.month", seconds=1.0, result="1")
    tell(vhost, Kind.RETRYING, failure={"type": "OSError", "message": "no route"}, next_at=EVENT["at"] + 5, seconds=0.1)
    tell(vhost, Kind.SUCCEEDED, seconds=0.21, result="5")

    assert command.wait() == 0
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in command.out] == [
        f"retrying  mail.send {ID} 1/4 web-3:812 OSError: no route  again in 5 s\n",
        f"succeeded mail.send {ID} 1/4 web-3:812 0.21 s  5\n",
    ]
    assert [name for name in vhost.queues() if name.startswith(REPLY_PREFIX)] == []


def test_events_are_objects_for_machines(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """With the names that they have on the wire."""
    command = listening(started, vhost, "events", "--json", "--count", "1")
    tell(vhost, Kind.SUCCEEDED, seconds=0.21, result="5")

    assert command.wait() == 0
    expected = {**EVENT, "kind": "succeeded", "task": "mail.send", "worker": "web-3:812", "seconds": 0.21}
    assert json.loads("".join(command.out)) == {**expected, "result": "5"}


def test_a_terminal_gets_80_columns_and_nothing_raw(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """Whoever may publish events may write anything: a sequence that a terminal obeys, or a time of no calendar."""
    terminal = Screen("events", "--count", "2", COLUMNS="80", **environment(vhost))
    started.callback(terminal.process.kill)
    await_value(lambda: "listening" in terminal.text, "the command")
    tell(
        vhost, Kind.FAILED, failure={"type": "E", "message": "\x1b[31m red \r\n" * 20}, lies_in="mail.dlq", seconds=1.0
    )
    tell(vhost, Kind.CANCELLED, "\x1b]0;title\x07", at=1e300, by="eve", reason="\x9b2J")

    assert terminal.process.wait(60) == 0
    shown = await_value(lambda: terminal.text if terminal.text.count("\n") > 2 else None, "its lines")
    lines = shown.replace("\r\n", "\n").splitlines()[1:]
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert "…b7a3a0e1" in lines[0]
    assert lines[1].startswith("--:--:--")


def test_what_is_no_event_is_told_and_left_out(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """And the next one is shown."""
    command = listening(started, vhost, "events", "--count", "1")
    tell(vhost, Kind.FAILED, body=b"\x1b[2J{")
    tell(vhost, Kind.FAILED, id="")
    tell(vhost, Kind.SUCCEEDED, seconds=0.1, result="1")

    assert command.wait() == 0
    assert len(command.out) == 1
    refused = [line for line in command.err if "not believed" in line]
    assert len(refused) == 2
    assert all(line.rstrip("\n").isprintable() for line in refused)


def test_ctrl_c_ends_it(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """With the status of that, and without a traceback."""
    command = listening(started, vhost, "events")
    command.process.send_signal(signal.SIGINT)

    assert command.wait() == 130
    assert command.err[1:] == ["leveret events: interrupted\n"]


def test_a_lost_broker_is_one_clear_error(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """It does not go on as if nothing had been missed."""
    command = listening(started, vhost, "events")

    def close() -> int | None:
        close_connections(vhost, "leveret, listening")  # the management API learns of one after a while
        return command.process.poll()

    assert await_value(close, "the command to end") == 1
    assert command.wait() == 1
    assert len(command.err) == 2
    assert "was lost" in command.err[1]


@pytest.mark.parametrize("arguments", [("events",), ("logs", "some-id", "--follow")], ids=["events", "logs"])
def test_without_broker_exchange_or_right_there_is_one_clear_error(arguments: tuple[str, ...], vhost: Vhost) -> None:
    """Each says what to do next."""
    missing = run("leveret", *arguments, **environment(vhost))
    nobody = run("leveret", *arguments, AMQP_URL="amqp://127.0.0.1:9/")

    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (1, "", 1)
    assert "leveret declare" in missing.stderr
    assert (nobody.returncode, nobody.stdout, nobody.stderr.count("\n")) == (1, "", 1)
    vhost.declare(jobs.logging_jobs)
    with vhost.connect() as connection:
        assert connection.is_open
    vhost.api("PUT", f"permissions/{vhost.name}/{vhost.user}", {"configure": ".*", "write": ".*", "read": "^$"})
    refused = run("leveret", *arguments, **environment(vhost))
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert EVENTS_EXCHANGE in refused.stderr


@pytest.fixture
def worker(vhost: Vhost, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    vhost.declare(jobs.logging_jobs)
    with Publisher(vhost.settings) as made:
        monkeypatch.setattr(default, "_default", made)
        yield workers.start("--processes", "1", queue="logging", tasks=["tests.broker.logging_jobs"])


def test_what_a_task_logs_is_shown_until_it_ends(
    worker: Worker, started: contextlib.ExitStack, vhost: Vhost, tmp_path: Path
) -> None:
    """Of this task alone, each line with its time and level; failed attempts and the end on stderr."""
    command = listening(started, vhost, "logs", "the-id", "--follow")
    (tmp_path / "go").touch()
    record: Any = "record"
    jobs.plain.options(follow=record, id="other").submit("another", str(tmp_path / "go"))
    jobs.plain.options(follow=record, id="the-id").submit("this", str(tmp_path / "go"))

    assert command.wait() == 0
    assert [line.split(" ", 1)[1] for line in command.out] == [
        "stdout  this begins\n",
        "warning this warns\n",
        "stderr  this on stderr\n",
        "stdout  this ends\n",
    ]
    assert "succeeded" in command.err[-1]


def test_the_status_tells_that_the_task_failed_and_json_has_the_attempts(
    worker: Worker, started: contextlib.ExitStack, vhost: Vhost
) -> None:
    """Each line is an object."""
    command = listening(started, vhost, "logs", "the-id", "--follow", "--json")
    record: Any = "record"
    jobs.fails.options(follow=record, id="the-id").submit()

    assert command.wait() == 4
    rows = [json.loads(line) for line in command.out]
    assert [(row["id"], row["attempt"], row["level"], row["text"]) for row in rows] == [
        ("the-id", 1, "stdout", "before it fails"),
        ("the-id", 2, "stdout", "before it fails"),
    ]
    assert [line.split()[0] for line in command.err[1:]] == ["retrying", "failed"]


def test_forged_lines_reach_no_terminal_raw(started: contextlib.ExitStack, vhost: Vhost) -> None:
    """Whatever they look like, they are shown escaped, and do not end it."""
    command = listening(started, vhost, "logs", ID, "--follow")
    tell(vhost, Kind.LOG, lines=["\x1b[2J", "", "a b \x1b[2J\r", "9" * 5000 + " x y"], dropped=2)
    tell(vhost, Kind.SUCCEEDED, seconds=0.1, result="1")

    assert command.wait() == 0
    assert len(command.out) == 4
    assert all(line.rstrip("\n").isprintable() for line in (*command.out, *command.err))
    assert any(line.startswith("2 more lines") for line in command.err)


def test_a_task_that_does_not_end_in_time_is_not_yet_over(vhost: Vhost) -> None:
    """As with --wait."""
    vhost.declare(jobs.logging_jobs)
    ended = run("leveret", "logs", "nobody", "--follow", "--timeout", "0.2", **environment(vhost))

    assert (ended.returncode, ended.stdout) == (5, "")
    assert "within 0.2 s" in ended.stderr


def test_listening_needs_no_more_than_a_queue_of_its_own(vhost: Vhost, started: contextlib.ExitStack) -> None:
    """It is exclusive, goes with the link, and drops what is oldest."""
    listening(started, vhost, "events")
    (name,) = [name for name in vhost.queues() if name.startswith(REPLY_PREFIX)]

    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="RESOURCE_LOCKED"), vhost.connect() as other:
        other.channel().queue_declare(name, passive=True)
    found = vhost.api("GET", f"queues/{vhost.name}/{name}")
    assert found["auto_delete"]
    assert found["arguments"]["x-overflow"] == "drop-head"
    assert found["arguments"]["x-max-length"] > 0


def test_a_task_that_has_ended_before_is_told_where_a_recorder_runs(
    started: contextlib.ExitStack, vhost: Vhost, tmp_path: Path
) -> None:
    """Instead of waiting for what never comes."""
    recorders = Recorders(vhost, tmp_path)
    started.callback(recorders.kill_all)
    recorders.start()
    tell(vhost, Kind.FAILED, failure={"type": "E", "message": "m"}, lies_in="mail.dlq", seconds=0.1)
    await_value(lambda: statuses(ID, configured=vhost.settings)[0].state is State.FAILED, "the record")
    ended = run("leveret", "logs", ID, "--follow", **environment(vhost))

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "has ended: it is failed" in ended.stderr


@pytest.fixture
def recorded(started: contextlib.ExitStack, vhost: Vhost, tmp_path: Path) -> Recorders:
    """A recorder."""
    recorders = Recorders(vhost, tmp_path)
    started.callback(recorders.kill_all)
    recorders.start()
    return recorders


def await_lines(vhost: Vhost, task_id: str, count: int) -> list[LogLine]:
    """Wait until the record has so many lines of a task."""

    def look() -> list[LogLine] | None:
        found = logs_of(task_id, configured=vhost.settings)
        return found if len(found) >= count else None

    return await_value(look, f"{count} lines")


def test_what_a_task_has_logged_is_shown_afterwards(recorded: Recorders, worker: Worker, vhost: Vhost) -> None:
    """Of all its attempts, in order, from a process that heard nothing of it; the exit status says how it ended."""
    record: Any = "record"
    jobs.fails.options(follow=record, id="the-id").submit()
    await_value(lambda: statuses("the-id", configured=vhost.settings)[0].state is State.FAILED, "the record")

    said = recorded.command("logs", "the-id")
    assert [line.split(" ", 1)[1] for line in said.stdout.splitlines()] == ["stdout  before it fails"] * 2
    assert (said.returncode, said.stderr) == (4, "attempt 2\n")
    rows = objects_in(recorded.command("logs", "the-id", "--json").stdout)
    lines = logs_of("the-id", configured=vhost.settings)
    assert rows == [{"id": "the-id", **line._asdict()} for line in lines]
    assert [(line.attempt, line.level, line.text) for line in lines] == [
        (1, "stdout", "before it fails"),
        (2, "stdout", "before it fails"),
    ]
    assert lines == asyncio.run(logs_of_async("the-id", configured=vhost.settings))
    assert datetime.fromisoformat(lines[0].at) < datetime.fromisoformat(lines[1].at)


def test_following_begins_with_what_the_record_has_and_shows_nothing_twice(
    recorded: Recorders, worker: Worker, started: contextlib.ExitStack, vhost: Vhost, tmp_path: Path
) -> None:
    """Then comes what is told."""
    record: Any = "record"
    jobs.plain.options(follow=record, id="the-id").submit("this", str(tmp_path / "go"))
    await_lines(vhost, "the-id", 1)
    said = recorded.command("logs", "the-id")
    assert said.returncode == 5
    assert "the-id is started and may log more; --follow goes on to show it" in said.stderr
    command = listening(started, vhost, "logs", "the-id", "--follow")
    assert [line.split(" ", 1)[1] for line in command.out[:1]] == ["stdout  this begins\n"]
    (tmp_path / "go").touch()

    assert command.wait() == 0
    assert [line.split(" ", 1)[1] for line in command.out] == [
        "stdout  this begins\n",
        "warning this warns\n",
        "stderr  this on stderr\n",
        "stdout  this ends\n",
    ]
    assert recorded.command("logs", "the-id").stdout.splitlines(keepends=True) == command.out


def test_an_event_that_comes_by_both_ways_is_shown_once(
    recorded: Recorders, started: contextlib.ExitStack, vhost: Vhost
) -> None:
    """As what is told between the beginning of listening and the record's answer."""
    tell(vhost, Kind.LOG, lines=["2026-11-28T15:27:23.120Z info one"])
    await_lines(vhost, ID, 1)
    command = listening(started, vhost, "logs", ID, "--follow")
    tell(vhost, Kind.LOG, lines=["2026-11-28T15:27:23.120Z info one"])
    tell(vhost, Kind.LOG, at=EVENT["at"] + 1, lines=["2026-11-28T15:27:24.120Z info two"])
    tell(vhost, Kind.SUCCEEDED, at=EVENT["at"] + 2, seconds=0.1, result="1")

    assert command.wait() == 0
    assert [line.split()[-1] for line in command.out] == ["one", "two"]


def test_recorded_lines_reach_no_terminal_raw(recorded: Recorders, vhost: Vhost) -> None:
    """Whoever may publish events may write anything; a line that says no moment and level is text all the same."""
    tell(vhost, Kind.LOG, lines=["\x1b[2J", "", "a b \x1b[2J\r\n", "9" * 5000 + " x y"], dropped=2)
    await_lines(vhost, ID, 4)
    said = recorded.command("logs", ID)

    assert len(said.stdout.splitlines()) == 4
    assert all(line.isprintable() for line in (*said.stdout.split("\n"), *said.stderr.split("\n")))
    assert "2 more lines were left out" in said.stderr


def test_without_a_recorder_or_of_an_id_that_nobody_knows_logs_say_so(vhost: Vhost, tmp_path: Path) -> None:
    """In one line, and with status 1."""
    recorders = Recorders(vhost, tmp_path)
    try:
        missing = recorders.command("logs", "nobody")
        recorders.start()
        unknown = recorders.command("logs", "nobody")
    finally:
        recorders.kill_all()

    assert [(one.returncode, one.stdout, one.stderr.count("\n")) for one in (missing, unknown)] == [(1, "", 1)] * 2
    assert "there is no recorder to ask" in missing.stderr
    assert "start one: leveret recorder" in missing.stderr
    assert "knows nothing of a task nobody" in unknown.stderr
