"""What goes into the record of tasks, as the setting RECORD says: gates that change who follows a delivery.

By default there is none, and a delivery is followed as its message and its task say.
"""

from __future__ import annotations

from leveret.consumers.settling.delivery import Delivery
from leveret.consumers.settling.gate import Answer, Gate
from leveret.topology.names import RECORD_QUEUE


def gates_of(record: str) -> tuple[Gate, ...]:
    """Return the gates for a value of the setting."""
    return {"all": (_follow,), "off": (_leave,)}.get(record, ())


def _follow(delivery: Delivery) -> Answer:
    """Have it followed, whatever its message says."""
    if not delivery.reply_to:
        delivery.reply_to = RECORD_QUEUE
    return Answer.BEGIN


def _leave(delivery: Delivery) -> Answer:
    """Do not follow it for the record alone."""
    if delivery.reply_to == RECORD_QUEUE:
        delivery.reply_to = ""
    return Answer.BEGIN
