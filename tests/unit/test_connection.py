"""Connecting: the pauses between tries, of which the rest is tested against a broker."""

from __future__ import annotations

from topology.connection import backoff_seconds


def test_pauses_grow_to_a_second() -> None:
    """The first are short, none is longer than a second, however often it has failed."""
    for failed_tries, longest in ((0, 0.1), (1, 0.2), (3, 0.8), (4, 1.0), (10_000, 1.0)):
        pauses = [backoff_seconds(failed_tries) for _ in range(200)]
        assert longest / 2 <= min(pauses) <= max(pauses) <= longest


def test_many_do_not_try_at_the_same_moment() -> None:
    """The pauses of many that failed equally often spread over half of the time."""
    pauses = [backoff_seconds(9) for _ in range(1000)]

    assert max(pauses) - min(pauses) > 0.3
    assert len(set(pauses)) > 900
