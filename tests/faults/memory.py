"""Little memory for some processes, as on a machine that has none left: a control group of Linux."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.broker.support import await_value

SIZE_BYTES = 64 * 1024 * 1024
_GROUPS = Path("/sys/fs/cgroup")
# Where version 1 and version 2 have groups for memory, and how they call the limits of memory and of swap.
_KINDS = (
    (_GROUPS / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    (_GROUPS, "memory.max", "memory.swap.max"),
)


@contextmanager
def little_memory() -> Iterator[Path | None]:
    """Yield a group; a process that joins it and needs more than `SIZE_BYTES` is killed by the kernel.

    None where this user or machine lets us make no group. All in the group must have ended when the block does.
    """
    group = _make_group()
    yield group
    if group:
        await_value(lambda: not (group / "cgroup.procs").read_text(), f"the processes in {group} to end")
        group.rmdir()


def _make_group() -> Path | None:
    for place, memory, swap in _KINDS:
        if not (place / "cgroup.procs").exists():
            continue
        group = place / f"leveret-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / memory).write_text(str(SIZE_BYTES))
            if (group / swap).exists():
                (group / swap).write_text(str(SIZE_BYTES if swap.startswith("memory.memsw") else 0))
        except OSError:
            group.rmdir()
        else:
            return group
    return None
