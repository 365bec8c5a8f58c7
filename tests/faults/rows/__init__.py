"""The rows of the matrix."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.row import Row
from tests.faults.rows import (
    applying,
    around_in_cluster,
    attacks,
    batches,
    cancelling,
    cluster,
    confirms,
    dead,
    elastic,
    following,
    following_in_cluster,
    later,
    limits,
    link,
    messages,
    nodes,
    poison,
    priorities,
    processes,
    progress,
    queues,
    recording,
    schedules,
    side_by_side,
    storm,
    tokens,
    unique,
)

ROWS: Sequence[Row] = sorted(
    (
        row
        for part in (
            processes,
            queues,
            messages,
            poison,
            priorities,
            limits,
            confirms,
            storm,
            link,
            nodes,
            cluster,
            attacks,
            side_by_side,
            cancelling,
            elastic,
            progress,
            following,
            following_in_cluster,
            recording,
            schedules,
            tokens,
            later,
            batches,
            unique,
            dead,
            applying,
            around_in_cluster,
        )
        for row in part.ROWS
    ),
    key=lambda row: row.number,
)


def find(wanted: Sequence[str]) -> list[Row]:
    """Return the rows with these numbers or names, all without any. Raises `ValueError` for one that is not there."""
    for one in wanted:
        if not any(one in (str(row.number), row.name) for row in ROWS):
            raise ValueError(f"there is no row {one!r}; --list prints them")
    return [row for row in ROWS if not wanted or str(row.number) in wanted or row.name in wanted]
