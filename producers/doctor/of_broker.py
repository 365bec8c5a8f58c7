"""Checks of the broker: is it there, which is it, what may this user do?"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence

from leveret.producers.doctor.facts import ADMINISTRATOR, CLOCK, FLAGS, MONITORING, RIGHTS, Facts
from leveret.producers.doctor.finding import Finding, fail, ok, quoted, some, unknown, warn
from leveret.topology import names
from leveret.topology.access.rights import ROLES, Rights, rights_of
from leveret.topology.ladder import ENTRANCES, WHOLE
from leveret.topology.objects import RECORD, Table, control_streams, objects_of, shared_exchanges
from leveret.topology.queues import WorkQueue
from leveret.topology.schedules import SCHEDULES

_LEAST_VERSION = (3, 10)
_FIRST_WITHOUT = {
    (4, 0): "a client's forged x-death header can stop all dead-lettering of the node, and a queue that is deleted and "
    "declared again at once keeps its former consumers",
}
"""The version from which on something is mended that every earlier one has."""
_BAD_FROM_TO = {((4, 3, 0), (4, 3, 5)): "dead letters can be stuck after a change of members, or a restart"}
_CLOCKS_DIFFER_SECONDS = 5.0
_CERTIFICATE_DAYS = 30
_DAY_SECONDS = 86_400


def broker(facts: Facts) -> Iterator[Finding]:
    """Say whether it lets us in, and how far away it is."""
    if facts.cannot_connect:
        yield fail("broker", facts.cannot_connect)
    else:
        version = f", RabbitMQ {_spell(facts.version)}" if facts.version else ""
        yield ok("broker", f"{facts.broker}{version}, {facts.connect_seconds * 1000:.0f} ms to connect")


def management(facts: Facts) -> Iterator[Finding]:
    """Say what the management API did not tell, and what it would take."""
    seen = facts.management
    reasons: dict[str, list[str]] = {}
    for what, why in seen.unanswered.items():
        reasons.setdefault(why.partition(" (GET")[0], []).append(what)
    for missing in reasons.values():
        yield unknown("management", f"not known: {', '.join(missing)}", seen.unanswered[missing[0]])
    hidden = [what for what, tag in seen.refused.items() if tag == MONITORING]
    if hidden:
        advice = "check its password, or " if CLOCK in seen.refused else ""
        advice += "set MANAGEMENT_URL to a user who may, or give this one the tag:"
        command = f"rabbitmqctl set_user_tags {quoted(seen.user)} {MONITORING}"
        yield unknown("management", f"user {seen.user!r} may not see: {', '.join(hidden)}", advice, command)
    hidden = [what for what, tag in seen.refused.items() if tag == ADMINISTRATOR]
    if hidden:
        what = f"only a user with the tag administrator may see: {', '.join(hidden)}"
        yield unknown("management", what, "set MANAGEMENT_URL to one, if that matters")


def version(facts: Facts) -> Iterator[Finding]:
    """Say what is known to be bad of this version."""
    found = facts.version
    if facts.cannot_connect:
        return
    if not found:
        yield unknown("version", "the broker does not say which version it is")
        return
    if found < _LEAST_VERSION:
        what = f"RabbitMQ {_spell(found)} has no dead-lettering that keeps every message"
        yield fail("version", what, "upgrade to 4.3.5 or later")
        return
    bad = [what for mended, what in _FIRST_WITHOUT.items() if found < mended]
    bad += [what for (first, end), what in _BAD_FROM_TO.items() if first <= found < end]
    if bad:
        yield warn("version", f"RabbitMQ {_spell(found)}: {'; '.join(bad)}", "upgrade to 4.3.5 or later")
    else:
        yield ok("version", f"RabbitMQ {_spell(found)} has no bug that is known here")


def feature_flags(facts: Facts) -> Iterator[Finding]:
    """Say which are off: RabbitMQ's next version may refuse to start without them."""
    flags = facts.management.flags
    if flags is None:
        return
    off = sorted(name for name, state in flags.items() if state == "disabled")
    if off:
        what = f"{len(off)} off, without which a later RabbitMQ may not start: {some(off)}"
        yield warn(FLAGS, what, command="rabbitmqctl enable_feature_flag all")
    else:
        yield ok(FLAGS, f"all {len(flags)} stable ones are on")


def permissions(facts: Facts) -> Iterator[Finding]:
    """Say the work of which roles this user may do with the queues of the task modules."""
    seen = facts.management
    if seen.rights is None:
        if RIGHTS not in (*seen.unanswered, *seen.refused):
            yield unknown(RIGHTS, f"user {facts.user!r} has rights that RabbitMQ itself does not keep")
        return
    if not facts.known:
        yield unknown(
            RIGHTS, "whether they suffice depends on the queues", "name the module that defines them: -a MODULE"
        )
        return
    try:
        lacks = {role: _lacking(role, facts.known, seen.rights) for role in ROLES}
    except re.error as error:
        yield unknown(RIGHTS, f"user {facts.user!r} has a pattern that cannot be read here: {error}")
        return
    may = [role for role, lacking in lacks.items() if not lacking]
    if may:
        yield ok(RIGHTS, f"user {facts.user!r} may do the work of: {', '.join(may)}")
        return
    nearest = min(ROLES, key=lambda role: len(lacks[role]))
    what = f"user {facts.user!r} may do the work of no role; as {nearest} it lacks: {some(lacks[nearest])}"
    command = f"leveret users -a MODULE --role {nearest}"
    yield warn(
        RIGHTS, what, "give it the rights that leveret users --dry-run shows, or take the user that it makes:", command
    )


def _lacking(role: str, queues: Sequence[WorkQueue], has: Rights) -> list[str]:
    needed = rights_of(role, queues)
    return [
        f"{kind} {name}"
        for kind in Rights._fields
        for name in _names(queues)
        if re.search(getattr(needed, kind), name) and not re.search(getattr(has, kind), name)
    ]


def _names(queues: Iterable[WorkQueue]) -> Iterator[str]:
    """Yield the names of what may be needed; of what gets a new name each time, one such."""
    tables: list[Table] = [shared_exchanges(), control_streams(), RECORD, SCHEDULES, *map(objects_of, queues)]
    found = [exchange.name for table in tables for exchange in table.exchanges]
    found += [queue.name for table in tables for queue in table.queues]
    yield from dict.fromkeys([*found, *ENTRANCES, WHOLE, f"{names.REPLY_PREFIX}0", f"{names.WORKER_PREFIX}0"])


def certificate(facts: Facts) -> Iterator[Finding]:
    """Say when the broker's certificate is over; one that is over already does not let us in."""
    if facts.certificate_ends is None:
        return
    days = int((facts.certificate_ends - facts.at) // _DAY_SECONDS)
    until = time.strftime("%Y-%m-%d", time.gmtime(facts.certificate_ends))
    if days < _CERTIFICATE_DAYS:
        yield warn(
            "certificate", f"the broker's is over in {days} day(s), on {until}", "renew it before nobody gets in"
        )
    else:
        yield ok("certificate", f"the broker's is good until {until}")


def clock(facts: Facts) -> Iterator[Finding]:
    """Say whether the broker's clock and this machine's agree: delays, cancels and ages go by them."""
    off = facts.management.clock_off_seconds
    if off is None:
        return
    if abs(off) > _CLOCKS_DIFFER_SECONDS:
        way = "ahead of" if off > 0 else "behind"
        what = f"the broker's is {abs(off):.0f} s or more {way} this machine's; delays, cancels and ages go by clocks"
        yield warn(CLOCK, what, "set both by NTP:", "timedatectl set-ntp true")
    else:
        yield ok(CLOCK, "the broker's agrees with this machine's")


def _spell(numbers: Iterable[int]) -> str:
    return ".".join(map(str, numbers))


CHECKS = (broker, management, version, feature_flags, permissions, certificate, clock)
"""In the order in which their findings are shown."""
