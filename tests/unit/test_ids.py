"""Task ids: UUIDs of version 7, each larger than the one before it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid

import pytest

from leveret.topology.message import check_id, ids, new_id
from leveret.topology.settings import CHECKOUT


def fields(task_id: str) -> tuple[int, int]:
    """Version and variant, straight off the bits (RFC 9562, section 4)."""
    number = uuid.UUID(task_id).int
    return number >> 76 & 0xF, number >> 62 & 0b11


def test_an_id_is_a_uuid_of_version_7() -> None:
    """It is written as every UUID is, in lower case, and is a good task id."""
    for task_id in (new_id() for _ in range(1000)):
        assert str(uuid.UUID(task_id)) == task_id
        assert uuid.UUID(task_id).version == 7
        assert uuid.UUID(task_id).variant == uuid.RFC_4122
        assert fields(task_id) == (7, 0b10)
        assert check_id(task_id) == task_id


def test_ids_are_unique_and_sorted_as_they_were_made() -> None:
    """As text and as numbers, however many one process makes in a millisecond."""
    made = [new_id() for _ in range(100_000)]

    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert [uuid.UUID(one).int for one in made] == sorted(uuid.UUID(one).int for one in made)


def test_an_id_tells_when_it_was_made() -> None:
    """Its first 48 bits are the millisecond of Unix time."""
    before = time.time_ns() // 1_000_000
    millisecond = uuid.UUID(new_id()).int >> 80
    after = time.time_ns() // 1_000_000

    # those made before in one go may be ahead of the clock by a little
    assert before <= millisecond <= after + 100


def test_the_part_of_the_millisecond_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 12 bits behind the version are how much of it has passed (section 6.2, method 3)."""
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_750_000)
    number = uuid.UUID(new_id()).int

    assert number >> 80 == 1_700_000_000_123
    assert number >> 64 & 0xFFF == 3 * 4096 // 4


def test_a_clock_that_jumps_back_changes_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids go on from the last one until the clock is there again; one that stands still makes more of them, too."""
    now = 1_700_000_000_000_000_000
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: now)
    made = [new_id() for _ in range(5000)]
    now -= 3_600_000_000_000
    made += [new_id() for _ in range(5000)]
    now += 7_200_000_000_000
    made.append(new_id())

    assert made == sorted(set(made))
    assert {fields(one) for one in made} == {(7, 0b10)}
    assert uuid.UUID(made[-1]).int >> 80 == now // 1_000_000


@pytest.mark.parametrize(
    "random", [b"\0" * 8, b"\xff" * 8, b"\x80" + b"\0" * 7, b"\0" * 7 + b"\x01"], ids=["none", "all", "first", "last"]
)
def test_random_bits_never_reach_the_others(random: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are, version, variant and time are what they were."""
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_000_000)
    monkeypatch.setattr(os, "urandom", lambda count: random[:count])
    task_id = new_id()

    assert len(task_id) == 36
    assert fields(task_id) == (7, 0b10)
    assert uuid.UUID(task_id).int >> 80 == 1_700_000_000_123


def test_threads_make_no_id_twice() -> None:
    """Two that come at the same moment differ in what is random, if in nothing else."""
    made: list[str] = []

    def make() -> None:
        made.extend([new_id() for _ in range(5000)])

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == len(made) == 40_000


def test_processes_make_no_id_twice() -> None:
    """A fork copies the last id, and nothing of what is random in those that follow."""
    code = """
import os, time
from leveret.topology.message import new_id
now = time.time_ns()
time.time_ns = lambda: now  # so that only what is random differs
new_id()
reading, writing = os.pipe()
child = os.fork()
os.write(writing, "".join(new_id() + "\\n" for _ in range(500)).encode())
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
os.close(writing)
print(open(reading).read(), end="")
"""
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert len(set(made)) == len(made) == 1000
