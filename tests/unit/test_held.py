"""What a worker holds: bytes, not only messages."""

from __future__ import annotations

from leveret.consumers.settling.held import Held

MEGABYTE = 1024 * 1024


def test_bodies_are_taken_until_there_is_no_room() -> None:
    """What was settled makes room again, and an empty body needs none."""
    held = Held(MEGABYTE, processes=2)

    assert [held.take(MEGABYTE) for _ in range(34)] == [True] * 32 + [False] * 2
    assert held.take(0)
    assert not held.take(1)
    held.free(MEGABYTE)
    assert held.take(MEGABYTE // 2)
    assert held.take(MEGABYTE // 2)
    assert not held.may_take(1)


def test_every_process_has_room_for_the_largest() -> None:
    """Who allows larger messages gets what that takes, and work goes on side by side."""
    held = Held(50 * MEGABYTE, processes=3)

    assert [held.take(50 * MEGABYTE) for _ in range(4)] == [True, True, True, False]


def test_one_that_is_too_large_is_held_at_a_time() -> None:
    """It is there to be buried, whatever else is held."""
    held = Held(MEGABYTE, processes=1)
    for _ in range(32):
        held.take(MEGABYTE)

    assert held.take(60 * MEGABYTE)
    assert not held.take(MEGABYTE + 1)
    held.free(60 * MEGABYTE)
    assert held.take(MEGABYTE + 1)
    assert not held.may_take(1)
