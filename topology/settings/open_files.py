"""Files that decide about secrets, and others of this machine may change or read: their user is warned, once."""

from __future__ import annotations

import functools
import logging
import os
import stat
from pathlib import Path

_GROUP_AND_OTHERS, _OTHERS = 0o077, 0o007
_WRITE, _ALL = 0o222, 0o777


def warn_if_changeable(name: str, file: int) -> None:
    """Warn of an open settings file that others may write: it can name other tasks, and another broker."""
    info = os.fstat(file)
    if info.st_uid not in (0, os.geteuid()):
        _warn(
            f"{name} belongs to user {info.st_uid}, who can change what this program runs",
            f"chown {os.geteuid()}",
            name,
        )
    elif open_bits(info, _WRITE):
        _warn(f"{name} may be written by others, who can change what this program runs", "chmod go-w", name)


def warn_if_readable(name: str, path: str) -> None:
    """Warn of the file of a private key that others may read."""
    if open_bits(Path(path).stat(), _ALL):
        _warn(f"{name} {path} holds a private key, and may be read by others", "chmod go=", path)


def open_bits(info: os.stat_result, wanted: int) -> int:
    """Return which of the wanted rights somebody has who is neither the owner nor chosen by root.

    A group of the owner's own number is the owner alone, as most systems set up, with a umask that lets it write.
    """
    is_trusted_group = info.st_uid == 0 or info.st_gid == info.st_uid
    return stat.S_IMODE(info.st_mode) & wanted & (_OTHERS if is_trusted_group else _GROUP_AND_OTHERS)


@functools.cache
def _warn(problem: str, cure: str, path: str) -> None:
    logging.getLogger("leveret").warning("%s; cure it: %s %s", problem, cure, path)
