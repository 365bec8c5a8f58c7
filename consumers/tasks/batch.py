"""Batches: how many calls of a task are run together, and how long the first of them waits for the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leveret.topology.errors import TaskModuleError

LARGEST_BATCH = 10_000


@dataclass(frozen=True)
class Batch:
    """At most `size` calls at once; the first waits at most `within_seconds` for those that follow.

    Raises `TaskModuleError` for a size that is no number from 1 to 10,000, and for seconds that are not more than 0.
    """

    size: int
    within_seconds: float

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= LARGEST_BATCH:
            raise TaskModuleError(
                f"a batch of {self.size!r} calls is not possible; give a number from 1 to {LARGEST_BATCH:,}"
            )
        is_number = isinstance(self.within_seconds, (int, float)) and not isinstance(self.within_seconds, bool)
        if not is_number or not 0 < self.within_seconds < math.inf:
            raise TaskModuleError(
                f"a batch within {self.within_seconds!r} seconds is not possible; give seconds, more than 0"
            )
