"""How much memory a worker and its processes hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_MOST_READ = 16
"""More processes are not read, for each takes the system up to a millisecond in which the worker does nothing else."""
_PSS = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


def held_bytes(processes: Sequence[int]) -> int | None:
    """Return what processes hold in RAM together, pages that several share counted once; None where it cannot be read.

    Of many processes only some are read, and the others taken to be like them.
    """
    shares = [share for process in processes[:_MOST_READ] if (share := _proportional_bytes(process)) is not None]
    return sum(shares) * len(processes) // len(shares) if shares else None


def _proportional_bytes(process: int) -> int | None:
    try:
        found = _PSS.search(Path(f"/proc/{process}/smaps_rollup").read_bytes())
    except OSError:  # it has ended, or this is not Linux
        return None
    return int(found[1]) * 1024 if found else None
