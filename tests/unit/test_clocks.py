"""Clocks: the wall clock, which may jump, is for telling people the time; whatever waits or limits uses another."""

from __future__ import annotations

import ast

from leveret.topology.settings import CHECKOUT
from tests.unit.test_layers import sources

TELLING_PEOPLE_THE_TIME = {
    "consumers/answering/told.py",  # since when a worker runs, how old messages are
    "consumers/child/logged.py",  # when a task wrote a line
    "consumers/control/control.py",  # how old a cancel is, which another machine has said
    "consumers/log.py",
    "consumers/observing/events.py",  # when a task wrote lines, by which the record tells one from another
    "consumers/log_file.py",  # since when a process runs, in its file's name
    "consumers/child/later.py",  # the date of a Retry-After
    "consumers/settling/later.py",  # how long a task has asked to be run later
    "consumers/settling/products.py",
    "producers/batch.py",  # when a message was submitted
    "topology/events.py",  # when it happened
    "consumers/recorder/keys.py",  # until when one is held, whichever recorder runs by then
    "consumers/recorder/store.py",  # how old what is kept is
    "leveret/command/shown_status.py",
    "leveret/command/dead/discard.py",  # in a file's name
    "leveret/command/dead/options.py",  # how long ago one died
    "producers/dead/history.py",  # when it was redriven
    "producers/dead/wanted.py",  # which have died longer ago
    "producers/doctor/asking_management.py",  # whether the broker's agrees
    "producers/doctor/gathering.py",  # when a certificate is over
    "producers/following/cancelling.py",  # when it was cancelled
    "producers/following/commanding.py",
    "leveret/command/submit.py",  # whether --at is over
    "producers/later.py",  # when a message is due
    "producers/following/record.py",  # since when
    "producers/scheduling/clock.py",  # for schedules are kept by it; it sees jumps
    "producers/watching/watch.py",
    "topology/message/ids.py",  # which go on from the last one when the clock jumps back
}
WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def reads_wall_clock(source: str) -> bool:
    """Whether a file names a function that reads the wall clock."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (owner, node.attr) in WALL_CLOCKS:
                return True
        if isinstance(node, ast.ImportFrom) and {(node.module, alias.name) for alias in node.names} & WALL_CLOCKS:
            return True
    return False


def test_the_wall_clock_measures_nothing() -> None:
    """Only what people read knows the time of day: the log, headers of dead messages, timestamps and ids."""
    files = {source for source in sources() if reads_wall_clock((CHECKOUT / source).read_text(encoding="utf-8"))}

    assert files == TELLING_PEOPLE_THE_TIME


def test_every_spelling_is_seen() -> None:
    """The other test would notice."""

    assert reads_wall_clock("import time\nbegan = time.time()")
    assert reads_wall_clock("from time import time")
    assert reads_wall_clock("import datetime\ndatetime.datetime.now()")
    assert not reads_wall_clock("import time\nbegan = time.monotonic()")
