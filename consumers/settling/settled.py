"""What was settled, for those who look on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from leveret.consumers.child.outcome import Outcome
from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.verdict import Verdict


class Settled(NamedTuple):
    """A delivery with its outcome and the verdict; None where the link it came by is gone, and it comes again."""

    delivery: Delivery
    outcome: Outcome
    verdict: Verdict | None


Observer = Callable[[Sequence[Settled]], None]
"""Is told what one turn of the loop has settled; what it raises has no consequence."""
