"""A row of the matrix, and the result of one run of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.stage import Stage


class Need(enum.Enum):
    """What a row cannot run without."""

    NODES = "control over the node"
    CLUSTER = "three nodes"


@dataclass(frozen=True)
class Row:
    """One fault. `run` submits, works and breaks; what became of every message is judged for it afterwards."""

    number: int
    name: str
    injected: str
    """What is broken, in a few words."""
    bound: str
    """What limits the duplicates, in words."""
    run: Callable[[Stage], None]
    most_duplicates: Callable[[Stage], int] = lambda _stage: 0
    """What limits the duplicates, as the number for one run; it is called after everything has come to rest."""
    needs: frozenset[Need] = frozenset()
    alone: bool = False
    """Whether it touches its whole node (kills it, sets an alarm or a timeout), so that nothing else may run there."""
    afterwards: Callable[[Stage], None] = lambda _stage: None
    """What else has to hold when everything has come to rest; notes problems."""
    patience_seconds: float = 60.0
    """How long to wait, after the fault, for every message to be executed or parked."""

    @property
    def is_alone(self) -> bool:
        """Whether nothing else may run on its node meanwhile."""
        return self.alone or bool(self.needs)

    @property
    def is_clustered(self) -> bool:
        """Whether it runs on a cluster."""
        return Need.CLUSTER in self.needs


@dataclass
class Result:
    """What one run of one row came to."""

    row: str
    version: str
    seed: int
    folder: Path
    confirmed: int = 0
    unknown: int = 0
    parked: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: int = 0
    bound: int = 0
    recovery_seconds: float | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Nothing lost, and nothing else that a user would complain about."""
        return not self.lost and not self.problems
