"""Checks of the broker's nodes: do they run, do they see each other, have they memory and disk?"""

from __future__ import annotations

from collections.abc import Iterator

from leveret.producers.doctor.facts import Facts, NodeFacts
from leveret.producers.doctor.finding import Finding, fail, ok, quoted, some, warn

_MUCH_MEMORY = 0.8
_LITTLE_DISK = 2
"""Times the limit at which the disk alarm comes."""
_MEBIBYTE = 1024 * 1024


def nodes(facts: Facts) -> Iterator[Finding]:
    """Say which nodes have an alarm, run out of memory or disk, or are not there."""
    found = facts.management.nodes
    if facts.is_blocked and not any(one.memory_alarm or one.disk_alarm for one in found or ()):
        what = "the broker takes no messages: a memory or disk alarm is on"
        yield fail("alarm", what, "free memory or disk on its node; to see which:", "rabbitmq-diagnostics alarms")
    if found is None:
        return
    bad = [finding for node in found for finding in _of_node(node)]
    yield from bad
    if not bad and not facts.is_blocked:
        memory = max((one.memory_bytes / (one.memory_limit_bytes or 1) for one in found), default=0.0)
        free = min((one.disk_free_bytes for one in found), default=0)
        # a node that has just started has not counted yet
        counted = f"; memory {memory:.0%} of its limit, disk {_mebibytes(free)} free" if free else ""
        yield ok("nodes", f"{len(found)} node(s) without alarm{counted}")


def _of_node(node: NodeFacts) -> Iterator[Finding]:
    about = f"node {node.name}"
    if not node.is_running:
        yield fail(about, "does not run", "start it; on its machine:", "systemctl start rabbitmq-server")
        return
    used, limit = _mebibytes(node.memory_bytes), _mebibytes(node.memory_limit_bytes)
    free, least = _mebibytes(node.disk_free_bytes), _mebibytes(node.disk_limit_bytes)
    see_memory = f"rabbitmq-diagnostics -n {quoted(node.name)} memory_breakdown"
    if node.memory_alarm:
        what = f"memory alarm: {used} used, limit {limit}; nobody can submit, and workers can bury nothing"
        yield fail(
            about, what, "let workers drain the queues, or raise vm_memory_high_watermark; what takes it:", see_memory
        )
    elif node.memory_limit_bytes and node.memory_bytes > _MUCH_MEMORY * node.memory_limit_bytes:
        yield warn(about, f"memory: {used} used, and the alarm comes at {limit}", "what takes it:", see_memory)
    if node.disk_alarm:
        what = f"disk alarm: {free} free, limit {least}; nobody can submit, and workers can bury nothing"
        yield fail(about, what, "free its disk; work goes on by itself then")
    elif node.disk_limit_bytes and node.disk_free_bytes < _LITTLE_DISK * node.disk_limit_bytes:
        yield warn(about, f"disk: {free} free, and the alarm comes at {least}", "free its disk")
    if node.partitions:
        what = f"sees no more of: {some(node.partitions)}; each side goes on by itself"
        yield fail(about, what, "mend the network, then restart the smaller side")


def _mebibytes(count: int) -> str:
    return f"{count / _MEBIBYTE:,.0f} MiB"


CHECKS = (nodes,)
"""In the order in which their findings are shown."""
