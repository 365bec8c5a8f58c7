"""Gates: may a delivery that has come begin now?"""

from __future__ import annotations

import enum
from collections.abc import Callable

from leveret.consumers.settling.delivery import Delivery


class Answer(enum.Enum):
    """What a gate says."""

    BEGIN = enum.auto()
    """As soon as a child is free."""
    LATER = enum.auto()
    """It stays in the backlog until the gate lets it go."""
    NEVER = enum.auto()
    """It is settled, or will be, without running."""


Gate = Callable[[Delivery], Answer]
"""Asked once for each delivery that comes, so it has to be quick."""
