"""Making a plan, and the tables it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leveret.topology import queues, settings
from leveret.topology.errors import AccessRefused, BrokerError
from leveret.topology.ladder import WHOLE, ladder
from leveret.topology.link.default_broker import resolve
from leveret.topology.objects import RECORD, Table, control_streams, objects_of, shared_exchanges
from leveret.topology.plan.comparing import compare
from leveret.topology.plan.difference import Plan, Seen
from leveret.topology.plan.limiting import left_over_limits, look_at_limits
from leveret.topology.plan.seeing import look, look_by_amqp, why_unseen
from leveret.topology.schedules import SCHEDULES
from leveret.topology.settings import Settings


def plan(configured: Settings | None = None, work_queues: Iterable[queues.WorkQueue] | None = None) -> Plan:
    """Compare these work queues, by default all of this program, with what the broker has; nothing is changed.

    What only some use (delays, schedules, the record) is compared where it is there. Without the management API, or
    the right to use it, the plan says what could not be seen. Raises `BrokerUnreachable` or `AccessRefused` when the
    broker cannot be asked at all.
    """
    settings_used = configured or resolve(settings.load())
    found = queues.known() if work_queues is None else tuple(work_queues)
    try:
        seen = look(settings_used)
    except BrokerError as error:
        tables = [("", shared_exchanges()), *((queue.name, objects_of(queue)) for queue in found)]
        of_limits, why = look_at_limits(settings_used, found)
        unseen = "; ".join(filter(None, (why_unseen(error), why)))
        return Plan([*look_by_amqp(settings_used, tables), *of_limits], unseen)
    return differences(settings_used, found, seen)


def differences(configured: Settings, work_queues: Sequence[queues.WorkQueue], seen: Seen) -> Plan:
    """Return what differs, where all that the management API shows was seen. Raises `BrokerUnreachable`."""
    of_limits, why = look_at_limits(configured, work_queues)
    found = compare(work_queues, shared_tables(seen), seen)
    return Plan([*found, *of_limits, *left_over_limits(work_queues, seen)], why)


def shared_tables(seen: Seen) -> list[Table]:
    """Return the tables of what all work queues share: what every program has, and of the rest what is there."""
    tables = [shared_exchanges(), control_streams()]
    if WHOLE in seen.exchanges:
        tables.append(ladder())
    for table in (SCHEDULES, RECORD):
        if table.queues[0].name in seen.queues:
            tables.append(table)
    return tables


def seen_or_refused(configured: Settings) -> Seen:
    """Return what the broker has. Raises `AccessRefused` that says why applying needs that."""
    try:
        return look(configured)
    except BrokerError as error:
        raise AccessRefused(
            f"leveret apply needs the management API, to see what leads to a queue and whether somebody holds a "
            f"message of it: {error}"
        ) from error
