"""What a plan consists of, and what it is made from: what the broker has, as values."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Kind(enum.Enum):
    """What it takes to do away with a difference."""

    ADDITIVE = "additive"
    """It is missing, and is declared."""
    IN_PLACE = "in place"
    """It changes by declaring, or by other bindings."""
    RECREATE = "recreate"
    """It is made anew, with what is in it."""
    LEFT_OVER = "left over"
    """Nothing of ours uses it any more; it goes with `--prune`."""
    CANNOT = "cannot"
    """Somebody has to do it by hand."""


class Difference(NamedTuple):
    """One object that is not on the broker as the code has it.

    `object` is exchange, queue, binding, limit or policy; `work_queue` is empty for what all share. `why` is what
    differs, and of what somebody has to do by hand, also how.
    """

    kind: Kind
    object: str
    name: str
    why: str
    work_queue: str = ""


class Seen(NamedTuple):
    """What a virtual host has, as the management API describes it."""

    exchanges: Mapping[str, Mapping[str, Any]]
    queues: Mapping[str, Mapping[str, Any]]
    bindings: Sequence[Mapping[str, Any]]


class Plan(NamedTuple):
    """What differs. `unseen` says what could not be looked at, and which right would show it; empty where all was."""

    differences: Sequence[Difference]
    unseen: str = ""
